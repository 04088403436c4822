"""Every system of the history can be taken apart and drawn, whatever its weights."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from benchmarks import history_panels, history_pictures, history_run
from benchmarks.history import SYSTEMS, options
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.data.shapes.generator import draw_shapes
from centermask_solo.demo import demo_configs
from centermask_solo.inference.stages import Clock, methods_measured

STAGES = {
    "rcnn": {"selective search", "warping", "network, per region", "SVMs and box regression", "decoding and NMS"},
    "fast_rcnn": {"backbone", "box head and NMS"},
    "faster_rcnn": {"backbone", "RPN", "NMS of proposals", "box head and NMS"},
    "mask_rcnn": {"backbone", "RPN", "NMS of proposals", "box head and NMS", "mask head"},
}
STAGES["mask_rcnn_roipool"] = STAGES["mask_rcnn"]
ONE_STAGE = {"backbone", "heads on the whole image", "decoding and NMS", "masks"}
STAGES["centermask"] = ONE_STAGE | {"mask head"}


def model_and_input(system, tmp_path):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    more = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.MOBILENETV2.NORM", "BN"]
    merge_config(cfg, demo_configs()[system], [*options(system, tmp_path), *more])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    image = np.ascontiguousarray(draw_shapes("val", 6, size=160).image)
    boxes = Boxes(torch.tensor([[10.0, 10, 60, 50], [30, 20, 90, 70], [5, 5, 40, 90]]))
    proposals = Instances(image.shape[:2], proposal_boxes=boxes, objectness_logits=torch.zeros(3))
    return model, {"image": torch.from_numpy(image).permute(2, 0, 1).float(), "proposals": proposals}, image


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_stages_and_picture(system, tmp_path):
    model, x, image = model_and_input(system, tmp_path)
    clock = Clock(torch.device("cpu"), cpu_time=True)
    with methods_measured(history_run.methods_of(model), clock), clock.stage("rest"):
        model([x])
    expected = STAGES.get(system, ONE_STAGE)
    assert clock.read().keys() - {"rest"} == expected
    row = history_pictures.picture(model, x, image)
    assert row.dtype == np.uint8 and row.shape[0] == history_panels.HEIGHT + history_panels.CAPTION
    assert row.shape[1] > 3 * history_panels.HEIGHT


def test_samples_of_roi_align_lie_inside_the_box_and_cells_of_roi_pool_on_the_grid():
    image = np.zeros((60, 60, 3), np.uint8)
    box = torch.tensor([13.0, 17, 41, 45])
    for rounded in (False, True):
        drawn = history_panels.sampled_crop(image, box, 4.0, 7, rounded)
        rows, columns = np.nonzero((drawn == history_panels.YELLOW).all(axis=2))
        pad = 0.2 * 28 + 4
        left, top = int(13 - pad), int(17 - pad)
        x, y = columns / 8 + left, rows / 8 + top
        if rounded:  # lines at multiples of the stride, two pixels wide
            assert x.min() >= 12 - 0.3 and y.min() >= 16 - 0.3 and x.max() <= 44.3 and y.max() <= 48.3
        else:
            assert x.min() > 13 and x.max() < 41 and y.min() > 17 and y.max() < 45
