"""Export trained weights and compare each file with PyTorch on photographs.

    python -m benchmarks.export_trained --images FOLDER [--models solov2 centermask yolact] [--iterations 400]
    python -m benchmarks.export_trained --images FOLDER --weights model_final.pth --formats onnx openvino

Without ``--weights``, the demos' models are trained first, on generated images. Detections need not be right to be
compared; those of trained weights are as clear as they are in use.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.export_matrix import fault_of, summary
from benchmarks.results_file import write_results
from centermask_solo.demo import demo_configs, run_demo
from centermask_solo.export.exporter import ExportOptions, trace_predictor, write_traced
from centermask_solo.export.verification import find_references, verify
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.sources import find_images
from centermask_solo.model_zoo.exporting import fit, on_the_cpu, read_images
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.modeling.instance_part import instance_part
from centermask_solo.registration import register
from centermask_solo.runtime.formats import FORMATS
from centermask_solo.runtime.predictor import ExportedPredictor
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", required=True, help="photographs: files, folders, patterns")
    parser.add_argument("--count", type=argument(COUNT), default=40, help="most photographs (%(default)s)")
    parser.add_argument("--weights", nargs="+", default=[], help="weight files (default: train)")
    parser.add_argument("--models", nargs="+", choices=demo_configs(), default=["solov2", "centermask", "yolact"])
    parser.add_argument("--iterations", type=argument(COUNT), default=400, help="of each training (%(default)s)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["onnx", "openvino"])
    parser.add_argument("--write", action="store_true", help="add the results to those in benchmarks/results")
    args = parser.parse_args()
    register()
    paths = find_images(args.images)[: args.count]
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for weights in args.weights or (train(name, folder, args.iterations) for name in args.models):
            for result in compare(weights, paths, args.formats, folder):
                print(result, flush=True)
                results.append(result)
    if args.write:
        write_results("export_trained", results, merge_by=("system", "format"))
    if any("fault" in x for x in results):
        raise SystemExit(1)


def train(name: str, folder: str, iterations: int) -> str:
    """Return the weights of a demo's model after a short training."""
    output = os.path.join(folder, name)
    run_demo(name, output, ["SOLVER.MAX_ITER", str(iterations)])
    return os.path.join(output, "model_final.pth")


def compare(weights: str, paths: list[str], formats: list[str], folder: str) -> Iterator[dict[str, Any]]:
    """Yield the differences between PyTorch and a file of each format, on photographs."""
    predictor = Predictor(on_the_cpu(load_cfg(weights)))
    traced = trace_predictor(predictor, ExportOptions())
    images = fit(read_images(paths, predictor.cfg.INPUT.MAX_IMAGE_PIXELS), traced)
    references = find_references(instance_part(predictor.model), images)
    for form in formats:
        about = {"system": traced.about["system"], "format": form, "photographs": len(images)}
        path = str(Path(folder, f"model{FORMATS[form].suffix}"))
        try:
            write_traced(traced, FORMATS[form], path)
            found = summary(verify(references, ExportedPredictor(path, threads=1), images))
        except Exception as error:  # whatever an exporter or a runtime raises is a result, too
            found = fault_of(error)
        yield about | found


if __name__ == "__main__":
    with reported_errors():
        main()
