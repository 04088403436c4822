"""The script that writes label images from panoptic annotations."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, _get_builtin_metadata
from PIL import Image

from centermask_solo.data.formats.panoptic import PanopticImage, semantic_labels

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare_panoptic_fpn.py"
spec = importlib.util.spec_from_file_location("prepare_panoptic_fpn", SCRIPT)
prepare_panoptic_fpn = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = prepare_panoptic_fpn  # worker processes import it by name
spec.loader.exec_module(prepare_panoptic_fpn)

LARGE = 7 + 256 * 8 + 65536 * 9  # (7, 8, 9) in the PNG
CATEGORIES = [{"id": i, "name": f"c{i}", "isthing": thing} for i, thing in ((90, 0), (1, 1), (92, 0), (5, 1), (7, 0))]


@pytest.fixture
def files(tmp_path):
    """Two images; segments of two things (1, 5), of the stuff 7, 90 and 92, and void."""
    images = {
        "a": ([[0, 1, 2], [3, 3, LARGE]], {1: 1, 2: 90, 3: 5, LARGE: 92}),
        "b": ([[4, 4, 4], [0, 0, 5]], {4: 7, 5: 90}),
    }
    (tmp_path / "panoptic").mkdir()
    annotations = []
    for number, (name, (ids, segments)) in enumerate(images.items(), start=1):
        pixels = [[(x % 256, x // 256 % 256, x // 65536) for x in row] for row in ids]
        Image.fromarray(np.array(pixels, dtype=np.uint8)).save(tmp_path / "panoptic" / f"{name}.png")
        infos = [
            {"id": i, "category_id": c, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]} for i, c in segments.items()
        ]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": infos})
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": annotations, "categories": CATEGORIES}))
    return tmp_path


def run(files, *args):
    paths = [str(files / x) for x in ("panoptic.json", "panoptic", "stuff")]
    prepare_panoptic_fpn.main([*paths, *args])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_label_images(files, workers, capsys):
    run(files, "--workers", workers)
    a, b = (np.asarray(Image.open(files / "stuff" / f"{x}.png")) for x in "ab")
    assert a.dtype == np.uint8
    assert a.tolist() == [[255, 0, 2], [0, 0, 3]]
    assert b.tolist() == [[1, 1, 1], [255, 255, 2]]
    assert "2 images, labels 0 (things) to 3, 255 unlabeled" in capsys.readouterr().out


def test_neither_the_input_nor_other_labels_are_replaced(files, capsys):
    before = [(files / "panoptic" / f"{x}.png").read_bytes() for x in "ab"]
    (files / "stuff").symlink_to(files / "panoptic")
    for flags in ([], ["--overwrite"]):
        with pytest.raises(SystemExit):
            run(files, "--workers", "1", *flags)
        assert "panoptic is in the output folder" in capsys.readouterr().err
    assert [(files / "panoptic" / f"{x}.png").read_bytes() for x in "ab"] == before
    (files / "stuff").unlink()
    run(files, "--workers", "1")
    with pytest.raises(SystemExit):
        run(files, "--workers", "1")
    assert "stuff holds the results of another run, such as a.png" in capsys.readouterr().err
    run(files, "--workers", "1", "--overwrite")


def test_coco_gets_the_labels_of_detectron2s_metadata():
    is_thing = {x["id"]: bool(x["isthing"]) for x in COCO_CATEGORIES}
    ids = np.array([sorted(is_thing)])  # each category's id is also its segment's
    image = PanopticImage(1, "1.png", {x: x for x in is_thing}, frozenset())
    expected = _get_builtin_metadata("coco_panoptic_separated")["stuff_dataset_id_to_contiguous_id"]
    assert semantic_labels(ids, image, is_thing).tolist() == [[expected.get(x, 0) for x in sorted(is_thing)]]


def damage(files, kind):
    path = files / "panoptic" / "a.png"
    if kind == "missing json":
        (files / "panoptic.json").unlink()
    elif kind == "not panoptic":
        (files / "panoptic.json").write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1}]}))
    elif kind == "missing png":
        path.unlink()
    elif kind == "damaged png":
        path.write_bytes(path.read_bytes()[:50])
    elif kind == "gray png":
        Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(path)
    else:
        Image.fromarray(np.full((2, 3, 3), 6, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("missing json", r"panoptic.json is missing"),
        ("not panoptic", r"panoptic.json is not a panoptic annotation file \(KeyError: 'isthing'\)"),
        ("missing png", r"a.png is missing"),
        ("damaged png", r"a.png is damaged"),
        ("gray png", r"a.png is not RGB"),
        ("unknown id", rf"a.png has the segment {6 + 256 * 6 + 65536 * 6}, which is not in the json"),
    ],
)
def test_faulty_input_is_one_line(files, kind, message, capsys):
    damage(files, kind)
    with pytest.raises(SystemExit) as exited:
        run(files, "--workers", "1")
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert exited.value.code == 2 and re.search(message, line)


def test_an_error_in_a_worker_is_one_line_too(files, capsys):
    damage(files, "missing png")
    with pytest.raises(SystemExit):
        run(files, "--workers", "2")
    assert "a.png is missing" in capsys.readouterr().err
