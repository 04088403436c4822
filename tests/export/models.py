"""Small models with weights that find something, for the tests of exported files."""

import json

import cv2
import numpy as np
import torch
from pycocotools import mask as rle

from benchmarks.random_weights import calibrate
from centermask_solo.data.shapes.generator import draw_shapes
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo.exporting import generated
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.model_zoo.verbs import get_config
from centermask_solo.modeling.parts import build_checked
from tests.modeling.models import THREE_LEVELS

CONFIGS = {
    "SOLOv2": "shapes/solov2_shapes.yaml",
    "SOLO": "shapes/solo_shapes.yaml",
    "YOLACT": "shapes/yolact_shapes.yaml",
    "CenterMask": "shapes/centermask_shapes.yaml",
}
# Every level and layer is traced anew, and again by each step of an export, so there are few. ResNet-18 has fewer
# layers than the MobileNetV2 of the configs, which YOLACT keeps.
LEVELS = {**THREE_LEVELS, "NUM_GRIDS": [16, 12, 8], "NUM_INSTANCE_CONVS": 1, "INSTANCE_CHANNELS": 64}
FEW_LEVELS = {**LEVELS, "IN_FEATURES": ["p2", "p5"], "STRIDES": [8, 32], "SCALE_RANGES": ((1, 96), (64, 512))}
FEW_LEVELS |= {"NUM_GRIDS": [16, 8]}  # SOLO's masks of each level are a graph of their own
FCOS_LEVELS = {"IN_FEATURES": ["p3", "p5"], "SIZES_OF_INTEREST": [96], "TOP_LEVELS": 0}
FCOS_LEVELS |= {"NUM_CLASS_CONVS": 1, "NUM_BOX_CONVS": 1}
SMALLER = {
    "SOLOv2": {"SOLOV2": LEVELS},
    "SOLO": {"SOLO": FEW_LEVELS},
    "YOLACT": {
        "YOLACT": {"IN_FEATURES": ["p3", "p5", "p7"], "INPUT_SIZE": 256},  # p7 is made from p5
        "ANCHOR_GENERATOR": {"SIZES": [[27, 40], [120, 180], [300, 360]]},
    },
    "CenterMask": {
        "FCOS": FCOS_LEVELS,
        "ROI_HEADS": {"IN_FEATURES": ["p3", "p4", "p5"]},
        "ROI_MASK_HEAD": {"NUM_CONV": 1},
    },
}


def save_weights(path, system):
    """Write calibrated random weights of a small model, with its config and class names."""
    torch.manual_seed(0)
    cfg = get_config(CONFIGS[system])
    for node, options in SMALLER[system].items():
        cfg.MODEL[node].update(options)
    if system != "YOLACT":
        cfg.MODEL.BACKBONE.NAME = cfg.MODEL.BACKBONE.NAME.replace("mobilenetv2", "resnet")
        cfg.MODEL.RESNETS.update({"DEPTH": 18, "RES2_OUT_CHANNELS": 64})
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = (0 if system == "YOLACT" else 192), 256  # fast
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


def write_ground_truth(folder, weights):
    """Images, and a json whose objects are what the model finds in them."""
    predictor, annotations = eager(weights), []
    (folder / "images").mkdir()
    for i, (_, image) in enumerate(generated()):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image)
        found = predictor(image)["instances"]
        height, width = found.image_size
        for mask, label in zip(found.pred_masks.numpy()[:5], found.pred_classes.tolist()[:5], strict=True):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            area, box = int(rle.area(code)), rle.toBbox(code).tolist()
            if not area:
                continue
            code = {"size": [height, width], "counts": code["counts"].decode()}
            about = {"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "iscrowd": 0}
            annotations.append(about | {"segmentation": code, "area": area, "bbox": box})
    sizes = [dict(zip(("height", "width"), image.shape[:2], strict=True)) for _, image in generated()]
    images = [{"id": i, "file_name": f"{i}.png", **size} for i, size in enumerate(sizes)]
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(10)]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(path)
