"""Take the prediction of a trained system apart in its own process, and draw how it works; history.py starts it.

python -m benchmarks.history_run stages SYSTEM --iterations N --output FOLDER [--opts KEY VALUE ...]

Adds the CPU time of each stage to FOLDER/SYSTEM.json, and writes FOLDER/pictures/SYSTEM.jpg.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from benchmarks.history_pictures import picture
from benchmarks.system_run import SEARCH_MODE, build_cfg, machine
from centermask_solo.checkpoint import Checkpointer
from centermask_solo.demo import demo_configs
from centermask_solo.inference.stages import Clock, methods_measured
from centermask_solo.modeling.parts import needs_proposals
from centermask_solo.ops.selective_search import selective_search
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.files import atomic_write

IMAGES, WARM_UP = 20, 2
DRAWN = 6  # index of the image in the pictures, which is the same for all systems
SEARCH, REST = "selective search", "rest"
# Methods by their paths in the model, and the stages that they are; a model has those that exist in it. A stage inside
# another one does not count to that.
STAGES = (
    ("propose", SEARCH),
    ("warp", "warping"),
    ("pool", "network, per region"),
    ("predict_from", "SVMs and box regression"),
    ("backbone.forward", "backbone"),
    ("proposal_generator.rpn_head.forward", "RPN"),
    ("proposal_generator.predict_proposals", "NMS of proposals"),
    ("roi_heads._forward_box", "box head and NMS"),
    ("roi_heads._forward_mask", "mask head"),
    ("roi_heads.forward_with_given_boxes", "mask head"),
    ("predict", "heads on the whole image"),
    ("inference", "decoding and NMS"),
    ("paste", "masks"),
    ("postprocess", "masks"),
)
ONLY_RCNN = ("propose", "warp", "pool", "predict_from")  # other systems have methods of these names, too


def methods_of(model: torch.nn.Module) -> list[tuple[Any, str, str]]:
    """Return the methods of a model that are stages, as ``methods_measured`` takes them."""
    is_rcnn, is_detectron2s = hasattr(model, "propose"), not hasattr(model, "predict")
    found = []
    for path, stage in STAGES:
        *parents, name = path.split(".")
        owner = reduce(lambda x, y: getattr(x, y, None), parents, model)
        if is_detectron2s and not parents:  # its ``inference`` is everything
            continue
        if path in (("backbone.forward",) if is_rcnn else ONLY_RCNN):
            continue
        if path == "roi_heads._forward_mask" and not getattr(owner, "mask_on", False):
            continue
        if path == "roi_heads.forward_with_given_boxes" and is_detectron2s:  # around _forward_mask
            continue
        if callable(getattr(owner, name, None)):
            found.append((owner, name, stage))
    return found


@torch.no_grad()
def measure(cfg: CfgNode, output: Path) -> dict[str, Any]:
    """Return the median CPU seconds of each stage, and write the picture of the system."""
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    cfg.DATALOADER.NUM_WORKERS = 0
    model = Trainer.build_model(cfg).eval()
    Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    inputs = [
        x for batch in itertools.islice(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]), IMAGES) for x in batch
    ]
    clock = Clock(torch.device(cfg.MODEL.DEVICE), cpu_time=True)
    times: list[dict[str, float]] = []
    with methods_measured(methods_of(model), clock):
        for i, x in enumerate([*inputs[:WARM_UP], *inputs]):
            if hasattr(model, "propose"):
                x = {key: value for key, value in x.items() if key != "proposals"}  # so that it searches itself
            with clock.stage(REST):
                if needs_proposals(cfg):
                    with clock.stage(SEARCH):
                        selective_search(rgb(cfg, x), SEARCH_MODE)
                model([x])
            seconds = clock.read()
            times += [seconds] if i >= WARM_UP else []
    file = output / "pictures" / f"{Path(cfg.OUTPUT_DIR).name}.jpg"
    with atomic_write(file, "wb") as target:
        Image.fromarray(picture(model, inputs[DRAWN], rgb(cfg, inputs[DRAWN]))).save(target, "JPEG", quality=80)
    order = dict.fromkeys((SEARCH, *(stage for _, stage in STAGES), REST))
    names = [name for name in order if any(name in x for x in times)]
    return {
        "stages": {name: statistics.median(x.get(name, 0.0) for x in times) for name in names},
        "images": len(inputs),
    }


def rgb(cfg: CfgNode, x: dict[str, Any]) -> np.ndarray:
    """Return the image of an input, (H, W, 3) uint8."""
    image = x["image"].permute(1, 2, 0).byte().numpy()
    return np.ascontiguousarray(image if cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1])


def main(argv: list[str] | None = None) -> None:
    """Run the step and add its measurements to the system's json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["stages"])
    parser.add_argument("system", choices=demo_configs())
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args(argv)
    with reported_errors():
        cfg = build_cfg(args.system, args.iterations, args.output, args.opts)
        measured = measure(cfg, args.output) | {"machine": machine(cfg), "date": time.strftime("%Y-%m-%d")}
        path = args.output / f"{args.system}.json"
        record = json.loads(path.read_text())
        with atomic_write(path) as file:
            file.write(json.dumps(record | {"stages": measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
