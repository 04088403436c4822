"""train_net.py on tiny LVIS and panoptic datasets: training, then evaluation."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic_separated, register_lvis_instances
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES
from detectron2.engine import default_argument_parser
from PIL import Image

from centermask_solo.training.run import run_training
from centermask_solo.training.setup import setup_cfg

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH, NUM_IMAGES = 72, 96, 3
BOX = (8, 10, 40, 42)  # x0, y0, x1, y1 of the one object of each image
FEATURES = "('res2', 'res3', 'res4', 'res5')"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.FPN.OUT_CHANNELS": 64,
    "MODEL.FCOS.NUM_CLASS_CONVS": 1,
    "MODEL.FCOS.NUM_BOX_CONVS": 1,
    "MODEL.FCOS.PRIOR_PROB": 0.3,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": True,
    "MODEL.CENTERMASK.MASK_IOU.NUM_CONVS": 1,
    "MODEL.CENTERMASK.MASK_IOU.CONV_DIM": 16,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": "()",
    "SOLVER.REFERENCE_WORLD_SIZE": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)",
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture
def folder(tmp_path):
    names = set(DatasetCatalog.list()), set(MetadataCatalog.list())
    yield tmp_path
    for catalog, before in zip((DatasetCatalog, MetadataCatalog), names, strict=True):
        for name in set(catalog.list()) - before:
            catalog.remove(name)


def write_images(folder):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(1, NUM_IMAGES + 1):
        Image.fromarray(generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / f"{i:012}.jpg")


def annotations(category_id):
    x0, y0, x1, y1 = BOX
    shape = {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
    shape |= {"area": (x1 - x0) * (y1 - y0), "category_id": category_id}
    return [{"id": i, "image_id": i, **shape} for i in range(1, NUM_IMAGES + 1)]


def train(folder, config, name, **options):
    """Return the results of the final evaluation, and those that ``evaluation.json`` has."""
    options = SMALL | {"OUTPUT_DIR": str(folder / "output"), "DATASETS.TRAIN": f"('{name}',)"} | options
    options["DATASETS.TEST"] = options["DATASETS.TRAIN"]
    overrides = [str(x) for pair in options.items() for x in pair]
    args = default_argument_parser().parse_args(["--config-file", str(ROOT / "configs" / config), *overrides])
    results = run_training(setup_cfg(args, screen="nothing"))
    return results, json.loads((folder / "output" / "evaluation.json").read_text())


def test_lvis(folder):
    """All 1203 categories; the json has no file names but only addresses, like LVIS v1's own."""
    pytest.importorskip("lvis")
    write_images(folder / "coco" / "val2017")
    rare = next(x["id"] for x in LVIS_CATEGORIES if x["frequency"] == "r")
    images = [
        {"id": i, "coco_url": f"http://images.cocodataset.org/val2017/{i:012}.jpg", "height": HEIGHT, "width": WIDTH}
        | {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
        for i in range(1, NUM_IMAGES + 1)
    ]
    content = {"images": images, "annotations": annotations(rare), "categories": LVIS_CATEGORIES, "info": {}}
    (folder / "lvis.json").write_text(json.dumps(content))
    name = f"{folder.name}_lvis_v1"
    register_lvis_instances(name, {}, str(folder / "lvis.json"), f"{folder}/coco/")
    options = {"MODEL.ROI_HEADS.NUM_CLASSES": 1203, "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler"}
    results, written = train(folder, "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml", name, **options)
    assert list(results) == ["bbox", "segm"]
    for task in results.values():
        assert 0 <= task["APr"] == task["AP"] <= 100
        assert math.isnan(task["APc"]) and math.isnan(task["APf"]) and math.isnan(task["APl"])
    assert written["segm"]["APr"] == results["segm"]["APr"] and written["segm"]["APf"] is None
    text = (folder / "output" / "evaluation.txt").read_text().splitlines()
    assert text[0].split() == ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]
    assert text[2].split()[0] == "mask" and text[2].split()[-3:] == [f"{results['segm']['APr']:.2f}", "-", "-"]


def test_panoptic(folder):
    """Things (5, 9), sky (100) and ground (200); label images are made by the script."""
    write_images(folder / "images")
    images = [
        {"id": i, "file_name": f"{i:012}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(1, NUM_IMAGES + 1)
    ]
    instances = [x | {"iscrowd": 0} for x in annotations(9)]
    things = [{"id": 5, "name": "cat", "isthing": 1}, {"id": 9, "name": "dog", "isthing": 1}]
    stuff = [{"id": 100, "name": "sky", "isthing": 0}, {"id": 200, "name": "ground", "isthing": 0}]
    content = {"images": images, "annotations": instances, "categories": things, "info": {}}
    (folder / "instances.json").write_text(json.dumps(content))

    (folder / "panoptic").mkdir()
    ids = np.zeros((HEIGHT, WIDTH), dtype=int)
    ids[: HEIGHT // 2], ids[HEIGHT // 2 :, : WIDTH // 2] = 11, 12  # the rest is unlabeled
    ids[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 13
    segments = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in ((11, 100), (12, 200), (13, 9))]
    for x in images:
        png = Path(x["file_name"]).with_suffix(".png")
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=-1).astype(np.uint8)).save(folder / "panoptic" / png)
        x["png"] = str(png)
    annotated = [{"image_id": x["id"], "file_name": x["png"], "segments_info": segments} for x in images]
    (folder / "panoptic.json").write_text(json.dumps({"annotations": annotated, "categories": [*things, *stuff]}))

    spec = importlib.util.spec_from_file_location("prepare", ROOT / "datasets" / "prepare_panoptic_fpn.py")
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    paths = {x: str(folder / x) for x in ("images", "panoptic", "panoptic.json", "stuff", "instances.json")}
    prepare.main([paths["panoptic.json"], paths["panoptic"], paths["stuff"], "--workers", "1"])
    metadata = {
        "thing_classes": ["cat", "dog"],
        "stuff_classes": ["things", "sky", "ground"],
        "thing_dataset_id_to_contiguous_id": {5: 0, 9: 1},
        "stuff_dataset_id_to_contiguous_id": {0: 0, 100: 1, 200: 2},
    }
    register_coco_panoptic_separated(
        folder.name, metadata, *(paths[x] for x in ("images", "panoptic", "panoptic.json", "stuff", "instances.json"))
    )
    options = {
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    }
    options |= {"MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.1, "MODEL.RESNETS.NORM": "BN"}
    config = "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml"
    results, written = train(folder, config, f"{folder.name}_separated", **options)
    assert list(results) == ["bbox", "segm", "sem_seg", "panoptic_seg"]
    assert set(results["panoptic_seg"]) == {f"{x}{y}" for x in ("PQ", "SQ", "RQ") for y in ("", "_th", "_st")}
    finite = [results["segm"]["AP"], results["sem_seg"]["mIoU"], *results["panoptic_seg"].values()]
    assert all(0 <= x <= 100 for x in finite)
    assert written["panoptic_seg"] == results["panoptic_seg"]
    predicted = folder / "output" / "inference" / f"{folder.name}_separated" / "predictions"
    assert len(list(predicted.glob("*.png"))) == NUM_IMAGES
