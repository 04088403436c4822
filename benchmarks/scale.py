"""Measure time and memory of crowded images, many classes, many detections and large images; all should grow linearly.

python -m benchmarks.scale objects|classes|pairs [--first 1] [--write]

* objects: a training step of 1,000 and of 5,000 objects in 512 x 512 pixels, of the models of ``configs/shapes``
* classes: a training step and the inference of a model for COCO and of the one for LVIS, 80 and 1,203 classes, at the
  options of their configs; random weights let most pairs of a cell and a class pass LVIS's threshold
* pairs: decoding of FCOS for COCO and LVIS at 800 x 1216 pixels when all pairs of a location and a class pass

Weights and images are random. Each case runs in its own process with one thread; memory is that of the process beyond
model and data.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks.memory import peak_bytes
from benchmarks.processes import MB, cost, in_own_process
from benchmarks.results_file import write_results
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config, value_of
from centermask_solo.modeling.fcos.decode import decode_batch
from centermask_solo.modeling.systems import find_system
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

SHAPES = [f"shapes/{x}_shapes.yaml" for x in ("solov2", "centermask", "yolact")]
LVIS = {
    "SOLOv2/lvis_solov2_R_50_3x.yaml": (512, 768),
    "CenterMask/lvis_centermask_R_50_FPN_ms_3x.yaml": (512, 768),
    "YOLACT/lvis_yolact_resnet50.yaml": (550, 550),
}
CROWDED = (512, 512)
WIDE, STRIDES = (800, 1216), (8, 16, 32, 64, 128)


def config(name: str, *opts: Any) -> CfgNode:
    """Return a config for the CPU without weights."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, name, [*opts, "MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    return cfg


def num_classes_of(cfg: CfgNode) -> int:
    """Return the number of classes of a config."""
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    assert system is not None
    return int(value_of(cfg, system.num_classes_key))


def crowded_image(cfg: CfgNode, count: int, size: tuple[int, int], num_classes: int = 1) -> dict[str, Any]:
    """Return a training input with ``count`` rectangles of 4 to 40 pixels a side."""
    rng = torch.Generator().manual_seed(0)
    height, width = size
    corners = torch.rand(count, 2, generator=rng) * torch.tensor([width - 40, height - 40])
    boxes = torch.cat([corners, corners + 4 + torch.rand(count, 2, generator=rng) * 36], dim=1)
    masks = PolygonMasks([[x[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for x in boxes])
    instances = Instances(size, gt_boxes=Boxes(boxes), gt_classes=torch.arange(count) % num_classes)
    instances.gt_masks = BitMasks.from_polygon_masks(masks, *size) if cfg.INPUT.MASK_FORMAT == "bitmask" else masks
    if cfg.INPUT.KEEP_CROWDS:
        instances.gt_is_crowd = torch.zeros(count, dtype=torch.bool)
    return {"image": torch.randint(0, 255, (3, *size), dtype=torch.uint8, generator=rng), "instances": instances}


def train_step(model: nn.Module, batch: list[dict[str, Any]]) -> None:
    """Compute the losses of a batch and all gradients."""
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    model.zero_grad()


def predict(model: nn.Module, batch: list[dict[str, Any]]) -> int:
    """Return the number of instances that are found in the first image."""
    with torch.no_grad():
        return len(model(batch)[0]["instances"])


def measure_objects(name: str, count: int) -> dict[str, Any]:
    """Measure the training step of a crowded image, after one of an image with ten objects."""
    torch.manual_seed(0)
    cfg = config(name)
    model, image = build_model(cfg).train(), crowded_image(cfg, count, CROWDED)
    train_step(model, [crowded_image(cfg, 10, CROWDED)])
    return {"config": name, "objects": count, **_summary(lambda: train_step(model, [image]))}


def measure_classes(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Measure a training step with ten objects, and the inference of the same image."""
    torch.manual_seed(0)
    cfg = config(name)
    model, num_classes = build_model(cfg), num_classes_of(cfg)
    image = crowded_image(cfg, 10, size, num_classes)
    found: dict[str, Any] = {"config": name, "classes": num_classes}
    for what, stage in {"training": train_step, "inference": predict}.items():
        model.train(what == "training")
        tensors = peak_bytes(lambda run=stage: run(model, [image])) / MB  # also warms up
        found[what] = {**_summary(lambda run=stage: run(model, [image])), "added_mb": round(tensors)}
    return found


def measure_pairs(num_classes: int) -> dict[str, Any]:
    """Measure FCOS's decoding of one image in which every location passes the threshold as every class."""
    torch.manual_seed(0)
    sizes = [tuple(math.ceil(side / stride) for side in WIDE) for stride in STRIDES]
    classes, distances, centerness = ([torch.rand(1, n, *x) for x in sizes] for n in (num_classes, 4, 1))
    limits: dict[str, Any] = {"score_thresh": 0.0, "thresh_with_centerness": False, "pre_nms_topk": 1000}

    def decode() -> int:
        return len(decode_batch(classes, distances, centerness, strides=STRIDES, **limits)[0].scores)

    decode()  # warms up
    pairs = num_classes * sum(height * width for height, width in sizes)
    return {"pairs": pairs, "classes": num_classes, **_summary(decode), "added_mb": round(peak_bytes(decode) / MB)}


def _summary(stage: Callable[[], Any]) -> dict[str, float]:
    return cost(stage)[1].summary()


CASES: dict[str, tuple[Callable[..., dict[str, Any]], list[tuple[Any, ...]]]] = {
    "objects": (measure_objects, [(name, n) for name in SHAPES for n in (1000, 5000)]),
    "classes": (
        measure_classes,
        [(config, size) for name, size in LVIS.items() for config in (name.replace("lvis_", ""), name)],
    ),
    "pairs": (measure_pairs, [(80,), (1203,)]),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=CASES)
    parser.add_argument("--first", type=argument(COUNT), metavar="N", help="measure the first cases only")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/scale_<what>-*.json")
    args = parser.parse_args()
    function, cases = CASES[args.what]
    results = []
    for case in cases[: args.first]:
        results.append(in_own_process(function, *case))
        print(results[-1], flush=True)
    if args.write:
        write_results(f"scale_{args.what}", results)


if __name__ == "__main__":
    with reported_errors():
        main()
