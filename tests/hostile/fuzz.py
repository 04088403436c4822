"""A process that makes mutated files, one per seed, and uses each.

It runs as ``python -m tests.hostile.fuzz KIND FIRST COUNT FOLDER``, and prints a line of JSON for each file that ends
in anything but one line of an error or a right use, and the counts last. The file ``seed`` holds the seed in work, so
that the parent can name it if this process dies.
"""

import contextlib
import io
import itertools
import json
import logging
import random
import shutil
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from centermask_solo import model_zoo  # noqa: F401  (registers everything)
from centermask_solo.checkpoint import Checkpointer, read_weights
from centermask_solo.config import default_config, given_options, merge_config
from centermask_solo.data.datasets import load_dataset, load_through_gate, register_datasets
from centermask_solo.data.input_images import as_bgr
from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.data.validation.checks import check_datasets
from centermask_solo.data.validation.report import Scope, check_dataset
from centermask_solo.evaluation import build_evaluator
from centermask_solo.model_zoo.inspection import inspect_weights
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.modeling import systems
from centermask_solo.training.setup import check_config
from centermask_solo.utils.errors import UserError, user_message
from tests.hostile import mutations
from tests.hostile.guard import bounded
from tests.hostile.world import RECORD, build_files
from tests.modeling.models import SYSTEMS
from tests.test_new_system import WholeImageDetector

SECONDS = 10  # per file
MAX_CLASSES = 100
_names = (f"fuzz_{i}" for i in itertools.count())
Use = Callable[[random.Random], None]


def annotations(root: Path) -> Use:
    """Annotations in COCO's or LVIS's format: check, load, map, make targets, and evaluate perfect predictions."""
    valid = json.loads((root / "data" / "instances.json").read_text())
    runs = {"size": [40, 56], "counts": [0, 400, 1840]}
    valid["annotations"].append({**valid["annotations"][0], "id": 3, "bbox": [0, 0, 10, 40], "segmentation": runs})
    valid["annotations"].append({**valid["annotations"][1], "id": 4, "iscrowd": 1, "segmentation": runs})
    for image in valid["images"]:
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in valid["categories"]:
        category["frequency"] = "f"
    # Of so many objects that a fault of one is repaired instead of refused
    copies = [{**x, "id": 4 * i + x["id"]} for i in range(40) for x in valid["annotations"]]
    cfg = default_config()
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON, cfg.OUTPUT_DIR = "cpu", True, str(root / "output")
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    models = itertools.cycle([system.model(num_classes=MAX_CLASSES) for system in SYSTEMS.values()])
    path = root / "data" / "fuzz.json"

    def use(rng: random.Random) -> None:
        path.write_bytes(mutations.mutate_json(rng, {**valid, "annotations": copies} if rng.random() < 0.4 else valid))
        lvis = rng.random() < 0.2
        with contextlib.suppress(UserError):  # whose report need not be clean for the gate to pass
            str(check_dataset(str(path), str(root / "data"), Scope(lvis=lvis)))
        name = next(_names)
        register_coco_instances(name, {}, str(path), str(root / "data"))
        cfg.INPUT.MASK_FORMAT = rng.choice(("bitmask", "polygon"))
        try:
            classes = check_datasets([name], None, "MODEL.ROI_HEADS.NUM_CLASSES")[name]
            load_through_gate(name)
            _train_and_evaluate(cfg, models, name, len(classes or []))
        finally:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)

    return use


@torch.no_grad()
def _train_and_evaluate(cfg: Any, models: Iterator[nn.Module], name: str, num_classes: int) -> None:
    """Map every sample, compute the losses of the next system on it, and evaluate a box as its prediction."""
    mapper, evaluator = InstanceMapper(cfg, True), build_evaluator(cfg, name)
    evaluator.reset()
    for sample in load_dataset(name):
        mapped = mapper(sample)
        instances = mapped["instances"]
        assert bool(torch.isfinite(instances.gt_boxes.tensor).all())
        assert len(instances) == len(instances.gt_masks)
        assert all(0 <= k < num_classes for k in instances.gt_classes.tolist())
        with EventStorage():
            assert all(bool(loss.isfinite()) for loss in next(models)([mapped]).values())
        size = (sample["height"], sample["width"])
        found = Instances(size, pred_boxes=Boxes(torch.tensor([[0.0, 0, 28, 20]])), scores=torch.ones(1))
        found.pred_classes, found.pred_masks = (
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(1, *size, dtype=torch.bool),
        )
        found.pred_masks[:, :20, :28] = True
        evaluator.process([sample], [{"instances": found}])
    results = evaluator.evaluate()
    assert {"bbox", "segm"} <= results.keys()


def checkpoints(root: Path) -> Use:
    """Weights: inspect, read, and load into a model that then predicts."""
    cfg = default_config()
    merge_config(cfg, str(root / "config.yaml"), [])
    content = torch.load(root / "weights.pth", weights_only=True)
    valid = {**content, "iteration": 5, "meta": {"CLASSES": ["a", "b"]}}
    model = WholeImageDetector(cfg).eval()
    image = {"image": torch.full((3, 20, 30), 100.0), "height": 20, "width": 30}

    def use(rng: random.Random) -> None:
        suffix, data = mutations.mutate_checkpoint(rng, valid)
        path = root / f"fuzz{suffix}"
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            inspect_weights(str(path))
        with contextlib.suppress(UserError):
            load_cfg(str(path))
        read_weights(str(path))
        Checkpointer(model, complete=True).load(str(path))
        model([image])

    return use


def configs(root: Path) -> Use:
    """Config files: merge, and set up a training."""
    valid = yaml.safe_load((root / "config.yaml").read_text())
    data = [["fuzz", str(root / "data" / "instances.json"), str(root / "data")]]
    valid |= {"DATASETS": {"COCO_JSON": data, "TRAIN": ["fuzz"], "TEST": ["fuzz"]}, "OUTPUT_DIR": str(root / "output")}
    valid["MODEL"] |= {"PIXEL_MEAN": [1.0, 2.0, 3.0], "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2}}
    valid["SOLVER"] |= {"OPTIMIZER": "AdamW", "CLIP_GRADIENTS": {"ENABLED": True, "CLIP_VALUE": 0.1}}
    path, known = root / "fuzz.yaml", {*DatasetCatalog.list(), *MetadataCatalog.list()}

    def use(rng: random.Random) -> None:
        path.write_bytes(mutations.mutate_yaml(rng, valid, lambda x: yaml.safe_dump(x, allow_unicode=True)))
        cfg = default_config()
        merge_config(cfg, str(path), [])
        cfg.dump()
        for catalog in (DatasetCatalog, MetadataCatalog):  # what an earlier file has registered
            for name in set(catalog.list()) - known:
                catalog.remove(name)
        register_datasets(cfg)
        check_config(cfg, rng.random() < 0.7, given_options(str(path), []))

    return use


def images(root: Path) -> Use:
    """Images: as a picture to predict and as one of a dataset."""

    def use(rng: random.Random) -> None:
        suffix, data = mutations.mutate_image(rng)
        path = root / f"fuzz{suffix}"
        path.write_bytes(data)
        pixels = as_bgr(str(path), 10**7)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size

    return use


KINDS = {x.__name__: x for x in (annotations, checkpoints, configs, images)}


def main(kind: str, first: str, count: str, folder: str) -> None:
    """Use ``count`` files from seed ``first`` on."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    systems.register_system(RECORD)
    root = Path(folder)
    build_files(root)
    use = KINDS[kind](root)
    outcomes: Counter[str] = Counter()
    for seed in range(int(first), int(first) + int(count)):
        (root / "seed").write_text(str(seed))
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), bounded(SECONDS):
                use(random.Random(f"{kind} {seed}"))
            outcomes["accepted"] += 1
        except UserError as error:
            outcomes["clear"] += 1
            assert user_message(error)
        except BaseException as error:
            outcomes["wrong"] += 1
            frames = [f"{Path(x.filename).name}:{x.lineno}" for x in traceback.extract_tb(error.__traceback__)[-5:]]
            text = f"{type(error).__name__}: {str(error)[:150]} ({' '.join(frames)})"
            print(json.dumps({"seed": seed, "error": text}), flush=True)
    print(json.dumps(outcomes), flush=True)
    shutil.rmtree(root / "output", ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
