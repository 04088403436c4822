"""Options that follow from the data, and those that do not change."""

import argparse
import json

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from PIL import Image

from centermask_solo.config.trees import flatten
from centermask_solo.data.datasets import register_datasets
from centermask_solo.training.auto import configure_for_data
from centermask_solo.training.setup import setup_cfg
from tests.modeling.models import SYSTEMS


def write(folder, num_images=40, side=8.0, size=(128, 128), classes=None):
    """A COCO dataset with two objects of one size in each image; ``classes`` gives the class of each image."""
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for i in range(num_images):
        if i == 0 or not (folder / "0.png").exists():
            Image.new("RGB", size).save(folder / "0.png")
        images.append({"id": i, "file_name": "0.png", "height": size[1], "width": size[0]})
        for k in range(2):
            x = y = 4.0 + k * 60
            box = [x, y, side, side]
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            entry = {"id": 2 * i + k + 1, "image_id": i, "category_id": 1 + (classes[i] if classes else k)}
            annotations.append(entry | {"iscrowd": 0, "bbox": box, "area": side**2, "segmentation": [polygon]})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "data.json").write_text(json.dumps(content))
    return folder


def make_cfg(folder, name="SOLOv2", *options):
    cfg = SYSTEMS[name].cfg(num_classes=2)
    cfg.DATASETS.COCO_JSON = [["auto_data", str(folder / "data.json"), str(folder)]]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("auto_data",), ("auto_data",)
    cfg.merge_from_list(["INPUT.MIN_SIZE_TEST", 128, "INPUT.MAX_SIZE_TEST", 128, *options])
    register_datasets(cfg)
    return cfg


def test_few_images_with_small_objects(tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = make_cfg(write(tmp_path), "SOLOv2", "INPUT.MIN_SIZE_TRAIN", (96, 128))
    made = configure_for_data(cfg, ())
    assert (cfg.SOLVER.EPOCHS, cfg.TEST.EVAL_EPOCHS, cfg.TEST.KEEP_BEST) == (100, 10, "segm/AP")
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (256, 256)
    assert cfg.INPUT.MIN_SIZE_TRAIN == (192, 256)
    assert cfg.INPUT.COLOR == "medium" and cfg.INPUT.COPY_PASTE.PROB == 0.3
    assert cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler"
    lines = [x.getMessage() for x in caplog.records if x.getMessage().startswith("--auto")]
    assert len(lines) == len(made)
    assert lines[0] == "--auto: SOLVER.EPOCHS 100: 40 images with objects, so that the model sees 4000 in all"
    assert all(line.count(": ") >= 2 for line in lines)  # each with its reason


def test_a_short_training_starts_with_larger_weights_of_coordinates(tmp_path):
    key, folder = "MODEL.SOLOV2.COORDINATE_INIT", write(tmp_path)

    def decided(*options):
        cfg = make_cfg(folder, "SOLOv2", *options)
        made = configure_for_data(cfg, options[::2])
        return cfg.MODEL.SOLOV2.COORDINATE_INIT, any(key in x.options for x in made)

    assert decided() == (20.0, True) == decided("SOLVER.MAX_ITER", 900)
    assert decided("SOLVER.EPOCHS", 1001) == (1.0, False)
    assert decided(key, 3.0) == (3.0, False) and decided(key, 20.0) == (20.0, False)


def test_large_scale_jitter_grows_with_the_input(tmp_path):
    cfg = make_cfg(write(tmp_path), "SOLOv2", "INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 160)
    configure_for_data(cfg, ())
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.LSJ.SIZE) == (256, 320)


def test_images_that_are_not_resized_stay_so(tmp_path):
    cfg = make_cfg(write(tmp_path), "SOLOv2", "INPUT.MIN_SIZE_TEST", 0)
    made = configure_for_data(cfg, {"INPUT.MIN_SIZE_TEST"})
    assert cfg.INPUT.MIN_SIZE_TEST == 0 and not any("INPUT.MIN_SIZE_TEST" in x.options for x in made)


def test_more_images_with_large_objects(tmp_path):
    cfg = make_cfg(write(tmp_path, 800, side=40.0))
    configure_for_data(cfg, ())
    assert cfg.SOLVER.EPOCHS == 50 and cfg.INPUT.MIN_SIZE_TEST == 128
    assert cfg.INPUT.COLOR == "weak" and cfg.INPUT.COPY_PASTE.PROB == 0.0


def test_images_of_rare_classes_repeat(tmp_path):
    cfg = make_cfg(write(tmp_path, 60, side=40.0, classes=[int(i == 7) for i in range(60)]))
    configure_for_data(cfg, ())
    assert cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    assert cfg.DATALOADER.REPEAT_THRESHOLD == 0.5


def test_what_the_user_sets_stays(tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = make_cfg(write(tmp_path), "SOLOv2", "INPUT.COLOR", "strong", "SOLVER.EPOCHS", 7)
    given = {"INPUT.COLOR", "SOLVER.EPOCHS", "INPUT.MIN_SIZE_TEST", "DATALOADER.SAMPLER_TRAIN"}
    before = flatten(cfg)
    configure_for_data(cfg, given)
    after = flatten(cfg)
    assert all(before[key] == after[key] for key in given)
    assert after["INPUT.MAX_SIZE_TEST"] == before["INPUT.MAX_SIZE_TEST"]  # belongs to the size that is set
    assert after["INPUT.COPY_PASTE.PROB"] == 0.3
    assert "--auto: INPUT.COLOR strong stays, as you set it; it would be INPUT.COLOR medium" in caplog.text


def test_iterations_of_the_user_are_not_replaced_by_epochs(tmp_path):
    cfg = make_cfg(write(tmp_path), "SOLOv2", "SOLVER.MAX_ITER", 50)
    configure_for_data(cfg, {"SOLVER.MAX_ITER", "TEST.EVAL_PERIOD"})
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.EPOCHS, cfg.TEST.EVAL_EPOCHS, cfg.TEST.EVAL_PERIOD) == (50, 0, 0, 0)
    configure_for_data(cfg, {"SOLVER.MAX_ITER"})
    assert (cfg.TEST.EVAL_EPOCHS, cfg.TEST.EVAL_PERIOD) == (0, 5)  # ten evaluations of these iterations


def test_images_that_are_left_out_do_not_count(tmp_path, caplog):
    """Those without objects, by default; nor are metrics decided on that the test data does not have."""
    caplog.set_level("INFO")
    folder = write(tmp_path)
    content = json.loads((folder / "data.json").read_text())
    content["annotations"] = [x for x in content["annotations"] if x["image_id"] < 4]
    (folder / "data.json").write_text(json.dumps(content))
    options = ("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler", "DATALOADER.RANDOM_SUBSET_RATIO", 0.5)
    cfg = make_cfg(folder, "SOLOv2", *options)
    configure_for_data(cfg, {"DATALOADER.SAMPLER_TRAIN"})
    assert "SOLVER.EPOCHS 100: 4 images with objects, so that the model sees 400 in all" in caplog.text
    assert cfg.INPUT.COPY_PASTE.PROB == 0  # which takes images outside of the subset


def test_steps_of_the_user_keep_their_iterations(tmp_path):
    """They would be scaled to the iterations of the epochs."""
    cfg = make_cfg(write(tmp_path), "SOLOv2", "SOLVER.STEPS", (30,))
    configure_for_data(cfg, {"SOLVER.STEPS"})
    assert cfg.SOLVER.EPOCHS == 0 and cfg.SOLVER.STEPS == (30,)


def test_nothing_for_colors_is_set_where_images_have_none(tmp_path):
    cfg = make_cfg(write(tmp_path), "SOLOv2", "INPUT.CHANNELS", 4)
    configure_for_data(cfg, ())
    assert cfg.INPUT.COLOR == "none" and cfg.INPUT.COPY_PASTE.PROB == 0.3


@pytest.mark.parametrize(
    ("kind", "masks", "metric"),
    [
        ("coco", True, "segm/AP"),
        ("coco", False, "bbox/AP"),
        ("cityscapes_instance", True, "segm/AP"),
        ("sem_seg", False, "sem_seg/mIoU"),
        ("cityscapes_sem_seg", False, "sem_seg/IoU"),
    ],
)
def test_the_best_weights_are_chosen_by_a_metric_of_the_data(tmp_path, monkeypatch, kind, masks, metric):
    cfg = make_cfg(write(tmp_path), "FCOS", "MODEL.MASK_ON", masks)
    monkeypatch.setitem(MetadataCatalog.get(cfg.DATASETS.TEST[0]).__dict__, "evaluator_type", kind)
    configure_for_data(cfg, ())
    assert metric == cfg.TEST.KEEP_BEST


@pytest.mark.parametrize("name", ["SOLOv2", "SOLO", "FCOS", "CenterMask", "YOLACT"])
@pytest.mark.parametrize("side", [9.0, 50.0])
def test_the_networks_stay(tmp_path, name, side):
    cfg = make_cfg(write(tmp_path, side=side), name)
    torch.manual_seed(0)
    before = {key: value.shape for key, value in build_model(cfg).state_dict().items()}
    options = flatten(cfg)
    made = configure_for_data(cfg, ())
    assert {key: value.shape for key, value in build_model(cfg).state_dict().items()} == before
    changed = {key for key, value in flatten(cfg).items() if value != options[key]}
    assert changed <= {key for decision in made for key in decision.options}
    if side == 9.0:
        assert any(key.startswith(("MODEL.", "INPUT.MIN")) for key in changed)


def test_auto_is_an_option_of_training(tmp_path):
    """Through the command line: decisions appear in the config, those of the command line stay."""
    folder = write(tmp_path / "data", 30, side=40.0)
    opts = ["DATASETS.COCO_JSON", repr([["auto_data", str(folder / "data.json"), str(folder)]])]
    opts += ["DATASETS.TRAIN", "('auto_data',)", "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path / "output")]
    opts += ["SOLVER.EPOCHS", "3", "MODEL.WEIGHTS", ""]
    args = argparse.Namespace(
        config_file="shapes/solov2_shapes.yaml", opts=opts, resume=False, eval_only=False, auto=True
    )
    cfg = setup_cfg(args, screen="nothing")
    assert cfg.SOLVER.EPOCHS == 3 and cfg.INPUT.COLOR == "medium"
    args.auto = False
    assert setup_cfg(args, screen="nothing").INPUT.COLOR == "none"
