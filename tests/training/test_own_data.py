"""The flags of train_net.py that name the user's own data."""

import base64
import json
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog

import train_net
from centermask_solo.cli import build_parser, train
from centermask_solo.data.own_files import register_files
from centermask_solo.data.tools.convert import convert_dataset
from centermask_solo.modeling import systems
from centermask_solo.training.launch import reported_once
from centermask_solo.training.setup import setup_cfg
from tests.data.tools import sets
from tests.training.test_bad_input import SMALL

ROOT = Path(train_net.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    record = systems.System("TinyModel", "MODEL.RETINANET.NUM_CLASSES", ("head.weight",), (), ())
    monkeypatch.setitem(systems._SYSTEMS, "TinyModel", record)
    options = SMALL | {"OUTPUT_DIR": str(tmp_path / "output"), "MODEL": SMALL["MODEL"] | {"RETINANET": {}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "own").mkdir()
    return tmp_path


def arguments(folder, *flags):
    return build_parser().parse_args(["train", "--config-file", str(folder / "config.yaml"), *map(str, flags)])


def configure(folder, *flags):
    return setup_cfg(arguments(folder, *flags), screen="nothing")


def message(folder, capfd, *flags):
    with pytest.raises(SystemExit) as end, reported_once():
        configure(folder, *flags)
    assert end.value.code == 2
    return capfd.readouterr().err.strip().splitlines()[-1]


def test_jsons_give_datasets_and_classes(folder):
    json_file, images = sets.write(folder / "own")
    (folder / "val").mkdir()
    val, _ = sets.write(folder / "val")
    cfg = configure(
        folder, "--train-json", json_file, "--train-images", images, "--val-json", val, "--val-images", images
    )
    assert [["data", json_file, images], ["val_data", val, images]] == cfg.DATASETS.COCO_JSON
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("data",), ("val_data",))
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3
    saved = yaml.safe_load((folder / "output" / "config.yaml").read_text())["DATASETS"]
    assert saved["COCO_JSON"] == cfg.DATASETS.COCO_JSON


def test_names_of_datasets_are_free(folder):
    """Those of trainings and of evaluations; the same files keep their name in another training."""
    json_file, images = sets.write(folder / "own")
    other, _ = sets.write(folder / "other")
    before = {*DatasetCatalog.list(), *MetadataCatalog.list()}
    try:
        names = [register_files(json_file, images), register_files(json_file, images)]
        flags = ("--train-json", other, "--train-images", images, "--overwrite")
        names += configure(folder, *flags).DATASETS.TRAIN
        assert len(before | {*names}) == len(before) + 3
        assert (names[2],) == configure(folder, *flags).DATASETS.TRAIN
    finally:
        for catalog in (DatasetCatalog, MetadataCatalog):
            for name in set(catalog.list()) - before:
                catalog.remove(name)


def test_without_data_to_evaluate_nothing_is_evaluated(folder):
    json_file, images = sets.write(folder / "own")
    assert configure(folder, "--train-json", json_file, "--train-images", images).DATASETS.TEST == ()


@pytest.mark.parametrize("file_format", ["labelme", "yolo", "voc"])
def test_folders_of_other_formats(folder, file_format):
    json_file, images = sets.write(folder / "own")
    there = folder / file_format
    convert_dataset(json_file, file_format, str(there), image_root=images, image_files="copy")
    cfg = configure(folder, "--train-dir", there, "--val-dir", there)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 3 and (file_format,) == cfg.DATASETS.TRAIN
    (_, path, root), (_, _, val_root) = cfg.DATASETS.COCO_JSON
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    assert [x["name"] for x in content["categories"]] == sets.NAMES and root == val_root
    assert Path(path).is_relative_to(folder / "output" / "datasets")
    assert all(Path(root, x["file_name"]).is_file() for x in content["images"])


def test_images_inside_of_labelme_files(folder):
    """And one beside its file; all are found from one folder."""
    Path(sets.write(folder / "own")[0]).unlink()
    for name, data in (("images/a b", None), ("c", folder / "own" / "images" / "empty.png")):
        shape = {"label": "elk", "points": [[0, 0], [9, 0], [9, 9]]}
        document = {"shapes": [shape], "imagePath": "a b.png", "imageHeight": 24, "imageWidth": 32}
        document["imageData"] = data and base64.b64encode(data.read_bytes()).decode()
        (folder / "own" / f"{name}.json").write_text(json.dumps(document))
    cfg = configure(folder, "--train-dir", folder / "own")
    ((_, path, root),) = cfg.DATASETS.COCO_JSON
    files = [Path(root, x["file_name"]) for x in json.loads(Path(path).read_text())["images"]]
    assert [x.name for x in files] == ["c.png", "a b.png"] and all(x.is_file() for x in files)
    assert files[0].is_relative_to(folder / "output" / "datasets")
    train_net.main(arguments(folder, "--train-dir", folder / "own"))


def test_classes_of_a_folder_hold_for_the_other(folder, capfd):
    for name, label in (("a", "elk"), ("b", "emu")):
        (folder / name).mkdir()
        sets.write(folder / name)
        shape = {"label": label, "points": [[0, 0], [9, 0], [9, 9]]}
        document = {"shapes": [shape], "imagePath": "images/a b.png", "imageHeight": 24, "imageWidth": 32}
        (folder / name / "data.json").write_text(json.dumps(document))
    found = message(folder, capfd, "--train-dir", folder / "a", "--val-dir", folder / "b")
    assert "b has the class 'emu', which the data to train on lack (elk): give the names of all" in found
    flags = ("--train-dir", folder / "a", "--val-dir", folder / "b", "--class-names", "emu", "elk")
    assert configure(folder, *flags).MODEL.RETINANET.NUM_CLASSES == 2


def test_classes_of_yolo_folders_are_matched_by_their_names(folder):
    """One of which numbers them in another order, and one has no names."""
    json_file, images = sets.write(folder / "own")
    for name in ("a", "b", "c"):
        convert_dataset(json_file, "yolo", str(folder / name / "yolo"), image_root=images, image_files="copy")
    text = "names:\n" + "".join(f"  {i}: {json.dumps(x)}\n" for i, x in enumerate(sets.NAMES[::-1]))
    (folder / "b" / "yolo" / "data.yaml").write_text(text, encoding="utf-8")
    (folder / "c" / "yolo" / "data.yaml").unlink()
    for name, expected in (("b", [3, 3, 1, 2]), ("c", [1, 3, 1, 2])):
        cfg = configure(
            folder, "--train-dir", folder / "a" / "yolo", "--val-dir", folder / name / "yolo", "--overwrite"
        )
        content = json.loads(Path(cfg.DATASETS.COCO_JSON[1][1]).read_text(encoding="utf-8"))
        assert [x["name"] for x in content["categories"]] == sets.NAMES
        assert sorted(x["category_id"] for x in content["annotations"]) == sorted(expected)


def test_checkpoints_keep_the_names(folder):
    json_file, images = sets.write(folder / "own")
    train_net.main(arguments(folder, "--train-json", json_file, "--train-images", images))
    checkpoint = torch.load(folder / "output" / "model_final.pth", weights_only=True)
    assert checkpoint["thing_classes"] == sets.NAMES


def test_contradictions_end_in_one_line(folder, capfd):
    json_file, images = sets.write(folder / "own")
    yolo = folder / "yolo"
    convert_dataset(json_file, "yolo", str(yolo), image_root=images)
    expected = {
        ("--train-json", json_file, "--train-dir", images): "name two datasets",
        ("--train-images", images, "--val-json", json_file): "--train-images needs --train-json",
        ("--val-json", json_file): "--val-json has no --train-json",
        ("--train-json", images): "is a folder: give it as --train-dir",
        (
            "--train-json",
            json_file,
            "DATASETS.TRAIN",
            "('tiny',)",
        ): "set DATASETS.TRAIN: give the flags or the override",
        ("--train-dir", folder / "none"): "none is missing",
        ("--train-json", folder / "none.json"): "none.json",
        ("--train-json", json_file, "--train-images", folder / "none"): "none",
        ("--train-json", json_file, "--class-names", "a", "b"): "--class-names is for --train-dir and --val-dir",
        ("--class-names", "a"): "--class-names is for --train-dir and --val-dir",
        ("--train-images", images): "--train-images needs --train-json",
        ("--train-dir", yolo, "--train-images", folder / "none"): "none, given as the folder of the images, does not",
    }
    for flags, text in expected.items():
        found = message(folder, capfd, *flags)
        assert found.startswith("error: ") and text in found


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
def test_two_processes(tmp_path):
    """Neither of them shares the memory of the process that starts them."""
    json_file, images = sets.write(tmp_path)
    convert_dataset(json_file, "yolo", str(tmp_path / "yolo"), image_root=images, image_files="copy")
    command = ["train", "--num-gpus", "2", "--dist-url", "auto", "--train-dir", str(tmp_path / "yolo")]
    command += ["--val-dir", str(tmp_path / "yolo"), "--config-file", str(ROOT / "configs/shapes/solov2_shapes.yaml")]
    options = "MODEL.DEVICE cpu MODEL.WEIGHTS '' SOLVER.MAX_ITER 1 SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0 "
    options += "MODEL.FPN.OUT_CHANNELS 32 MODEL.SOLOV2.INSTANCE_CHANNELS 32 MODEL.SOLOV2.MASK_CHANNELS 32 "
    options += "MODEL.SOLOV2.NUM_MASKS 32 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 SOLVER.STEPS ()"
    command += [x.strip("'") for x in options.split()] + ["OUTPUT_DIR", str(tmp_path / "output")]
    train.run(build_parser().parse_args(command))
    checkpoint = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)
    assert checkpoint["thing_classes"] == sets.NAMES
