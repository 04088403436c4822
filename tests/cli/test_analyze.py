"""``centermask-solo analyze``: the table, the page and the json."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from centermask_solo.cli import main
from centermask_solo.inference.analysis import _short_names
from tests.commands import fails
from tests.evaluation.scenes import SIDE, Scene, random_scene

BOX = (10, 10, 20, 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene with its images, and results of another model."""
    folder = tmp_path_factory.mktemp("analyze")
    scene = random_scene(folder)
    rng = np.random.default_rng(0)
    for x in scene.content["images"]:
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / x["file_name"])
    others = [x | {"score": 0.1 if i % 3 else x["score"]} for i, x in enumerate(scene.results)]
    (folder / "others.json").write_text(json.dumps(others))
    return folder


def words(folder, *results):
    files = [str(folder / x) for x in results]
    return ["analyze", *files, "--ground-truth", str(folder / "gt.json"), "--images", str(folder)]


def test_one_model(folder, tmp_path, capsys):
    page, numbers = tmp_path / "report.html", tmp_path / "numbers.json"
    argv = [*words(folder, "results.json"), "--output", str(page), "--json", str(numbers), "--pictures", "3"]
    main(argv)
    out = capsys.readouterr().out
    found = json.loads(numbers.read_text())
    assert re.search(rf"^all +\d+ +{found['AP']['value']:.1f} ", out, re.MULTILINE) and str(page) in out
    assert found["AP"]["low"] <= found["AP"]["value"] <= found["AP"]["high"]
    assert found["boundary_AP"] <= found["AP"]["value"]
    assert [x["name"] for x in found["classes"]] == ["cat", "dog", "cow"]
    assert found["classes"][2]["objects"] == 0 and found["classes"][2]["ap"] is None
    assert found["oracles"]["true classes and masks"] >= found["oracles"]["true boxes"] >= found["AP"]["value"]
    assert (
        "AP with perfect parts: true classes " in out and f", true boxes {found['oracles']['true boxes']:.1f}," in out
    )
    dog = found["classes"][1]
    figures = [dog["objects"], *(f"{dog[x]:.1f}" for x in ("ap", "ap50", "ap75", "recall"))]
    assert ["dog", *map(str, figures)] in [line.split() for line in out.splitlines()]
    assert len(found["confusion"]["counts"]) == 4 and len(found["precision_at_recall"]["cat"]) == 101
    assert sum(found["errors"]["counts"].values()) > 0 and found["confident_mistakes"][0]["kind"]
    text = page.read_text()
    assert "<td>true boxes</td>" in text
    for heading in ("Average precision", "Classes", "Errors", "Scores", "Confusion of classes", "Worst images"):
        assert f"<h2>{heading}</h2>" in text
    places = [text.index(x) for x in ("Errors</figcaption>", "<h2>What perfect", "<h2>Scores")]
    assert places == sorted(places)
    assert len(re.findall(r"data:image/jpeg;base64,", text)) == 6 and "data:image/png;base64," in text
    assert not re.search(r'(src|href)=(?!"data:)', text)  # nothing else is loaded
    code, text = fails(capsys, *argv)
    assert (code, text.count("\n")) == (2, 1) and "exists already" in text
    again = [*words(folder, "results.json"), "--json", str(numbers), "--overwrite"]
    main([*again, "--boxes", "--score-threshold", "0.5"])
    boxes = json.loads(numbers.read_text())
    assert boxes["iou_type"] == "bbox" and boxes["boundary_AP"] is None and boxes["score_threshold"] == 0.5
    assert "true boxes" in boxes["oracles"] and "true masks" not in boxes["oracles"]


def test_a_terminal_shows_the_classes_that_matter_most(tmp_path, capsys):
    """The 20 with the lowest AP, or that differ most."""
    names = [f"class {k}" for k in range(25)]
    objects = [(0, k, BOX) for k in range(25)]
    scene = Scene(tmp_path, objects, [(0, k, BOX, 0.9) for k in range(1, 25)], classes=names)
    argv = ["analyze", str(scene.results_file), "--ground-truth", str(scene.json_file)]
    main(argv)
    out = capsys.readouterr().out
    rows = re.findall(r"^class +(\d+) ", out, re.MULTILINE)
    assert rows == [str(k) for k in range(20)]
    assert "The 20 of 25 classes with the lowest AP; --output and --json have all." in out
    (tmp_path / "other.json").write_text(json.dumps(scene.results[:-1]))
    main(["analyze", str(tmp_path / "other.json"), *argv[1:]])
    out = capsys.readouterr().out
    assert re.findall(r"^class +(\d+) ", out, re.MULTILINE)[0] == "24"
    assert "The 20 of 25 classes that differ most; --output and --json have all." in out


def test_two_models(folder, tmp_path, capsys):
    page, numbers = tmp_path / "difference.html", tmp_path / "numbers.json"
    argv = [*words(folder, "results.json", "others.json"), "--output", str(page), "--json", str(numbers)]
    main([*argv, "--pictures", "2"])
    out = capsys.readouterr().out
    found = json.loads(numbers.read_text())
    difference = found["second"]["AP"]["value"] - found["first"]["AP"]["value"]
    assert found["AP_difference"]["value"] == pytest.approx(difference, abs=1e-3)
    assert found["AP_difference"]["low"] < found["AP_difference"]["high"]
    assert f"difference {difference:+.1f}, 95 % interval" in out
    text = page.read_text()
    assert "<h2>Difference</h2>" in text and "<h2>Images that differ most</h2>" in text
    assert len(re.findall(r"data:image/jpeg;base64,", text)) == 2


def test_the_same_results_do_not_differ(folder, tmp_path):
    numbers = tmp_path / "numbers.json"
    main([*words(folder, "results.json", "results.json"), "--json", str(numbers)])
    difference = json.loads(numbers.read_text())["AP_difference"]
    assert difference == {"value": 0, "low": 0, "high": 0}


def test_without_images_there_are_no_pictures(folder, tmp_path):
    page = tmp_path / "report.html"
    main([*words(folder, "results.json")[:-2], "--output", str(page)])
    assert "Worst images" not in page.read_text() and "data:image/png" in page.read_text()


@pytest.mark.parametrize("objects, detections", [([], [(0, 0, BOX, 0.5)]), ([(0, 0, BOX)], []), ([], [])])
def test_without_objects_or_detections(tmp_path, objects, detections, capsys):
    scene = Scene(tmp_path, objects, detections, 2)
    argv = ["analyze", str(scene.results_file), "--ground-truth", str(scene.json_file)]
    main([*argv, "--output", str(tmp_path / "page.html"), "--json", str(tmp_path / "numbers.json")])
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["AP"]["value"] == (0 if objects else None)
    text = capsys.readouterr().out + (tmp_path / "page.html").read_text()
    assert ("which does not exist without objects" in text) == (not objects) and "AP nan" not in text
    empty = 2 if objects or detections else 3
    assert f"{empty} more classes have neither objects nor detections." in text
    assert "No object is taken for one of another class." in text
    main([*argv[:2], *argv[1:], "--output", str(tmp_path / "two.html")])


def test_wrong_input_ends_in_one_line(folder, tmp_path, capsys):
    one, page = words(folder, "results.json"), str(tmp_path / "x.html")
    tries = {
        "3 results files": words(folder, *["results.json"] * 3),
        "is an input": [*one, "--json", str(folder / "results.json"), "--overwrite"],
        "does not have the extension of a page": [*one, "--output", str(tmp_path / "page.png")],
        "choose another name for one of them": [*one, *("--output", page, "--json", page)],
        "images are missing": [*one[:-1], str(tmp_path), "--output", str(tmp_path / "page.html")],
        "'nothing' is not registered": [*one[:2], "--dataset", "nothing"],
        "is missing": words(folder, "absent.json"),
        "--pictures are on the page, which --output names": [*one, "--pictures", "3"],
    }
    for message, argv in tries.items():
        code, text = fails(capsys, *argv)
        assert code == 2 and text.startswith("error: ") and text.count("\n") == 1 and message in text, text
    assert not list(tmp_path.iterdir())


def test_images_outside_of_the_folder_are_refused(folder, tmp_path, capsys):
    content = json.loads((folder / "gt.json").read_text())
    content["images"][0]["file_name"] = "../secret.png"
    (tmp_path / "gt.json").write_text(json.dumps(content))
    argv = ["analyze", str(folder / "results.json"), "--ground-truth", str(tmp_path / "gt.json")]
    code, text = fails(capsys, *argv, "--images", str(folder), "--output", str(tmp_path / "page.html"))
    assert code == 2 and "is outside of" in text


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/b/results.json"], ["results.json"]),
        (["before.json", "old/after.json"], ["before.json", "after.json"]),
        (["eval/inference/val/results.json", "tta/inference/val/results.json"], ["eval", "tta"]),
        (["/results.json", "/a/results.json"], ["/", "a"]),
        (["results.json", "results.json"], ["results.json", "results.json"]),
    ],
)
def test_names_on_the_page_are_what_tells_the_files_apart(paths, names):
    assert _short_names(paths) == names
