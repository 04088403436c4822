"""Measure everything after the networks, on synthetic outputs: the common part of the memory benchmarks."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import detectron2
import torch
from detectron2.structures import Instances
from torch import Tensor

from benchmarks.memory import peak_bytes
from benchmarks.results_file import device_name, write_results
from centermask_solo.modeling.instance_segmentor import InstanceSegmentor
from centermask_solo.registration import register
from centermask_solo.utils.rules import COUNT, argument

MB = 10**6

register()  # the rules of NMS, which models look up by name


def measure(
    model: InstanceSegmentor,
    outputs: Any,
    image_size: tuple[int, int],
    output_size: tuple[int, int],
    whole_image_masks: Callable[[Instances], Tensor],
    *,
    device: str = "cpu",
    runs: int = 1,
) -> dict[str, object]:
    """Return the peak memory (MB), the median seconds of each stage, and the number of instances.

    Args:
        model: Model whose networks are not run.
        outputs: Synthetic return value of ``model.predict`` for one image.
        image_size: (height, width) in the network's input.
        output_size: (height, width) of the result.
        whole_image_masks: Returns the full-size masks of the result of ``inference`` by interpolating whole images.
        device: "cpu" or "cuda".
        runs: Number of timed runs, of which the median is reported.
    """

    def decode() -> Instances:
        return model.inference(outputs, [image_size])[0]

    def whole() -> Instances:
        return model.postprocess(decode(), outputs, 0, output_size)

    found, count = decode(), len(whole())
    result: dict[str, object] = {"instances": count, "peak_mb": peak_bytes(whole, device) / MB}
    result["peak_without_result_mb"] = result["peak_mb"] - count * output_size[0] * output_size[1] / MB
    stages: dict[str, Callable[[], object]] = {
        "decode_and_nms": decode,
        "masks": lambda: model.postprocess(found, outputs, 0, output_size),
        "masks_by_whole_images": lambda: whole_image_masks(found),
    }
    for name, stage in stages.items():
        times = [_seconds(stage, device) for _ in range(runs)]
        result[f"{name}_s"], result[f"{name}_cpu_s"] = (statistics.median(x) for x in zip(*times, strict=True))
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}


def _seconds(stage: Callable[[], object], device: str) -> tuple[float, float]:
    """Return the wall and the CPU seconds of a stage; the latter is meaningful on a busy machine, too."""
    clock, cpu = time.perf_counter(), time.process_time()
    stage()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - clock, time.process_time() - cpu


def main(script: str, doc: str, cases: Mapping[str, Callable[[str, int], dict[str, object]]]) -> None:
    """Run the command line of a benchmark; ``--write`` writes ``results/<script>-*.json``.

    Args:
        script: Name of the script.
        doc: Its docstring.
        cases: Measurements by name, functions of the device and of the number of runs.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--runs", type=int, default=5, help="timed runs, of which the median is reported")
    parser.add_argument("--first", type=argument(COUNT), metavar="N", help="measure the first cases only")
    parser.add_argument("--write", action="store_true", help=f"write benchmarks/results/{script}-*.json")
    args = parser.parse_args()
    about = {"detectron2": detectron2.__version__, "runs": args.runs}
    print({"device": device_name(args.device), "torch": torch.__version__, **about})
    results = {}
    for name, case in list(cases.items())[: args.first]:
        results[name] = case(args.device, args.runs)
        print(name, results[name])
    if args.write:
        write_results(script, results, args.device, **about)
