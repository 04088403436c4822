"""Prediction in float32, bfloat16 and int8, interleaved, with one thread: CPU time of each stage.

Each image is predicted by itself; what counts is the least of the rounds' means over the images.

The first row has feature maps as (N, C, H, W), PyTorch's default, the others as (N, H, W, C), that of this package.

    python -m benchmarks.precisions [CONFIG ...] [--images FOLDER] [--runs 5] [--onnx] [--write]

The models have random weights of trained scale, so that each image has detections; int8 is calibrated on the images.
``--onnx`` also measures files of ONNX Runtime, in float32 and int8.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from tabulate import tabulate

import centermask_solo
from benchmarks.export_matrix import random_weights_of
from benchmarks.processes import in_own_process
from benchmarks.results_file import write_results
from centermask_solo.export.exporter import ExportOptions, trace_predictor, write_traced
from centermask_solo.inference.benchmark import TOTAL, benchmark
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.sources import find_images
from centermask_solo.model_zoo.exporting import fit, generated, on_the_cpu
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.modeling.quantization import calibrate, write_ranges
from centermask_solo.runtime.formats import FORMATS
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

MODELS = (
    "SOLOv2/solov2_R_50_3x.yaml",
    "CenterMask/centermask_V_39_eSE_FPN_ms_3x.yaml",
    "CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml",
    "YOLACT/yolact_resnet50.yaml",
)
VARIANTS = {  # name: precision, layout
    "float32, (N, C, H, W)": ("float32", False),
    "float32": ("float32", True),
    "bfloat16": ("bfloat16", True),
    "int8": ("int8", True),
}


def measure(config: str, paths: Sequence[str], runs: int, onnx: bool) -> dict[str, Any]:
    """Return the report of a model in each precision."""
    centermask_solo.register()
    with tempfile.TemporaryDirectory() as folder:
        cfg = on_the_cpu(load_cfg(random_weights_of(config, os.path.join(folder, "weights.pth"))))
        predictor = Predictor(cfg)
        images: list[Any] = list(paths) or [x for _, x in generated()]
        ranges = calibrate(predictor.model, ([predictor.model_input(predictor.read(x))] for x in images))
        write_ranges(ranges, os.path.join(folder, "int8.json"))
        sources: dict[str, CfgNode | str] = {}
        for name, (dtype, channels_last) in VARIANTS.items():
            sources[name] = variant = cfg.clone()
            options = ["TEST.DTYPE", dtype, "TEST.INT8_RANGES", os.path.join(folder, "int8.json")]
            variant.merge_from_list([*options, "MODEL.CHANNELS_LAST", channels_last])
        if onnx:
            sources |= _files(predictor, folder)
        del predictor
        count = len(images)
        report = benchmark(sources, paths, runs=runs * count, threads=1, cpu_time=True).to_json()
        return {"config": config, "images_of_a_round": count, **report}


def _files(predictor: Predictor, folder: str) -> dict[str, str]:
    """Write the model for ONNX Runtime in float32 and int8; return the files."""
    files = {}
    for name, int8 in (("ONNX Runtime", False), ("ONNX Runtime, int8", True)):
        files[name] = os.path.join(folder, f"{int8}.onnx")
        traced = trace_predictor(predictor, ExportOptions(int8=int8))
        images = [x for _, x in fit(generated(), traced)] if int8 else ()
        write_traced(traced, FORMATS["onnx"], files[name], images)
    return files


def table(report: dict[str, Any]) -> str:
    """Return the milliseconds of each stage in the fastest round, the ratio to the first row, and the detections."""
    rows = []
    count = report["images_of_a_round"]
    first = _least(report["measured"][0]["seconds"][TOTAL], count)
    stages = list(dict.fromkeys(stage for x in report["measured"] for stage in x["seconds"]))
    for x in report["measured"]:
        least = {stage: _least(values, count) for stage, values in x["seconds"].items()}
        cells = [f"{1000 * least[stage]:,.0f}" if stage in least else "" for stage in stages]
        rows.append([x["name"], *cells, f"{first / least[TOTAL]:.2f}", f"{x['detections']:.0f}"])
    headers = [Path(report["config"]).stem, *stages, "times as fast", "detections"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _least(seconds: Sequence[float], count: int) -> float:
    """Return the least mean of the rounds, of ``count`` images each."""
    return float(np.reshape(seconds, (-1, count)).mean(axis=1).min())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=MODELS)
    parser.add_argument("--images", default="", help="folder of images (default: generated, 480 x 640)")
    parser.add_argument("--count", type=argument(COUNT), default=4, help="images of it (%(default)s)")
    parser.add_argument("--runs", type=argument(COUNT), default=5, help="rounds through the images (%(default)s)")
    parser.add_argument("--onnx", action="store_true", help="measure ONNX Runtime, too")
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results")
    args = parser.parse_args()
    paths = find_images([args.images])[: args.count] if args.images else []
    results = []
    for config in args.configs:
        results.append(in_own_process(measure, config, paths, args.runs, args.onnx))
        print(table(results[-1]), flush=True)
    if args.write:
        write_results("precisions", results)


if __name__ == "__main__":
    with reported_errors():
        main()
