"""train_net.py on tiny LVIS and panoptic datasets: training, then evaluation."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.datasets import register_coco_panoptic_separated, register_lvis_instances
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from detectron2.engine import default_argument_parser
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from centermask_solo.config import default_config, merge_config
from centermask_solo.training.run import run_training
from centermask_solo.training.setup import setup_cfg
from centermask_solo.training.trainer import Trainer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, NUM_IMAGES = 72, 96, 3
BOX = (8, 10, 40, 42)  # x0, y0, x1, y1 of the one object of each image
FEATURES = "('res2', 'res3', 'res4', 'res5')"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": "()",
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
}
CENTERMASK = {
    "MODEL.RESNETS.NORM": "BN",  # frozen norms let the features of random weights explode
    "MODEL.FPN.OUT_CHANNELS": 64,
    "MODEL.FCOS.NUM_CLASS_CONVS": 1,
    "MODEL.FCOS.NUM_BOX_CONVS": 1,
    "MODEL.FCOS.PRIOR_PROB": 0.3,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
    "MODEL.CENTERMASK.MASK_IOU.NUM_CONVS": 1,
    "MODEL.CENTERMASK.MASK_IOU.CONV_DIM": 16,
}


def write_images(folder):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(1, NUM_IMAGES + 1):
        Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{i:012}.jpg")


def outline(category_id, box):
    x0, y0, x1, y1 = box
    shape = {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
    return shape | {"area": (x1 - x0) * (y1 - y0), "category_id": category_id}


def train(folder, config, name, **options):
    """Return the results of the final evaluation, and those that ``evaluation.json`` has."""
    options = SMALL | {"OUTPUT_DIR": str(folder / "output"), "DATASETS.TRAIN": f"('{name}',)"} | options
    options["DATASETS.TEST"] = options["DATASETS.TRAIN"]
    overrides = [str(x) for pair in options.items() for x in pair]
    args = default_argument_parser().parse_args(["--config-file", str(ROOT / "configs" / config), *overrides])
    results = run_training(setup_cfg(args, screen="nothing"))
    return results, json.loads((folder / "output" / "evaluation.json").read_text())


BACKBONE = {"MODEL.FPN.OUT_CHANNELS": 32, "MODEL.RESNETS.NORM": "BN"}
SOLOV2 = BACKBONE | {f"MODEL.SOLOV2.{x}": 32 for x in ("INSTANCE_CHANNELS", "MASK_CHANNELS", "NUM_MASKS")}
SOLOV2 |= {"MODEL.SOLOV2.NUM_INSTANCE_CONVS": 1, "MODEL.SOLOV2.NUM_GRIDS": "[8, 6, 4, 3, 2]"}
LVIS = {
    "SOLOv2/lvis_solov2_R_50_3x.yaml": SOLOV2,
    "CenterMask/lvis_centermask_R_50_FPN_ms_3x.yaml": CENTERMASK,
    "YOLACT/lvis_yolact_resnet50.yaml": BACKBONE | {"MODEL.YOLACT.INPUT_SIZE": 96},
}


def lvis_dataset(folder, *objects):
    """Register images whose objects are (category id, box), and none of whose classes is known to be absent.

    All 1203 categories; the json has no file names but only addresses, like LVIS v1's own.
    """
    write_images(folder / "coco" / "val2017")
    images = [
        {"id": i, "coco_url": f"http://images.cocodataset.org/val2017/{i:012}.jpg", "height": HEIGHT, "width": WIDTH}
        | {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for i in range(1, NUM_IMAGES + 1)
    ]
    found = [(i, *x) for i, of_image in enumerate(objects, start=1) for x in of_image]
    shapes = [{"id": n, "image_id": i, **outline(c, box)} for n, (i, c, box) in enumerate(found, start=1)]
    content = {"images": images, "annotations": shapes, "categories": LVIS_CATEGORIES, "info": {}}
    (folder / "lvis.json").write_text(json.dumps(content))
    name = f"{folder.name}_lvis_v1"
    register_lvis_instances(name, {}, str(folder / "lvis.json"), f"{folder}/coco/")
    return name


RARE, COMMON, FREQUENT = (next(x["id"] for x in LVIS_CATEGORIES if x["frequency"] == f) for f in "rcf")


@pytest.mark.parametrize("config", LVIS)
def test_lvis(tmp_path, config):
    pytest.importorskip("lvis")
    name = lvis_dataset(tmp_path, *[[(RARE, BOX)]] * NUM_IMAGES)
    results, written = train(tmp_path, config, name, **LVIS[config])
    assert list(results) == ["bbox", "segm"]
    for task in results.values():
        assert 0 <= task["APr"] == task["AP"] <= 100
        assert math.isnan(task["APc"]) and math.isnan(task["APf"]) and math.isnan(task["APl"])
    assert written["segm"]["APr"] == results["segm"]["APr"] and written["segm"]["APf"] is None
    text = (tmp_path / "output" / "evaluation.txt").read_text().splitlines()
    assert text[0].split() == ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
    assert text[2].split()[0] == "mask" and text[2].split()[-3:] == [f"{results['segm']['APr']:.2f}", "-", "-"]


class Oracle(nn.Module):
    """Finds (category id, score, box) in the image with this id."""

    def __init__(self, found):
        super().__init__()
        self.found, self.size = found, (HEIGHT, WIDTH)

    def forward(self, batched_inputs):
        return [{"instances": self.detect(self.found[x["image_id"]])} for x in batched_inputs]

    def detect(self, found):
        boxes = torch.tensor([x[2] for x in found], dtype=torch.float32)
        masks = torch.zeros(len(found), *self.size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        fields = {"pred_boxes": Boxes(boxes), "pred_masks": masks, "scores": torch.tensor([x[1] for x in found])}
        return Instances(self.size, pred_classes=torch.tensor([x[0] - 1 for x in found]), **fields)


@pytest.mark.parametrize("num_others", [299, 300])
def test_lvis_metrics_known_by_hand(tmp_path, num_others):
    """Detections of a class that an image is not annotated for cost only places among the best 300 of the image.

    Rare: both objects are found, the second at rank ``num_others`` + 1. Common: found with IoU 0.75, which counts for
    6 of the 10 thresholds. Frequent: one of two objects is found, so precision is 1 up to a recall of 0.5.
    """
    pytest.importorskip("lvis")
    x0, y0, x1, y1 = BOX
    three_quarters, elsewhere = (x0, y0, x1, y0 + (y1 - y0) * 3 // 4), (50, 40, 90, 70)
    others = [(FREQUENT + 1, 0.9, elsewhere)] * num_others
    objects = [[(RARE, BOX)], [(RARE, BOX)], [(COMMON, BOX), (FREQUENT, BOX), (FREQUENT, elsewhere)]]
    name = lvis_dataset(tmp_path, *objects)
    cfg = default_config()
    merge_config(
        cfg, "SOLOv2/lvis_solov2_R_50_3x.yaml", ["DATASETS.TEST", f"('{name}',)", "DATALOADER.NUM_WORKERS", "0"]
    )
    cfg.OUTPUT_DIR = str(tmp_path)
    found = {
        1: [(RARE, 0.8, BOX)],
        2: [*others, (RARE, 0.5, BOX)],
        3: [(COMMON, 0.9, three_quarters), (FREQUENT, 0.7, BOX)],
    }
    results = Trainer.test(cfg, Oracle(found))
    half = 100 * 51 / 101  # recalls 0, 0.01, ..., 0.50
    rare = 100 if num_others == 299 else half
    for task in ("bbox", "segm"):
        got = results[task]
        assert [got[x] for x in ("APr", "APc", "APf")] == pytest.approx([rare, 60, half])
        assert got["AP"] == pytest.approx((rare + 60 + half) / 3)
        assert got["AP50"] == pytest.approx((rare + 100 + half) / 3)


PANOPTIC = {
    "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml": CENTERMASK,
    "SOLOv2/panoptic_solov2_R_50_3x.yaml": SOLOV2 | {"MODEL.SOLOV2.PRIOR_PROB": 0.3},
}


@pytest.mark.parametrize("config", PANOPTIC)
def test_panoptic(tmp_path, config):
    """Things (5, 9), sky (100) and ground (200); label images are made by the script."""
    write_images(tmp_path / "images")
    images = [
        {"id": i, "file_name": f"{i:012}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(1, NUM_IMAGES + 1)
    ]
    instances = [{"id": x["id"], "image_id": x["id"], "iscrowd": 0, **outline(9, BOX)} for x in images]
    things = [{"id": 5, "name": "cat", "isthing": 1}, {"id": 9, "name": "dog", "isthing": 1}]
    stuff = [{"id": 100, "name": "sky", "isthing": 0}, {"id": 200, "name": "ground", "isthing": 0}]
    content = {"images": images, "annotations": instances, "categories": things, "info": {}}
    (tmp_path / "instances.json").write_text(json.dumps(content))

    (tmp_path / "panoptic").mkdir()
    ids = np.zeros((HEIGHT, WIDTH), dtype=int)
    ids[: HEIGHT // 2], ids[HEIGHT // 2 :, : WIDTH // 2] = 11, 12  # the rest is unlabeled
    ids[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 13
    segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in ((11, 100), (12, 200), (13, 9))]
    for x in images:
        png = Path(x["file_name"]).with_suffix(".png")
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=-1).astype(np.uint8)).save(tmp_path / "panoptic" / png)
        x["png"] = str(png)
    annotated = [{"image_id": x["id"], "file_name": x["png"], "segments_info": segments} for x in images]
    (tmp_path / "panoptic.json").write_text(json.dumps({"annotations": annotated, "categories": [*things, *stuff]}))

    spec = importlib.util.spec_from_file_location("prepare", ROOT / "datasets" / "prepare_panoptic_fpn.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    paths = {x: str(tmp_path / x) for x in ("images", "panoptic", "panoptic.json", "stuff", "instances.json")}
    prepare.main([paths["panoptic.json"], paths["panoptic"], paths["stuff"], "--workers", "1"])
    metadata = {
        "thing_classes": ["cat", "dog"],
        "stuff_classes": ["things", "sky", "ground"],
        "thing_dataset_id_to_contiguous_id": {5: 0, 9: 1},
        "stuff_dataset_id_to_contiguous_id": {0: 0, 100: 1, 200: 2},
    }
    register_coco_panoptic_separated(
        tmp_path.name, metadata, *(paths[x] for x in ("images", "panoptic", "panoptic.json", "stuff", "instances.json"))
    )
    options = {
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    }
    options |= {"MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.1, "MODEL.RESNETS.NORM": "BN"}
    options |= PANOPTIC[config]
    results, written = train(tmp_path, config, f"{tmp_path.name}_separated", **options)
    assert list(results) == ["bbox", "segm", "sem_seg", "panoptic_seg"]
    assert set(results["panoptic_seg"]) == {f"{x}{y}" for x in ("PQ", "SQ", "RQ") for y in ("", "_th", "_st")}
    finite = [results["segm"]["AP"], results["sem_seg"]["mIoU"], *results["panoptic_seg"].values()]
    assert all(0 <= x <= 100 for x in finite)
    assert written["panoptic_seg"] == results["panoptic_seg"]
    predicted = tmp_path / "output" / "inference" / f"{tmp_path.name}_separated" / "predictions"
    assert len(list(predicted.glob("*.png"))) == NUM_IMAGES
