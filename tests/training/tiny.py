"""A model and a dataset so small that training takes seconds, for the tests of training and inference."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from PIL import Image
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.training.trainer import Trainer

CLASSES = ["cat", "dog"]


class TinyModel(nn.Module):
    """Regresses the mean color of each image; the loss is the mean over images, as data-parallel training needs."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 3)
        self.dropout = nn.Dropout(cfg.MODEL.get("TINY_DROPOUT", 0.0))

    def train(self, mode: bool = True) -> "TinyModel":
        super().train(mode)
        self.backbone[1].eval()  # batch statistics would differ between one process and two
        return self

    def forward(self, batched_inputs):
        device = self.head.weight.device
        if not self.training:
            return [{"instances": self._detection(x)} for x in batched_inputs]
        if any("poison" in x["file_name"] for x in batched_inputs):
            return {"loss_mean": self.head.weight.sum() * torch.nan}
        images = [x["image"].to(device) / 255 for x in batched_inputs]
        targets = torch.stack([image.mean(dim=(1, 2)) for image in images])
        features = self.backbone(ImageList.from_tensors(images, 32).tensor).mean(dim=(2, 3))
        error = (self.dropout(self.head(features)) - targets) ** 2
        return {"loss_mean": error.mean(), "loss_last": error[:, 2].mean()}

    def _detection(self, x):
        height, width = x["height"], x["width"]
        masks = torch.zeros(1, height, width, dtype=torch.bool)
        masks[:, : height // 2, : width // 2] = True
        boxes = Boxes(torch.tensor([[0.0, 0.0, width // 2, height // 2]]))
        return Instances(
            (height, width),
            pred_boxes=boxes,
            scores=torch.tensor([0.9]),
            pred_classes=torch.tensor([0]),
            pred_masks=masks,
        )


if "TinyModel" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(TinyModel)


def write_dataset(folder: Path, num_images: int = 6, size: tuple[int, int] = (40, 56)) -> None:
    """Write noise images with one object in the upper left quarter, and ``instances.json`` in COCO format."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    height, width = size
    images, annotations = [], []
    for i in range(1, num_images + 1):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        w, h = width // 2, height // 2
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1 + i % 2,
                "iscrowd": 0,
                "bbox": [0, 0, w, h],
                "area": w * h,
                "segmentation": [[0, 0, w, 0, w, h, 0, h]],
            }
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


def register(folder: Path, name: str = "tiny") -> None:
    """Register the dataset that ``write_dataset`` wrote, in place of another of the same name."""
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_coco_instances(name, {}, str(folder / "instances.json"), str(folder))


def tiny_cfg(data: Path, output: Path) -> CfgNode:
    """Return a config that trains the tiny model on the tiny dataset for 8 iterations."""
    register(data)
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.MODEL.TINY_DROPOUT = 0.3
    cfg.MODEL.META_ARCHITECTURE = "TinyModel"
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TRAIN = ("tiny",)
    cfg.DATASETS.TEST = ("tiny",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.MIN_SIZE_TRAIN = (32, 48)
    cfg.INPUT.MIN_SIZE_TEST = 40
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.SOLVER.BASE_LR = 0.05
    cfg.SOLVER.MAX_ITER = 8
    cfg.SOLVER.STEPS = (6,)
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.CHECKPOINT_PERIOD = 4
    cfg.OUTPUT_DIR = str(output)
    output.mkdir(parents=True, exist_ok=True)
    return cfg


class RecordingTrainer(Trainer):
    """Records the losses of each iteration, and can be interrupted before one."""

    kill_before: int | None = None

    def run_step(self) -> None:
        if self.iter == self.kill_before:
            raise KeyboardInterrupt
        super().run_step()
        self.history = [*getattr(self, "history", []), self._losses()]

    def _losses(self) -> dict[str, float]:
        latest = self.storage.latest()
        return {name: latest[name][0] for name in ("total_loss", "loss_mean", "loss_last") if name in latest}


def train_in_process(args: argparse.Namespace) -> None:
    """Train in one of several processes; the main one writes losses and parameters."""
    torch.set_num_threads(1)
    cfg = tiny_cfg(Path(args.data), Path(args.output))
    cfg.MODEL.TINY_DROPOUT = 0.0  # dropout masks differ between processes
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)  # padding depends on the images of one process
    cfg.SEED = 1
    torch.manual_seed(1)
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    if trainer.checkpointer.save_to_disk:
        state = {"history": trainer.history, "model": trainer.checkpointer.model.state_dict()}
        torch.save(state, os.path.join(args.output, "result.pth"))


def train(cfg, resume=False, kill_before=None):
    """Train from a fixed seed, or be killed before an iteration; return the trainer."""
    torch.manual_seed(0)
    trainer = RecordingTrainer(cfg)
    trainer.kill_before = kill_before
    trainer.resume_or_load(resume)
    if kill_before is None:
        trainer.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer
