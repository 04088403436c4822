"""A small R-CNN and inputs for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from detectron2.structures import Boxes, Instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.rcnn import RCNN
from centermask_solo.modeling.rcnn.fitting import FitOptions
from centermask_solo.modeling.rcnn.meta_arch import RegionOptions
from centermask_solo.modeling.rcnn.svm import SVMOptions
from centermask_solo.modeling.rcnn.targets import SamplingOptions

CONFIG = Path(__file__).parents[3] / "configs" / "shapes" / "rcnn_shapes.yaml"
K = 2
SMALL = [
    *["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MOBILENETV2.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", 0],
    *["MODEL.RCNN.NUM_CLASSES", K, "MODEL.RCNN.REGION_SIZE", 32, "MODEL.RCNN.CONTEXT", 4, "MODEL.RCNN.FC_DIM", 32],
    *["MODEL.RESNETS.OUT_FEATURES", ["res3"], "MODEL.RCNN.IN_FEATURE", "res3"],
]


def tiny_cfg(*overrides: object) -> CfgNode:
    """Return the config of the small model, with ``overrides``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIG))
    cfg.merge_from_list(SMALL + list(overrides))
    return cfg


def tiny_model(*overrides: object) -> RCNN:
    """Return a model of :func:`tiny_cfg` with random weights, always the same, in evaluation mode."""
    torch.manual_seed(0)
    return build_model(tiny_cfg(*overrides)).eval()


class Colors(Backbone):
    """Has the colors of the region as its only features."""

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"colors": ShapeSpec(channels=3, stride=4)}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"colors": torch.nn.functional.avg_pool2d(x, 4)}


def color_model() -> RCNN:
    """Return an R-CNN that sees regions as 4 x 4 colors."""
    torch.manual_seed(0)
    svm = SVMOptions(c=10.0, positive_weight=2.0, max_negatives=1000)
    model = RCNN(
        backbone=Colors(),
        in_feature="colors",
        pooled_size=4,
        fc_dim=64,
        pixel_mean=[70.0] * 3,
        pixel_std=[50.0] * 3,
        num_classes=K,
        regions=RegionOptions("single", size=32, context=4, per_batch=64, max_test=100),
        sampling=SamplingOptions(16, 0.25, 0.5),
        fit_options=FitOptions(0, svm, 0.3, 1, 1.0, 0.4, 1000, 10**8),
        test_score_thresh=0.25,
        test_nms_thresh=0.3,
        test_max_detections=100,
    )
    return model.eval()


def scene(seed: int, size: tuple[int, int] = (64, 96)) -> dict[str, Any]:
    """Return an image with a red and a green rectangle, classes 0 and 1, their boxes, and regions near and far."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.full((3, *size), 60.0) + torch.randint(0, 20, (3, *size), generator=generator)
    boxes = []
    for k, left in ((0, 4), (1, 50)):
        x, y = left + int(torch.randint(0, 12, (), generator=generator)), 8 + 3 * k
        w, h = (int(v) for v in torch.randint(20, 32, (2,), generator=generator))
        image[k, y : y + h, x : x + w] = 230.0
        boxes.append([x, y, x + w, y + h])
    gt_boxes = torch.tensor(boxes, dtype=torch.float32)
    near = gt_boxes.repeat(4, 1) + 3 * torch.randn(8, 4, generator=generator)
    corners = torch.rand(12, 2, generator=generator) * torch.tensor([size[1] - 20.0, size[0] - 20.0])
    far = torch.cat([corners, corners + 12], dim=1)
    gt = Instances(size, gt_boxes=Boxes(gt_boxes), gt_classes=torch.tensor([0, 1]))
    proposals = Instances(size, proposal_boxes=Boxes(torch.cat([near, far])), objectness_logits=torch.zeros(20))
    return {"image": image, "instances": gt, "proposals": proposals, "file_name": f"{seed}.png"}
