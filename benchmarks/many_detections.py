"""Measure images in which many objects are detected, and large ones; time and memory should grow linearly.

python -m benchmarks.many_detections detections|masks [--first 1] [--write]

* detections: decoding, NMS and masks of an image of 480 x 640 with at most 500 and 2,000 candidates
* masks: 75 and 300 masks of an image of 12 megapixels: made, turned into COCO's results, and drawn, as ``predict`` and
  evaluation do

The outputs of the networks are synthetic, as in ``solov2_memory`` and ``yolact_memory``. Each case runs in its own
process with one thread; memory is that of the process beyond the outputs.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from benchmarks import solov2_memory, yolact_memory
from benchmarks.processes import cost, in_own_process
from benchmarks.results_file import write_results
from centermask_solo.modeling.pasting import paste_into_whole_boxes
from centermask_solo.structures.mask_formats import MaskFormat, coco_results, in_parts
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument
from centermask_solo.visualization.drawing import draw_predictions

SMALL, LARGE = (480, 640), (3000, 4000)
SYNTHETIC: dict[str, Any] = {"SOLOv2": solov2_memory, "YOLACT": yolact_memory}


def model_and_outputs(system: str, count: int) -> tuple[Any, Any, tuple[int, int]]:
    """Return a model with room for ``count`` detections, the outputs of its networks, and the size of their input."""
    module = SYNTHETIC[system]
    case = module.CASES["all_pass"]
    model, outputs = module.build(case), module.predictions(case)
    model.test_max_detections, model.test_max_candidates = count, count
    return model, outputs, model.input_size or case.image_size


def measure_detections(system: str, count: int) -> dict[str, Any]:
    """Measure everything after the networks for a small image."""
    model, outputs, size = model_and_outputs(system, count)
    found, decoding = cost(lambda: model.inference(outputs, [size])[0])
    _, masks = cost(lambda: model.postprocess(found, outputs, 0, SMALL))
    return {"system": system, "limit": count, "found": len(found), "nms": decoding.summary(), "masks": masks.summary()}


def centermask_detections(count: int) -> Instances:
    """Return random boxes of 5 to 25 % of the sides, with round RoI masks."""
    rng = torch.Generator().manual_seed(0)
    size = (768, 1024)
    scale = torch.tensor([size[1], size[0]])
    centers, sides = (torch.rand(count, 2, generator=rng) * scale for _ in range(2))
    sides = sides * 0.2 + scale * 0.05
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, 28),) * 2, indexing="ij")
    masks = (1.3 - x**2 - y**2).clamp(0, 1).expand(count, 1, -1, -1)
    boxes = Boxes(torch.cat([centers - sides / 2, centers + sides / 2], dim=1))
    return Instances(
        size, pred_boxes=boxes, scores=torch.rand(count), pred_classes=torch.arange(count) % 80, pred_masks=masks
    )


def measure_masks(system: str, count: int, mask_format: MaskFormat = "compact") -> dict[str, Any]:
    """Measure the way of a large image's masks to a result and a picture."""
    if system == "CenterMask":
        found = centermask_detections(count)
        paste = partial(paste_into_whole_boxes, output_height=LARGE[0], output_width=LARGE[1])
    else:
        model, outputs, size = model_and_outputs(system, max(count, 500))
        found = model.inference(outputs, [size])[0][:count]
        paste = partial(model.postprocess, predictions=outputs, index=0, output_size=LARGE)
    image = np.zeros((*LARGE, 3), np.uint8)
    instances, made = cost(lambda: in_parts(paste, found, LARGE, {"mask_format": mask_format}))
    _, written = cost(lambda: coco_results(instances, 1))
    _, drawn = cost(lambda: draw_predictions(image, instances, Metadata(thing_classes=[str(i) for i in range(80)])))
    stages = {"made": made.summary(), "results": written.summary(), "drawn": drawn.summary()}
    return {"system": system, "masks": count, "found": len(instances), **stages}


CASES = {
    "detections": [(measure_detections, name, n) for name in SYNTHETIC for n in (500, 2000)],
    "masks": [(measure_masks, name, n) for name in ("CenterMask", *SYNTHETIC) for n in (75, 300)],
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=CASES)
    parser.add_argument("--first", type=argument(COUNT), metavar="N", help="measure the first cases only")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/many_<what>-*.json")
    args = parser.parse_args()
    results = []
    for function, *case in CASES[args.what][: args.first]:
        results.append(in_own_process(function, *case))
        print(results[-1], flush=True)
    if args.write:
        write_results(f"many_{args.what}", results)


if __name__ == "__main__":
    with reported_errors():
        main()
