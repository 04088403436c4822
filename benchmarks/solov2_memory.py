"""Memory and time of SOLOv2's decoding, NMS and masks at image size, on made-up outputs of the networks.

python -m benchmarks.solov2_memory [--device cuda] [--runs 5] [--write]

Each case is an image of 800 x 1333 pixels (padded: 800 x 1344) or less. What the networks return is not counted; the
masks at image size, which are the result, are: 107 MB for 100 of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import detectron2
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import peak_bytes
from centermask_solo.modeling.instance_nms import InstanceNMS, MatrixNMS
from centermask_solo.modeling.solov2 import SOLOv2
from centermask_solo.modeling.solov2.heads import SOLOv2InstanceHead, SOLOv2MaskHead
from centermask_solo.modeling.solov2.meta_arch import SOLOv2Predictions

NUM_GRIDS = (40, 36, 24, 16, 12)
STRIDES = (8, 8, 16, 32, 32)
KERNEL_LENGTH = 256
MB = 10**6


class Case(NamedTuple):
    """One set of made-up outputs and settings.

    Attributes:
        what: in words.
        passing: share of the (cell, class) pairs with a class probability above the threshold, before point NMS.
        radius: of the round masks, relative to the image's height; above 2 each covers the whole image.
        num_classes: K.
        score_thresh: class probability that a candidate must exceed.
        max_detections: instances of an image.
        image_size: (height, width) in the network's input.
        output_size: (height, width) of the result.
        dtype: of the networks' outputs.
    """

    what: str
    passing: float = 1.0
    radius: float = 0.1
    num_classes: int = 80
    score_thresh: float = 0.1
    max_detections: int = 100
    image_size: tuple[int, int] = (800, 1333)
    output_size: tuple[int, int] = (800, 1333)
    dtype: torch.dtype = torch.float32


CASES = {
    "typical": Case("0.1 % of the pairs pass, objects of a fifth of the height", passing=0.001),
    "typical_640x480": Case("the same, result of 480 x 640", 0.001, image_size=(800, 1067), output_size=(480, 640)),
    "all_pass": Case("every cell and class passes"),
    "all_pass_whole_image": Case("every cell and class passes, every mask covers the whole image", radius=3.0),
    "all_pass_bfloat16": Case("the same from outputs in bfloat16", radius=3.0, dtype=torch.bfloat16),
    "lvis_all_pass": Case(
        "1230 classes, threshold 0: 4.8 million pairs pass, every mask covers the image", 1.0, 3.0, 1230, 0.0
    ),
}


def build(case: Case, device: str = "cpu", nms: InstanceNMS | None = None) -> SOLOv2:
    """A SOLOv2 whose networks are never run, with the published numbers of inference."""
    channels = 32
    head = SOLOv2InstanceHead(
        in_channels=channels,
        in_strides=(4, 8, 16, 32, 64),
        level_strides=STRIDES,
        num_grids=NUM_GRIDS,
        num_classes=case.num_classes,
        kernel_length=KERNEL_LENGTH,
        channels=channels,
        num_convs=1,
    )
    model = SOLOv2(
        backbone=nn.Identity(),
        instance_head=head,
        mask_head=SOLOv2MaskHead(in_channels=channels, num_levels=4, channels=channels),
        instance_in_features=["p2", "p3", "p4", "p5", "p6"],
        mask_in_features=["p2", "p3", "p4", "p5"],
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(1.0, 1.0, 1.0),
        num_classes=case.num_classes,
        scale_ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
        test_nms=nms or MatrixNMS(),
        test_score_thresh=case.score_thresh,
        test_max_detections=case.max_detections,
    )
    return model.eval().to(device)


def predictions(case: Case, device: str = "cpu") -> SOLOv2Predictions:
    """Outputs for one image: round masks around the centres of their cells, of two or more sizes; random scores."""
    rng = torch.Generator().manual_seed(0)
    height, width = (-(-n // 32) * 8 for n in case.image_size)
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / height, indexing="ij")
    features = torch.zeros(1, KERNEL_LENGTH, height, width)
    features[0, :4] = torch.stack((torch.ones_like(x), x, y, x * x + y * y))  # so that kernels can say circles
    class_logits, kernels = [], []
    for side in NUM_GRIDS:
        probability = case.score_thresh + (0.9 - case.score_thresh) * torch.rand(
            1, case.num_classes, side, side, generator=rng
        )
        passes = torch.rand(probability.shape, generator=rng) <= case.passing
        class_logits.append(torch.where(passes, probability, case.score_thresh / 2).logit())
        cy, cx = torch.meshgrid(*((torch.arange(side) + 0.5) / side for _ in range(2)), indexing="ij")
        cx = cx * width / height
        radius = case.radius * (0.5 + torch.rand(side, side, generator=rng))
        kernel = torch.zeros(1, KERNEL_LENGTH, side, side)
        kernel[0, :4] = torch.stack((radius**2 - cx**2 - cy**2, 2 * cx, 2 * cy, -torch.ones_like(cx)))
        kernels.append(kernel * 3 / radius**2)
    return SOLOv2Predictions(
        [v.to(device, case.dtype) for v in class_logits],
        [v.to(device, case.dtype) for v in kernels],
        features.to(device, case.dtype),
    )


def measure(case: Case, device: str = "cpu", runs: int = 1) -> dict[str, object]:
    """Peak memory (MB), median seconds of each stage, and how many instances come out."""
    model, outputs = build(case, device), predictions(case, device)

    def decode() -> object:
        return model.inference(outputs, [case.image_size])[0]

    def whole() -> object:
        return model.postprocess(decode(), outputs, 0, case.output_size)

    found = decode()
    count = len(model.postprocess(found, outputs, 0, case.output_size))
    result: dict[str, object] = {"what": case.what, "instances": count, "peak_mb": peak_bytes(whole, device) / MB}
    result["peak_without_result_mb"] = result["peak_mb"] - count * case.output_size[0] * case.output_size[1] / MB
    stages = {
        "decode_and_nms": decode,
        "masks": lambda: model.postprocess(found, outputs, 0, case.output_size),
        "masks_by_whole_images": lambda: whole_image_masks(found.kernels, outputs.mask_features[0], case),
    }
    for name, stage in stages.items():
        times = [_seconds(stage, device) for _ in range(runs)]
        result[f"{name}_s"], result[f"{name}_cpu_s"] = (statistics.median(x) for x in zip(*times, strict=True))
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}


def _seconds(stage: Callable[[], object], device: str) -> tuple[float, float]:
    """Seconds on the clock and of this process's processors; the second bears with a machine that others use too."""
    clock, cpu = time.perf_counter(), time.process_time()
    stage()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - cpu


def whole_image_masks(kernels: Tensor, mask_features: Tensor, case: Case, chunk: int = 10) -> Tensor:
    """What the masks at image size would be compared with: whole images interpolated twice, ``chunk`` at a time."""
    masks = torch.zeros(len(kernels), *case.output_size, dtype=torch.bool, device=kernels.device)
    features = mask_features.float()
    for rows, out in zip(kernels.split(chunk), masks.split(chunk), strict=True):
        x = torch.einsum("me,ehw->mhw", rows, features).sigmoid()[None]
        x = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
        x = x[..., : case.image_size[0], : case.image_size[1]]
        out.copy_(F.interpolate(x, case.output_size, mode="bilinear", align_corners=False)[0] > 0.5)
    return masks


def device_name(device: str) -> str:
    """The name of the GPU or of the processor's model, with the threads that are used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=5, help="timed runs, of which the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/solov2_memory-*.json")
    args = parser.parse_args()
    report: dict[str, object] = {
        "device": device_name(args.device),
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
        "runs": args.runs,
    }
    print(report)
    report["cases"] = cases = {}
    for name, case in CASES.items():
        cases[name] = measure(case, args.device, args.runs)
        print(name, cases[name])
    if args.write:
        slug = re.sub(r"[^a-z0-9.]+", "_", f"{report['device']}-torch_{torch.__version__}".lower()).strip("_")
        path = Path(__file__).parent / "results" / f"solov2_memory-{slug}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
