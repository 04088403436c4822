"""Export every model of the zoo to every format and variant, compare each with PyTorch, and write a table.

The weights are random, but :mod:`.random_weights` makes them behave like trained ones. Models, formats and variants can
be chosen; results of earlier runs stay in the file, so that the matrix can be made in parts:

    python -m benchmarks.export_matrix --systems SOLOv2 YOLACT --formats onnx openvino
    python -m benchmarks.export_matrix --models FCOS/fcos_R_50_FPN_1x.yaml --timeout 240

Each export runs in a process of its own, for a limited time. The full matrix takes hours on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import centermask_solo
from benchmarks.processes import in_own_process
from benchmarks.random_weights import calibrate
from centermask_solo.export.exporter import ExportOptions, export_predictor
from centermask_solo.inference.predictor import Predictor
from centermask_solo.model_zoo.exporting import generated, verify_file
from centermask_solo.model_zoo.models import list_models
from centermask_solo.model_zoo.verbs import get_config
from centermask_solo.modeling.parts import build_checked
from centermask_solo.runtime.formats import FORMATS, VARIANTS
from centermask_solo.utils.errors import UserError
from centermask_solo.utils.files import atomic_write
from centermask_solo.utils.rules import COUNT, argument
from centermask_solo.utils.text import first_line

RESULTS = Path(__file__).parent / "results" / "export_matrix.json"
TABLE = Path(__file__).parents[1] / "docs" / "export_matrix.md"
NUM_IMAGES = 2  # that each file is compared on


def main() -> None:
    """Export what the arguments choose, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="*", help="only models of these systems")
    parser.add_argument("--models", nargs="*", help="only these configs, in this order; also of the baselines")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["detections"])
    parser.add_argument("--timeout", type=argument(COUNT), default=600, help="seconds for each file (%(default)s)")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    configs = args.models or [x.config for x in list_models() if not args.systems or x.system in args.systems]
    for form in args.formats:
        for config, variant in itertools.product(configs, args.variants):
            key = f"{config} {form} {variant}"
            try:
                results[key] = in_own_process(try_export, config, form, variant, timeout=args.timeout)
            except multiprocessing.TimeoutError:
                results[key] = {"unfinished": f"not finished after {args.timeout} s"}
            print(f"{key}: {results[key]}", flush=True)
            with atomic_write(RESULTS) as file:
                json.dump(results, file, indent=1, sort_keys=True)
    with atomic_write(TABLE) as file:
        file.write(table(results))


def try_export(config: str, form: str, variant: str) -> dict[str, Any]:
    """Return what became of a model: its fault, or the largest differences; with seconds, MiB and versions."""
    centermask_solo.register()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return compare(config, form, variant, folder)
        except UserError as error:
            return {"fault": str(error)}
        except Exception as error:  # whatever an exporter or a runtime raises is a result, too
            return {"fault": f"{type(error).__name__}: {first_line(error)}"}


def compare(config: str, form: str, variant: str, folder: str) -> dict[str, Any]:
    """Return the differences of an exported file, which is written to a folder, from PyTorch."""
    predictor = random_predictor(config, folder)
    path = os.path.join(folder, f"model{FORMATS[form].suffix}")
    start = time.perf_counter()
    metadata = export_predictor(predictor, FORMATS[form], path, ExportOptions(variant=variant))
    size = sum(x.stat().st_size for x in Path(folder).glob("model.*")) / 2**20
    found = {"seconds": round(time.perf_counter() - start), "MiB": round(size), "versions": metadata.versions}
    if variant == "raw":
        return found
    verification = verify_file(predictor, path, generated()[:NUM_IMAGES], metadata.input)
    if verification.faults:
        found["fault"] = "; ".join(verification.faults)
    differences = [x for x in verification.differences if x.matched]
    return {
        **found,
        "compared": verification.num_compared,
        "limited": sum(not x.exact for x in verification.differences),
        "box": max((x.box for x in differences), default=0.0),
        "score": max((x.score for x in differences), default=0.0),
        "mask_iou": min((x.mask_iou for x in differences), default=1.0),
    }


def random_predictor(config: str, folder: str) -> Predictor:
    """Return a predictor of a config with calibrated random weights, which are written to a folder."""
    torch.manual_seed(0)
    cfg = get_config(config)
    cfg.MODEL.DEVICE, cfg.MODEL.CHANNELS_LAST = "cpu", False
    model = build_checked(cfg)
    images = [np.ascontiguousarray(image.transpose(2, 0, 1)) for _, image in generated()[:NUM_IMAGES]]
    calibrate(model, [torch.from_numpy(x).float() for x in images])
    cfg.MODEL.WEIGHTS = os.path.join(folder, "weights.pth")
    torch.save({"model": model.state_dict(), "config": cfg.dump()}, cfg.MODEL.WEIGHTS)
    return Predictor(cfg)


def table(results: dict[str, Any]) -> str:
    """Return the page with a row for each model and variant, a column for each format, and what was not run."""
    rows = sorted({(key.split()[0], key.split()[2]) for key in results})
    versions = sorted({f"{name} {x}" for result in results.values() for name, x in result.get("versions", {}).items()})
    lines = [
        "# What can be exported",
        "",
        "<!-- Generated by `python -m benchmarks.export_matrix`: edit that script. -->",
        "",
        "Models with random weights of trained scale, exported and compared with PyTorch on a batch of two images:",
        "the number of detections that were compared, the largest differences of boxes (pixels) and of scores, the",
        "smallest IoU of masks, and the seconds and MiB of the export; or what went wrong.",
        "",
        f"Versions: {', '.join(versions)}.",
        "",
        f"| model | variant | {' | '.join(x.title for x in FORMATS.values())} |",
        f"| --- | --- |{' --- |' * len(FORMATS)}",
    ]
    for config, variant in rows:
        cells = [_cell(results.get(f"{config} {form} {variant}")) for form in FORMATS]
        lines.append(f"| {config} | {variant} | {' | '.join(cells)} |")
    rest = [x.config for x in list_models() if x.config not in {config for config, _ in rows}]
    if rest:
        lines += ["", "## Not run", "", "No format of these models has been compared:", ""]
        lines += [f"* {config}" for config in rest]
    return "\n".join(lines) + "\n"


def _cell(result: dict[str, Any] | None) -> str:
    """Return what the table says of a result; None if there is none."""
    if result is None:
        return "not run"
    if "unfinished" in result:
        return str(result["unfinished"])
    if "fault" in result:
        kind = "out of bounds" if "compared" in result else "not exported"
        return f"{kind}: {result['fault']}".replace("|", "/")
    cost = f"{result['seconds']} s, {result['MiB']} MiB"
    if "compared" not in result:
        return f"written, not compared; {cost}"
    limited = f" ({result['limited']} images limited)" if result.get("limited") else ""
    numbers = f"{result['box']:.0e}, {result['score']:.0e}, {result['mask_iou']:.4f}"
    return f"{result['compared']}{limited}: {numbers}; {cost}"


if __name__ == "__main__":
    main()
