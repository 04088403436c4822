"""The generated shapes are reproducible, have exact masks, and cover every documented kind of scene."""

import json
import multiprocessing
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from centermask_solo.data.shapes import generator as shapes
from centermask_solo.data.shapes import scenes as shape_scenes
from centermask_solo.data.shapes.generator import draw_shapes, ensure_shapes, generate_shapes, read_record
from centermask_solo.data.shapes.scenes import CLASSES, draw_scene, scene_kind
from centermask_solo.utils.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = 264416169  # of the images' and masks' bytes


@pytest.fixture(scope="module")
def scenes():
    """The first 100 images of the default training data."""
    return [draw_shapes("train", i) for i in range(100)]


def of_kind(scenes, kind):
    return [x for x in scenes if x.kind == kind]


def extent(mask):
    """Return the longer side of the tight box around a mask, pixels."""
    return max(np.ptp(x) + 1 for x in np.nonzero(mask))


def test_images_are_the_same_on_every_machine():
    """A checksum from another machine: if it changes, so does everyone's data, and VERSION must be incremented."""
    check = 0
    for index in (0, 1, 5, 7, 9, 13):
        scene = draw_shapes("train", index, seed=3)
        check = zlib.crc32(scene.image.tobytes(), check)
        for x in scene.objects:
            check = zlib.crc32(np.packbits(x.mask).tobytes() + bytes([x.class_index, x.is_crowd]), check)
    assert (shapes.VERSION, check) == (3, GOLDEN)


def test_other_seeds_splits_and_indices_give_other_images():
    images = [draw_shapes(*x).image for x in [("train", 0, 0), ("train", 0, 1), ("val", 0, 0), ("train", 2, 0)]]
    for i, image in enumerate(images):
        for other in images[:i]:
            assert image.shape != other.shape or (image != other).mean() > 0.5


def test_visible_masks_are_disjoint_and_not_empty(scenes):
    for scene in scenes:
        masks = np.array([x.mask for x in scene.objects]).reshape(-1, *scene.image.shape[:2])
        assert (masks.sum(axis=0) <= 1).all()
        assert (masks.sum(axis=(1, 2)) >= shape_scenes.MIN_VISIBLE_PIXELS).all()


@pytest.mark.parametrize("kind", ["ordinary", "pile", "packed", "crowd region"])
def test_masks_and_pixels_equal_those_of_a_literal_painter(monkeypatch, kind):
    """Each object has its own gray value; painting whole shapes back to front gives the masks."""
    strokes = []
    paint = shape_scenes._Painter._paint

    def record(self, window, distance, columns, rows, color):
        gray = 20.0 + len(strokes)
        whole = np.full((self.height, self.width), np.inf)
        whole[window] = distance
        strokes.append((len(self.classes) - 1, gray, whole))
        monkeypatch.setattr(shape_scenes, "fill", lambda *a, **k: np.full((*columns.shape, 3), gray))
        paint(self, window, distance, columns, rows, color)

    painted = []
    finish = shape_scenes._Painter.finished_image
    monkeypatch.setattr(shape_scenes._Painter, "_paint", record)
    monkeypatch.setattr(
        shape_scenes._Painter, "finished_image", lambda self: (painted.append(self.image.copy()), finish(self))[1]
    )
    scene = draw_scene(np.random.default_rng(1), kind)
    owner, gray_of = np.full(scene.image.shape[:2], -1), np.full(scene.image.shape[:2], np.nan)
    for i, gray, distance in strokes:
        owner[distance <= 0] = i
        gray_of[distance < 0.5] = np.nan  # rims and smooth edges are mixtures
        gray_of[distance <= -2] = gray
    expected = [owner == i for i in sorted(set(owner[owner >= 0]))]
    assert len(expected) == len(scene.objects) > 1
    for mask, x in zip(expected, scene.objects, strict=True):
        np.testing.assert_array_equal(x.mask, mask)
    known = ~np.isnan(gray_of)
    assert known.sum() > 100
    np.testing.assert_allclose(painted[0][known], gray_of[known][:, None].repeat(3, axis=1))


def test_hidden_objects_are_dropped():
    piles = [draw_shapes("train", 9 + 25 * i) for i in range(20)]
    assert sum(x.num_hidden for x in piles) > 0
    assert {x.kind for x in piles} == {"pile"}


def test_any_hundred_images_contain_every_kind_of_scene(scenes):
    counts = {"ordinary": 79, "packed": 1, "crowd region": 2, "tiny": 2}
    counts |= dict.fromkeys(("big", "empty", "pile", "faint"), 4)
    assert Counter(x.kind for x in scenes) == counts
    assert Counter(scene_kind(i) for i in range(137, 237)) == counts


def test_scenes_are_as_documented(scenes):
    assert all(len(x.objects) > 60 for x in of_kind(scenes, "packed"))
    assert all(not x.objects for x in of_kind(scenes, "empty"))
    assert all(sum(o.is_crowd for o in x.objects) == (x.kind == "crowd region") for x in scenes)
    for scene in of_kind(scenes, "big"):
        assert extent(scene.objects[0].mask) >= 0.6 * min(scene.image.shape[:2])
    for scene in of_kind(scenes, "tiny"):
        assert all(extent(x.mask) <= 24 for x in scene.objects)
    smallest = min(extent(x.mask) for kind in ("tiny", "packed") for s in of_kind(scenes, kind) for x in s.objects)
    assert 4 <= smallest <= 10
    parts = [x for s in scenes for x in s.objects if CLASSES[x.class_index] == "word"]
    assert len(parts) > 20


def test_objects_are_truncated_and_overlap(scenes):
    ordinary = of_kind(scenes, "ordinary")
    objects = [x.mask for scene in ordinary for x in scene.objects]
    cut = sum(m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any() for m in objects)
    assert 0.02 < cut / len(objects) < 0.25
    touching = 0
    for scene in ordinary:
        owner = np.zeros(scene.image.shape[:2], dtype=int)
        for i, x in enumerate(scene.objects, 1):
            owner[x.mask] = i
        left, right = owner[:, :-1], owner[:, 1:]
        touching += bool(((left != right) & (left > 0) & (right > 0)).any())
    assert touching > 0.3 * len(ordinary)


def test_classes_are_about_equally_frequent(scenes):
    counts = Counter(x.class_index for s in scenes for x in s.objects)
    assert len(CLASSES) == 10
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 2.5 * min(counts.values())


def test_size():
    shape = draw_shapes("train", 0, size=640).image.shape
    assert 480 <= max(shape[:2]) <= 640
    assert all(192 <= max(draw_shapes("val", i).image.shape[:2]) <= 256 for i in range(10))


def test_coco_file(tmp_path):
    folder = generate_shapes(tmp_path, "train", 12)
    coco = COCO(str(folder / "annotations.json"))
    assert [x["name"] for x in coco.loadCats(sorted(coco.getCatIds()))] == list(CLASSES)
    assert len(coco.imgs) == 12
    for index, image in enumerate(coco.loadImgs(sorted(coco.imgs))):
        scene = draw_shapes("train", index)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "images" / image["file_name"])), scene.image)
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == len(scene.objects)
        for x, expected in zip(annotations, scene.objects, strict=True):
            np.testing.assert_array_equal(coco.annToMask(x).astype(bool), expected.mask)
            rows, columns = np.nonzero(expected.mask)
            left, top = columns.min(), rows.min()
            assert x["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
            assert x["area"] == expected.mask.sum() == rle.area(x["segmentation"])
            assert (x["category_id"], x["iscrowd"]) == (expected.class_index + 1, expected.is_crowd)


def contents(folder):
    return {x.name: x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}


def test_generating_again_is_a_no_op_and_other_options_replace(tmp_path, caplog):
    folder = generate_shapes(tmp_path, "train", 3)
    first, stamp = contents(folder), (folder / "annotations.json").stat().st_mtime_ns
    assert generate_shapes(tmp_path, "train", 3) == folder
    assert (folder / "annotations.json").stat().st_mtime_ns == stamp
    generate_shapes(tmp_path, "train", 2)
    assert "replaced" in caplog.text
    assert len(list((folder / "images").iterdir())) == 2
    generate_shapes(tmp_path, "train", 3)
    assert contents(folder) == first
    assert [x.name for x in tmp_path.iterdir() if x.is_dir()] == ["train"]


def test_interrupted_generation_leaves_no_folder(tmp_path, monkeypatch):
    original = shapes.draw_shapes

    def fail(split, index, *args):
        if index == 2:
            raise KeyboardInterrupt
        return original(split, index, *args)

    monkeypatch.setattr(shapes, "draw_shapes", fail)
    with pytest.raises(KeyboardInterrupt):
        generate_shapes(tmp_path, "train", 4)
    assert not (tmp_path / "train").exists()
    monkeypatch.undo()
    assert len(list((generate_shapes(tmp_path, "train", 4) / "images").iterdir())) == 4
    assert not (tmp_path / ".train.partial").exists()


def test_ensure_keeps_valid_folders_and_renews_outdated_ones(tmp_path, monkeypatch):
    folder = generate_shapes(tmp_path, "val", 3, seed=5)
    first = contents(folder)
    assert ensure_shapes(tmp_path, "val") == folder
    assert contents(folder) == first
    record = json.loads((folder / "generator.json").read_text())
    (folder / "generator.json").write_text(json.dumps({**record, "version": 0}))
    (folder / "images" / "000000.png").unlink()
    ensure_shapes(tmp_path, "val")
    assert contents(folder) == first  # with its own options, not the default ones
    monkeypatch.setitem(shapes.NUM_IMAGES, "val", 2)
    assert read_record(ensure_shapes(tmp_path / "elsewhere", "val"))["options"]["num_images"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "cannot generate 0 images"),
        ({"seed": -1}, "the seed -1 is negative"),
        ({"size": 64}, "images of 64 pixels are too small"),
        ({"split": "a/b"}, "'a/b' cannot name a split"),
        ({"split": ".."}, "'..' cannot name a split"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        generate_shapes(**{"root": tmp_path, "split": "train", "num_images": 1, **options})


def test_folders_with_other_files_are_not_touched(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "holiday.png").write_bytes(b"dear")
    for call in (lambda: generate_shapes(tmp_path, "train", 1), lambda: ensure_shapes(tmp_path, "train")):
        with pytest.raises(DataError, match="holds files that the generator did not write"):
            call()
    with pytest.raises(DataError, match="prepare_shapes"):
        ensure_shapes(tmp_path, "unheard_of")
    assert (tmp_path / "train" / "holiday.png").read_bytes() == b"dear"


def generate_and_report(root, queue):
    drawn = []
    original = shapes.draw_shapes
    shapes.draw_shapes = lambda *args: (drawn.append(args), original(*args))[1]
    generate_shapes(root, "train", 6)
    queue.put((len(drawn), len(list((root / "train" / "images").iterdir()))))


@pytest.mark.parametrize("name", ["notes.txt", "images/my.png", "images/000003.png", "models/a/model_final.pth"])
def test_files_among_generated_ones_are_not_deleted(tmp_path, name):
    folder = generate_shapes(tmp_path, "train", 3)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"dear")
    before = contents(folder)
    assert generate_shapes(tmp_path, "train", 3) == folder
    first = name if name.count("/") < 2 else "models"
    with pytest.raises(DataError, match=f"but holds {first}, which the generator did not write: move it, or choose"):
        generate_shapes(tmp_path, "train", 2)
    assert contents(folder) == before


def test_only_one_of_several_processes_generates(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=generate_and_report, args=(tmp_path, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    reports = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert sorted(reports) == [(0, 6), (0, 6), (6, 6)]


@pytest.mark.slow
def test_command_line(tmp_path):
    command = [sys.executable, "-W", "ignore", "datasets/prepare_shapes.py", "--output", str(tmp_path)]
    command += ["--split", "mine", "--count", "2", "--seed", "4", "--size", "160"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == str(tmp_path / "mine")
    options = {"split": "mine", "num_images": 2, "seed": 4, "size": 160}
    assert read_record(tmp_path / "mine") == {"version": shapes.VERSION, "options": options}
    result = subprocess.run([*command, "--count", "-3"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode != 0
    assert "argument --count: must be an integer from 1 to 1000000, not '-3'" in result.stderr
