"""Time of prediction in ONNX Runtime and OpenVINO beside PyTorch, interleaved, with one thread.

    python -m benchmarks.exported [YOLACT/yolact_resnet50.yaml ...] [--runs 10] [--int8] [--write]

The models have random weights of trained scale, so that some detections are found. Images of 480 x 640 pixels are
generated. Times are CPU time, which other programs on the machine do not lengthen much; the least of the runs counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

import centermask_solo
from benchmarks.export_matrix import random_weights_of
from benchmarks.processes import in_own_process
from benchmarks.results_file import write_results
from centermask_solo.export.exporter import ExportOptions, trace_predictor, write_traced
from centermask_solo.inference.benchmark import TOTAL, benchmark
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.stages import MODEL
from centermask_solo.model_zoo.exporting import fit, generated, on_the_cpu
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.runtime.formats import FORMATS, package_version
from centermask_solo.runtime.predictor import ExportedPredictor
from centermask_solo.utils.errors import WeightsError, reported_errors
from centermask_solo.utils.rules import COUNT, argument

MODELS = (
    "YOLACT/yolact_resnet50.yaml",
    "CenterMask/centermask_lite_Mv2_FPN_ms_4x.yaml",
    "SOLOv2/solov2_R_18_light448_3x.yaml",
)
PYTORCH = "PyTorch"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=MODELS)
    parser.add_argument("--runs", type=argument(COUNT), default=10, help="measured runs of each (%(default)s)")
    parser.add_argument("--int8", action="store_true", help="measure files of 8-bit integers, too")
    parser.add_argument("--folder", default="", help="keep the files here, and use those that are there")
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for config in args.configs:
            folder = os.path.join(args.folder or temporary, Path(config).stem)
            os.makedirs(folder, exist_ok=True)
            files = in_own_process(export, config, folder, args.int8)
            results.append(in_own_process(measure, config, files, args.runs))
            print(table(results[-1]), flush=True)
    if args.write:
        write_results("exported", results)


def export(config: str, folder: str, int8: bool) -> dict[str, Any]:
    """Return the files of a model with random weights, by what runs them; those that exist are not made again."""
    centermask_solo.register()
    files = {PYTORCH: "weights.pth", "ONNX Runtime": "model.onnx", "OpenVINO": "model.xml"}
    if int8:
        files |= {"ONNX Runtime, int8": "int8.onnx", "OpenVINO, int8": "int8.xml"}
    files = {name: os.path.join(folder, file) for name, file in files.items()}
    if all(map(os.path.exists, files.values())):
        return files
    predictor = Predictor(on_the_cpu(load_cfg(random_weights_of(config, files[PYTORCH]))))
    traced = trace_predictor(predictor, ExportOptions())
    for name, form in (("ONNX Runtime", "onnx"), ("OpenVINO", "openvino")):
        write_traced(traced, FORMATS[form], files[name])
    if int8:
        traced = trace_predictor(predictor, ExportOptions(int8=True))
        images = [x for _, x in fit(generated(), traced)]
        for name, form in (("ONNX Runtime, int8", "onnx"), ("OpenVINO, int8", "openvino")):
            write_traced(traced, FORMATS[form], files[name], images)
    return files


def measure(config: str, files: dict[str, str], runs: int) -> dict[str, Any]:
    """Return the report of the files of a model."""
    centermask_solo.register()
    files = {name: path for name, path in files.items() if name == PYTORCH or _works(path)}
    eager = on_the_cpu(load_cfg(files[PYTORCH]))
    eager.MODEL.CHANNELS_LAST = True  # the default, which tracing turns off
    sources = files | {PYTORCH: eager}
    report = benchmark(sources, runs=runs, threads=1, cpu_time=True).to_json()
    for row in report["measured"]:
        row["weights"] = os.path.basename(row["weights"])
    report["machine"] |= {name: package_version(name) for name in ("onnxruntime", "openvino")}
    return {"config": config, **report}


def _works(path: str) -> bool:
    """Return whether a file gives results; say so if not."""
    try:
        ExportedPredictor(path)(generated()[0][1])
    except WeightsError as error:
        print(f"not measured: {error}", flush=True)
        return False
    return True


def table(report: dict[str, Any]) -> str:
    """Return the least seconds of each, with and without reading, resizing and masks, and the memory of a run."""
    rows = []
    for x in report["measured"]:
        networks = [sum(values) for values in zip(*(x["seconds"][s] for s in _networks(x["seconds"])), strict=True)]
        rows.append(
            (x["name"], f"{min(networks):.3f} s", f"{min(x['seconds'][TOTAL]):.3f} s", f"{x['detections']:.0f}")
        )
    headers = (report["config"], "network, decoding and, of files, masks at their resolution", TOTAL, "detections")
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _networks(seconds: dict[str, list[float]]) -> list[str]:
    """Return the stages from pixels to detections without masks of full size."""
    return [MODEL] if MODEL in seconds else ["normalize and pad", "network", "decode and NMS"]


if __name__ == "__main__":
    with reported_errors():
        main()
