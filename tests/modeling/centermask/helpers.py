"""A CenterMask-Lite with a thirtieth of the parameters, and inputs for it."""

from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks, polygons_to_bitmask
from torch import nn

from centermask_solo import add_centermask_solo_config

CONFIGS = Path(__file__).parents[3] / "configs" / "CenterMask"
SIZE = (96, 128)
K = 4
BOXES = [[10.0, 12.0, 60.0, 70.0], [40.0, 30.0, 120.0, 90.0], [5.0, 5.0, 17.0, 15.0]]
SMALL = [
    *["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", K, "MODEL.FPN.OUT_CHANNELS", 64],
    *["MODEL.FCOS.NUM_CLASS_CONVS", 1, "MODEL.FCOS.NUM_BOX_CONVS", 1, "MODEL.FCOS.PRIOR_PROB", 0.2],
    *["MODEL.ROI_MASK_HEAD.NUM_CONV", 1, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16],
    *["MODEL.CENTERMASK.MASK_IOU.NUM_CONVS", 1, "MODEL.CENTERMASK.MASK_IOU.CONV_DIM", 16],
]


def read_config(name: str) -> CfgNode:
    """Return the config of a file in configs/CenterMask."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    return cfg


def make_cfg(*overrides) -> CfgNode:
    """Return the config of the small model, with ``overrides``."""
    cfg = read_config("centermask_lite_Mv2_FPN_ms_4x")
    cfg.merge_from_list(SMALL + list(overrides))
    return cfg


def make_model(*overrides, seed=0) -> nn.Module:
    """Return a model of :func:`make_cfg` whose boxes are some strides wide and whose scores differ."""
    torch.manual_seed(seed)
    model = build_model(make_cfg(*overrides))
    head = model.proposal_generator.fcos_head
    nn.init.normal_(head.cls_logits.weight, std=0.1)
    nn.init.normal_(head.bbox_pred.weight, std=0.05)
    nn.init.constant_(head.bbox_pred.bias, 2.0)
    return model


def make_gt(boxes=(), classes=None, size=SIZE, masks="polygon") -> Instances:
    """Return ground truth whose masks are the lower right triangles of the boxes."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor([i % K for i in range(len(boxes))] if classes is None else classes).long()
    polygons = [[np.array([x1, y0, x1, y1, x0, y1])] for x0, y0, x1, y1 in boxes]
    if masks == "polygon":
        instances.gt_masks = PolygonMasks(polygons)
    else:
        bits = np.zeros((len(boxes), *size), dtype=bool)
        for i, p in enumerate(polygons):
            bits[i] = polygons_to_bitmask(p, *size)
        instances.gt_masks = BitMasks(torch.from_numpy(bits))
    return instances


def make_input(gt=None, size=SIZE, seed=0, **more):
    """Return an input dict with an image of noise."""
    generator = torch.Generator().manual_seed(seed)
    x = {"image": torch.randint(0, 256, (3, *size), generator=generator).float(), **more}
    return x if gt is None else x | {"instances": gt}
