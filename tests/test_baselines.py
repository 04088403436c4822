"""Baselines are Detectron2's models with its recipes, and R-CNN; the small ones train and predict on a CPU."""

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.poolers import RoIPool
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer

CONFIGS = Path(__file__).parents[1] / "configs"
PUBLISHED = {
    "mask_rcnn": "COCO-InstanceSegmentation",
    "faster_rcnn": "COCO-Detection",
    "fast_rcnn": "COCO-Detection",
    "retinanet": "COCO-Detection",
    "panoptic_fpn": "COCO-PanopticSegmentation",
}
BASELINES = sorted(
    path.stem for path in (CONFIGS / "baselines").glob("*.yaml") if not path.name.startswith(("Base", "rcnn"))
)
SMALL = ["mask_rcnn", "mask_rcnn_roipool", "faster_rcnn", "fast_rcnn", "rcnn", "retinanet"]


def read(name: str) -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    return cfg


def published_name(name: str) -> str:
    system = re.sub(r"_R_50.*", "", name)
    return f"{PUBLISHED[system]}/{name.replace('_roipool', '')}.yaml"


def options(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("name", BASELINES)
def test_recipe_equals_detectron2s(name):
    ours = dict(options(read(f"baselines/{name}.yaml")))
    theirs = dict(options(model_zoo.get_config(published_name(name))))
    different = {key: ours[key] for key, value in theirs.items() if ours[key] != value and key != "MODEL.DEVICE"}
    expected = {"SOLVER.REFERENCE_WORLD_SIZE": 8}
    if "roipool" in name:
        heads = ("BOX", "MASK") if name.startswith("mask") else ("BOX",)
        expected |= {f"MODEL.ROI_{head}_HEAD.POOLER_TYPE": "ROIPool" for head in heads}
    assert different == expected


@pytest.mark.parametrize("name", [name for name in BASELINES if "roipool" not in name])
def test_weights_url_equals_detectron2s(name):
    address = re.search(r"detectron2://\S+", (CONFIGS / "baselines" / f"{name}.yaml").read_text())[0]
    url = model_zoo.get_checkpoint_url(published_name(name))
    assert url.endswith(address.removeprefix("detectron2://"))


def sample(with_proposals: bool, num_objects: int = 2) -> dict[str, Any]:
    boxes = Boxes(torch.tensor([[8.0, 8, 60, 70], [40, 20, 100, 44]])[:num_objects])
    masks = torch.zeros(num_objects, 96, 128, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.tensor.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    classes = torch.tensor([3, 9])[:num_objects]
    gt = Instances((96, 128), gt_boxes=boxes, gt_classes=classes, gt_masks=BitMasks(masks))
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0))
    proposals = Instances((96, 128), proposal_boxes=Boxes(torch.tensor([[6.0, 9, 58, 72], [90, 60, 120, 90]])))
    proposals.objectness_logits = torch.tensor([2.0, -1.0])
    return {"image": image, "instances": gt} | ({"proposals": proposals} if with_proposals else {})


@pytest.mark.parametrize("name", SMALL)
def test_small_baseline_trains_and_predicts(name):
    cfg = read(f"shapes/{name}_shapes.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MOBILENETV2.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = "BN", 0
    torch.manual_seed(0)
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([sample(cfg.MODEL.LOAD_PROPOSALS), sample(cfg.MODEL.LOAD_PROPOSALS, num_objects=0)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    without_gradient = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without_gradient
    has_masks = name.startswith("mask")
    assert ("loss_mask" in losses) is has_masks
    with torch.no_grad():
        found = model.eval()([sample(cfg.MODEL.LOAD_PROPOSALS)])[0]["instances"]
    assert found.image_size == (96, 128) and found.has("pred_masks") is has_masks
    poolers = [m for m in model.modules() if isinstance(m, RoIPool)]
    assert bool(poolers) is ("roipool" in name)


@pytest.mark.parametrize("name", ["mask_rcnn", "fast_rcnn", "retinanet"])
def test_files_of_detectron2s_model_zoo_load(name, tmp_path):
    """They contain arrays under the names of the model, and their author."""
    cfg = read(f"shapes/{name}_shapes.yaml")
    cfg.MODEL.DEVICE = "cpu"
    values = {key: value.numpy() for key, value in build_model(cfg).state_dict().items()}
    path = tmp_path / "model_final_f10217.pkl"
    path.write_bytes(pickle.dumps({"model": values, "__author__": "Detectron2 Model Zoo"}))
    model = build_model(cfg)
    Checkpointer(model, complete=True).load(str(path))
    assert all(torch.equal(value, torch.from_numpy(values[key])) for key, value in model.state_dict().items())
