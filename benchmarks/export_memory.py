"""Measure how much memory a run of an exported SOLOv2 takes in ONNX Runtime, with no, few and many detections.

python -m benchmarks.export_memory [CONFIG] [--size 800 1216] [--write]

The weights are random; shifting the class logits in the file changes how many pairs of a cell and a class are detected.
Each case runs in a process of its own: memory is the peak of the process during two runs beyond that after loading.
What decoding adds is that of a case less that of the networks alone, the variant raw.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import centermask_solo
from benchmarks.export_matrix import random_predictor
from benchmarks.processes import cost, in_own_process
from benchmarks.results_file import write_results
from centermask_solo.export.exporter import ExportOptions, export_predictor
from centermask_solo.runtime.formats import FORMATS
from centermask_solo.runtime.session import open_file
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

SHIFTS = {"none": -30.0, "few": 0.0, "many": 6.0}  # added to the class logits
CLASS_BIAS = "model.ins_head.cate_pred.bias"  # in the file


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="SOLOv2/solov2_R_50_3x.yaml")
    parser.add_argument("--size", type=argument(COUNT), nargs=2, metavar=("HEIGHT", "WIDTH"), default=(800, 1216))
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results")
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    network: dict[str, Any] = {}
    size = tuple(args.size)
    with tempfile.TemporaryDirectory() as folder:
        paths = in_own_process(export, args.config, folder)
        files = {"networks alone": paths["raw"]}
        files |= {name: shifted(paths["detections"], shift) for name, shift in SHIFTS.items()}
        for name, path in files.items():
            found = in_own_process(measure, path, size)
            network = network or found
            case = {"config": args.config, "size": list(size), "detections": name}
            results.append(case | found | {"decoding_mb": found["added_mb"] - network["added_mb"]})
            print(results[-1], flush=True)
    if args.write:
        write_results("export_memory", results)


def export(config: str, folder: str) -> dict[str, Any]:
    """Return the paths of the files of a model with random weights, by variant."""
    centermask_solo.register()
    predictor = random_predictor(config, folder)
    paths = {}
    for variant in ("raw", "detections"):
        paths[variant] = os.path.join(folder, f"{variant}.onnx")
        export_predictor(predictor, FORMATS["onnx"], paths[variant], ExportOptions(variant=variant))
    return paths


def shifted(path: str, shift: float) -> str:
    """Return the path of a copy of a file whose class logits are higher by ``shift``."""
    model = onnx.load(path)
    (bias,) = (x for x in model.graph.initializer if x.name == CLASS_BIAS)
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(shift), CLASS_BIAS))
    copy = path.replace(".onnx", f"{shift:g}.onnx")
    onnx.save(model, copy)
    return copy


def measure(path: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the memory of a run of a file, MB, and what it found."""
    session, metadata = open_file(path, threads=1)
    images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    feeds = {"images": images, **({"image_sizes": np.array([size])} if metadata.input.image_sizes else {})}
    found, taken = cost(lambda: [session.run(feeds) for _ in range(2)][-1])
    return {"found": int(found.get("num_detections", [0])[0]), **taken.summary(), "loaded_mb": round(taken.before_mb)}


if __name__ == "__main__":
    with reported_errors():
        main()
