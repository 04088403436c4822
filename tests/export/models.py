"""Small models with weights that find something, for the tests of exported files."""

import numpy as np
import torch

from benchmarks.random_weights import calibrate
from centermask_solo.data.shapes.generator import draw_shapes
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo.exporting import generated
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.model_zoo.verbs import get_config
from centermask_solo.modeling.parts import build_checked

CONFIGS = {
    "SOLOv2": "shapes/solov2_shapes.yaml",
    "SOLO": "shapes/solo_shapes.yaml",
    "YOLACT": "shapes/yolact_shapes.yaml",
    "CenterMask": "shapes/centermask_shapes.yaml",
}


def save_weights(path, system):
    """Write calibrated random weights of a small model, with its config and class names."""
    torch.manual_seed(0)
    cfg = get_config(CONFIGS[system])
    cfg.MODEL.DEVICE = "cpu"
    model = build_checked(cfg)
    images = [torch.from_numpy(draw_shapes("calibrate", i).image[:192].transpose(2, 0, 1).copy()) for i in range(4)]
    calibrate(model, [x.float() for x in images])
    names = [f"class {i}" for i in range(10)]
    content = {"model": model.state_dict(), "config": cfg.dump(), "thing_classes": names}
    torch.save(content, path)
    return str(path)


def eager(weights):
    """The predictor that an exported file is compared with."""
    return Predictor(load_cfg(weights, opts=["MODEL.DEVICE", "cpu", "MODEL.CHANNELS_LAST", "False"]))


def photographs():
    """Images of several sizes, in BGR order."""
    samples = [image for _, image in generated()]
    return [*samples, np.ascontiguousarray(samples[0][:100]), np.ascontiguousarray(samples[1][:, :90])]
