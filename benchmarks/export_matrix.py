"""Export every architecture of the zoo to every format, compare each file with PyTorch, and write a table.

The weights are random, but :mod:`.random_weights` makes them behave like trained ones. Configs that differ in their
training alone are one architecture. Models, formats and cases can be chosen; results of earlier runs stay in the file,
so that the matrix can be made in parts:

    python -m benchmarks.export_matrix --systems SOLOv2 YOLACT --formats onnx openvino
    python -m benchmarks.export_matrix --models FCOS/fcos_R_50_FPN_1x.yaml --cases detections raw --timeout 240

Each model runs in a process of its own, for a limited time. A model takes a minute of one core in each format.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch

import centermask_solo
from benchmarks.export_table import table
from benchmarks.onnx_lint import lint
from benchmarks.processes import in_own_process
from benchmarks.random_weights import calibrate
from centermask_solo.data.pixels import Pixels
from centermask_solo.export.exporter import ExportOptions, Traced, check_export, trace_predictor, write_traced
from centermask_solo.export.raw_verification import RawVerification, verify_raw
from centermask_solo.export.verification import Verification, find_references, verify
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo.exporting import fit, generated, on_the_cpu
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.model_zoo.signatures import load_signatures
from centermask_solo.model_zoo.verbs import get_config
from centermask_solo.modeling.instance_part import instance_part
from centermask_solo.modeling.parts import build_checked
from centermask_solo.runtime.formats import FORMATS, package_version
from centermask_solo.runtime.predictor import ExportedPredictor
from centermask_solo.utils.errors import UserError, reported_errors
from centermask_solo.utils.files import atomic_write
from centermask_solo.utils.rules import COUNT, argument
from centermask_solo.utils.text import first_line

RESULTS = Path(__file__).parent / "results" / "export_matrix.json"
TABLE = Path(__file__).parents[1] / "docs" / "export_matrix.md"
SYSTEMS = ("SOLOv2", "SOLO", "CenterMask", "YOLACT", "FCOS", "timm")  # folders of configs
NUM_IMAGES = 2  # that each file is compared on
SHORT_EDGE, LONG_EDGE = 320, 427  # pixels of these images, unless the model stretches them
DISTANCE = 3.0  # of random boxes, strides
NUM_SEEDS, MIN_FOUND = 8, 10  # random weights that are tried until they find as many instances in these images
CASES = {
    "detections": ExportOptions(),
    "full-masks": ExportOptions(variant="full-masks"),
    "raw": ExportOptions(variant="raw"),
    "half": ExportOptions(half=True),
    "size": ExportOptions(size=(SHORT_EDGE, LONG_EDGE)),
}


def main() -> None:
    """Export what the arguments choose, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument(
        "--models", nargs="*", help="only these configs, in this order; also others than published ones"
    )
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--cases", nargs="*", choices=CASES, default=["detections"])
    parser.add_argument("--timeout", type=argument(COUNT), default=1200, help="seconds for each model (%(default)s)")
    args = parser.parse_args()
    # Not the runtimes: they start threads, and a forked process may inherit a lock that nothing releases
    multiprocessing.set_forkserver_preload(["benchmarks.export_matrix", "onnxscript"])
    configs = args.models or [x for x in architectures() if x.split("/")[0] in args.systems]
    for config, case in itertools.product(configs, args.cases):
        keys = [f"{config} {form} {case}" for form in args.formats]
        store({key: {"unfinished": f"not finished after {args.timeout} s"} for key in keys})
        try:
            in_own_process(try_export, config, args.formats, case, timeout=args.timeout, start="forkserver")
        except multiprocessing.TimeoutError:
            print(f"{config} {case}: not finished after {args.timeout} s", flush=True)
    with atomic_write(TABLE) as file:
        file.write(table(read_results(), architectures(), list(CASES), (SHORT_EDGE, LONG_EDGE)))


def read_results() -> dict[str, Any]:
    """Return the results that there are, by "config format case"."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def store(found: dict[str, Any]) -> None:
    """Add results to those that there are."""
    with atomic_write(RESULTS) as file:
        json.dump(read_results() | found, file, indent=1, sort_keys=True)


def architectures() -> dict[str, list[str]]:
    """Return a config of each architecture of the zoo, with the others of the same architecture."""
    groups: dict[Any, list[str]] = {}
    for x in load_signatures():
        if x.config.split("/")[0] in SYSTEMS:
            groups.setdefault((x.system, x.weights, x.prediction), []).append(x.config)
    return {first: others for first, *others in groups.values()}


def try_export(config: str, formats: list[str], case: str) -> dict[str, Any]:
    """Export a model and store what becomes of each format: its fault, or the largest differences."""
    centermask_solo.register()
    with tempfile.TemporaryDirectory() as folder:
        for form, result in results_of(config, formats, case, folder):
            print(f"{config} {form} {case}: {result}", flush=True)
            store({f"{config} {form} {case}": result})
    return {}


def results_of(config: str, formats: list[str], case: str, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield formats and what becomes of a model in them; the model is traced once."""
    options = CASES[case]
    try:
        predictor = random_predictor(config, folder)
        start = time.process_time()
        traced = trace_predictor(predictor, options)
        seconds = time.process_time() - start
        images = fit(generated()[:NUM_IMAGES], traced)
        references = None if case == "raw" else find_references(instance_part(predictor.model), images)
    except Exception as error:
        yield from ((form, fault_of(error)) for form in formats)
        return
    for form in formats:
        try:
            check_export(FORMATS[form], options)
            path = os.path.join(folder, f"{form}{FORMATS[form].suffix}")
            start = time.process_time()
            metadata = write_traced(traced, FORMATS[form], path)
            size = sum(x.stat().st_size for x in Path(folder).glob(f"{form}.*")) / 2**20
            about = {
                "seconds": round(seconds + time.process_time() - start),
                "MiB": round(size),
                "versions": metadata.versions | {x.name: package_version(x.name) for x in FORMATS[form].to_run},
            }
            result = about | summary(_verify(traced, path, images, references))
            yield form, _linted(result, path, options.size is None) if form == "onnx" else result
        except Exception as error:  # whatever an exporter or a runtime raises is a result, too
            yield form, fault_of(error)


def _linted(result: dict[str, Any], path: str, free_sizes: bool) -> dict[str, Any]:
    """Return a result of an ONNX file with the number of its nodes, and what is wrong with its graph."""
    graph = onnx.load(path, load_external_data=False)
    faults = [x for x in (result.get("fault"), *lint(graph, free_sizes)) if x]
    return result | {"nodes": len(graph.graph.node)} | ({"fault": "; ".join(faults)} if faults else {})


def _verify(traced: Traced, path: str, images: list[tuple[str, Pixels]], references: Any) -> Any:
    if references is None:
        return verify_raw(traced.graph, path, images)
    return verify(references, ExportedPredictor(path, threads=1), images)


def fault_of(error: Exception) -> dict[str, Any]:
    """Return the result that an error is."""
    return {"fault": str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"}


def summary(found: Verification | RawVerification) -> dict[str, Any]:
    """Return the number of what was compared, the largest differences, and what is out of bounds."""
    numbers: dict[str, Any] = {"compared": found.num_compared}
    if found.faults:
        numbers["fault"] = "; ".join(found.faults)
    if found.rounding:
        numbers["loss"] = found.loss()
    if isinstance(found, RawVerification):
        return numbers | {"relative": max(x.difference / x.largest for x in found.differences if x.largest)}
    differences = [x for x in found.differences if x.matched]
    return numbers | {
        "reference": sum(x.reference for x in found.differences),
        "found": sum(x.found for x in found.differences),
        "limited": sum(not x.exact for x in found.differences),
        "box": max((x.box for x in differences), default=0.0),
        "score": max((x.score for x in differences), default=0.0),
        "mask_iou": min((x.mask_iou for x in differences), default=1.0),
    }


def random_predictor(config: str, folder: str) -> Predictor:
    """Return a predictor of a config with calibrated random weights, which are written to a folder.

    They are the first ones that find something worth comparing: masks of others may all be empty.
    """
    opts = ["INPUT.MIN_SIZE_TEST", str(SHORT_EDGE), "INPUT.MAX_SIZE_TEST", str(LONG_EDGE)]
    images = [image for _, image in generated()[:NUM_IMAGES]]
    for seed in range(NUM_SEEDS):
        weights = random_weights_of(config, os.path.join(folder, "weights.pth"), seed)
        predictor = Predictor(on_the_cpu(load_cfg(weights, opts=opts)))
        if sum(len(predictor(image)["instances"]) for image in images) >= MIN_FOUND:
            break
    return predictor


def random_weights_of(config: str, path: str, seed: int = 0) -> str:
    """Write calibrated random weights of a config to a file; return its path."""
    torch.manual_seed(seed)
    cfg = get_config(config)
    cfg.MODEL.DEVICE = "cpu"
    model = build_checked(cfg)
    images = [_enlarged(image) for _, image in generated()[:NUM_IMAGES]]
    tensors = [torch.from_numpy(x.transpose(2, 0, 1).astype(np.float32)) for x in images]
    calibrate(model, tensors, DISTANCE)
    torch.save({"model": model.state_dict(), "config": cfg.dump()}, path)
    return path


def _enlarged(image: Pixels) -> Any:
    factor = SHORT_EDGE / min(image.shape[:2])
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


if __name__ == "__main__":
    with reported_errors():
        main()
