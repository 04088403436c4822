"""Generated datasets are generated on first use; users' own datasets are registered by the config alone."""

import os

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.datasets import (
    load_dataset,
    prepare_dataset,
    register_datasets,
    register_shapes,
    shapes_root,
)
from centermask_solo.data.shapes import generator as shapes
from centermask_solo.data.shapes.scenes import CLASSES
from centermask_solo.utils.errors import ConfigError, DataError
from tests.data import coco_files


def config(*opts):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_list(list(opts))
    return cfg


def test_shapes_are_registered_below_the_datasets_folder(monkeypatch):
    for split in ("train", "val"):
        assert f"shapes_{split}" in DatasetCatalog
        metadata = MetadataCatalog.get(f"shapes_{split}")
        assert metadata.json_file.endswith(f"shapes/{split}/annotations.json")
        assert metadata.image_root.endswith(f"shapes/{split}/images")
        assert metadata.evaluator_type == "coco"
        assert metadata.thing_classes == list(CLASSES)
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    assert shapes_root() == os.path.expanduser("~/data/shapes")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert shapes_root() == "datasets/shapes"


def test_shapes_are_generated_only_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.NUM_IMAGES, "val2", 8)
    register_shapes(str(tmp_path), "val2")
    assert not list(tmp_path.iterdir())
    dicts = DatasetCatalog.get("shapes_val2")
    assert len(dicts) == 8
    assert all(os.path.isfile(x["file_name"]) for x in dicts)
    assert {"counts", "size"} == set(dicts[0]["annotations"][0]["segmentation"])
    assert MetadataCatalog.get("shapes_val2").thing_classes == list(CLASSES)
    monkeypatch.setattr(shapes, "draw_shapes", None)  # generating again would fail
    assert len(DatasetCatalog.get("shapes_val2")) == 8


def test_prepare_dataset_generates_shapes(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.NUM_IMAGES, "val2", 1)
    register_shapes(str(tmp_path), "val2")
    prepare_dataset("shapes_val2")
    assert os.path.isfile(MetadataCatalog.get("shapes_val2").json_file)
    prepare_dataset("coco_2017_val")  # a no-op


def test_own_dataset_from_the_command_line(tmp_path):
    json_file, images = coco_files.write(tmp_path)
    cfg = config("DATASETS.COCO_JSON", f"[['my_birds', '{json_file}', '{images}']]")
    register_datasets(cfg)
    register_datasets(cfg)  # again: a no-op
    dicts = DatasetCatalog.get("my_birds")
    assert [len(x["annotations"]) for x in dicts] == [2, 1, 0]
    metadata = MetadataCatalog.get("my_birds")
    assert metadata.thing_classes == ["dog", "cat", "emu"]
    assert metadata.evaluator_type == "coco"


def test_own_dataset_from_a_config_file(tmp_path):
    (tmp_path / "config.yaml").write_text("DATASETS:\n  COCO_JSON: [[a_set, a.json, a/], [b_set, b.json, b/]]\n")
    cfg = config()
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    register_datasets(cfg)
    assert MetadataCatalog.get("b_set").image_root == "b/"
    assert "a_set" in DatasetCatalog


@pytest.mark.parametrize("entry", ["my_birds", ["my_birds", "a.json"], ["my_birds", "a.json", 3], ["", "a", "b"]])
def test_own_dataset_must_be_a_triple(entry):
    with pytest.raises(ConfigError, match="each entry must be a name, a json and a folder of images"):
        register_datasets(config("DATASETS.COCO_JSON", [entry]))


def test_own_dataset_needs_an_unused_name():
    message = "'coco_2017_val', which is already registered with .*instances_val2017.json: choose another name"
    with pytest.raises(ConfigError, match=message):
        register_datasets(config("DATASETS.COCO_JSON", [["coco_2017_val", "a.json", "a/"]]))


def test_loading_names_the_fault_of_a_file_that_detectron2_cannot_read(tmp_path):
    data = coco_files.valid()
    data["annotations"][1]["segmentation"]["counts"] = [1, "a"]
    cfg = config("DATASETS.COCO_JSON", [["my_birds", *coco_files.write(tmp_path, data)]])
    register_datasets(cfg)
    with pytest.raises(
        DataError, match=r"data\.json: 1 x RLE that cannot be decoded, such as annotation 2 \(1\.png\): \[1, \"a\"\]"
    ):
        load_dataset("my_birds")


def test_loading_names_missing_files_and_unknown_names(tmp_path):
    register_datasets(config("DATASETS.COCO_JSON", [["my_birds", str(tmp_path / "a.json"), str(tmp_path)]]))
    with pytest.raises(DataError, match=r"the dataset 'my_birds' lacks its annotation file .*a\.json"):
        load_dataset("my_birds")
    with pytest.raises(ConfigError, match="'my_bird' is not registered; the nearest one is my_birds"):
        load_dataset("my_bird")


def test_a_defect_of_a_users_function_keeps_its_traceback():
    DatasetCatalog.register("mine", lambda: {}["absent"])
    with pytest.raises(KeyError):
        load_dataset("mine")
