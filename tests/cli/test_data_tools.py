"""``centermask-solo data convert``, ``split``, ``merge`` and ``subset`` as programs run them."""

import json

import pytest

from centermask_solo.cli import main
from tests.data.tools import sets


def run(capsys, *words):
    """Return the exit code and the two outputs of a command."""
    try:
        main(["data", *map(str, words)])
        code = 0
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_summaries_in_json(tmp_path, capsys, caplog):
    json_file, images = sets.write(tmp_path)
    code, out, _ = run(
        capsys, "convert", "--from", json_file, "--images", images, "--to", "yolo", tmp_path / "yolo", "--json"
    )
    found = json.loads(out)
    assert code == 0 and (found["images"], found["objects"], found["source_format"]) == (3, 5, "coco")
    assert found["lost"]["crowd regions (left out)"] == 1
    assert len(caplog.messages) == 1
    assert "yolo cannot hold everything: crowd regions (left out): 1, " in caplog.messages[0]
    code, out, _ = run(capsys, "split", json_file, "--output", tmp_path, "--ratios", "a=2", "b=1", "--json")
    assert code == 0 and {name: x["images"] for name, x in json.loads(out).items()} == {"a": 2, "b": 1}
    parts = [tmp_path / "a.json", tmp_path / "b.json"]
    code, out, _ = run(capsys, "merge", *parts, "--output", tmp_path / "all.json", "--json")
    assert code == 0 and json.loads(out)["objects"] == 5
    code, out, _ = run(capsys, "subset", json_file, "--output", tmp_path / "c.json", "--classes", "person", "--json")
    assert code == 0 and json.loads(out)["objects_of_class"] == {"person": 2}


def test_counts_of_what_maps_lose_are_in_the_summary(tmp_path, capsys):
    square, inside = [[2, 2, 20, 2, 20, 20, 2, 20]], [[5, 5, 9, 5, 9, 9, 5, 9]]
    json_file, images = sets.write(tmp_path, sets.content([(square, 1, 0, 1), (inside, 3, 0, 1)]))
    code, out, _ = run(
        capsys, "convert", "--from", json_file, "--images", images, "--to", "voc", tmp_path / "voc", "--json"
    )
    lost = {"objects partly under others (only what is visible remains)": 1}
    assert code == 0 and json.loads(out)["lost"] == lost


def test_sentences(tmp_path, capsys):
    json_file, images = sets.write(tmp_path)
    code, out, _ = run(
        capsys, "convert", "--from", "coco", json_file, "--images", images, "--to", "labelme", tmp_path / "there"
    )
    assert code == 0 and out.startswith("3 images, 5 objects, 3 classes: coco to labelme, in ")
    code, out, _ = run(capsys, "split", json_file, "--output", tmp_path)
    assert code == 0 and "train.json: 2 images, " in out and "val.json: 1 image, " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["convert", "--from", "{json}", "--to", "nothing", "{out}"], "the format 'nothing' is unknown"),
        (["convert", "--from", "a", "b", "c", "--to", "yolo", "{out}"], "quote paths with spaces"),
        (["convert", "--from", "{out}", "--to", "yolo", "{out}"], "is missing"),
        (
            ["convert", "--from", "{json}", "--images", "zebra", "--to", "yolo", "{out}"],
            "images, does not exist: correct",
        ),
        (["split", "{json}", "--output", "{out}", "--ratios", "a=1"], "at least two parts"),
        (["split", "{json}", "--output", "{out}", "--group-by", "("], "is not a regular expression"),
        (["split", "{json}", "--output", "{out}", "--group-by", "zebra"], "--group-by zebra matches no file_name"),
        (["split", "{json}", "--output", "{out}", "--ratios", "a=1", "a=1", "b=1"], "names a part twice"),
        (["merge", "{json}", "--output", "{out}.json"], "at least two files"),
        (["merge", "{json}", "{json}", "--join", "--output", "{out}.json"], "is given twice"),
        (["subset", "{json}", "--output", "{json}"], "is an input"),
        (["subset", "{json}", "--output", "{out}.json", "--count", "9"], "only 3 images for --count"),
        (["subset", "{json}", "--output", "{out}.json", "--images", "zebra"], "fits: correct --images"),
        (["subset", "{json}", "--output", "{out}.json", "--classes", "zebra"], "no class 'zebra': choose from "),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, words, message):
    json_file, _ = sets.write(tmp_path)
    names = {"json": json_file, "out": str(tmp_path / "out")}
    code, out, err = run(capsys, *(x.format(**names) for x in words))
    assert code == 2 and not out and message in err and err.count("\n") == 1 and err.startswith("error: ")


def test_classes_may_have_spaces_around_them_and_seeds_are_not_negative(tmp_path, capsys):
    json_file, _ = sets.write(tmp_path)
    names = [x["name"] for x in sets.content()["categories"]][:2]
    code, out, _ = run(
        capsys,
        "subset",
        json_file,
        "--output",
        tmp_path / "a.json",
        "--classes",
        " , ".join(f'"{x}"' for x in names),
        "--json",
    )
    assert code == 0 and list(json.loads(out)["objects_of_class"]) == names
    for action in ("subset", "split"):
        code, _, err = run(capsys, action, json_file, "--output", tmp_path / "b", "--seed", "-1")
        assert code == 2 and "--seed: must be an integer of at least 0" in err


@pytest.mark.parametrize("action", ["convert", "split", "merge", "subset"])
def test_help_shows_an_example(capsys, action):
    code, out, _ = run(capsys, action, "--help")
    assert code == 0 and f"example: centermask-solo data {action}" in " ".join(out.split())
