"""Export every model of the zoo to every format and variant, compare each with PyTorch, and write a table.

The weights are random, but :mod:`.random_weights` makes them behave like trained ones. Models, formats and variants can
be chosen; results of earlier runs stay in the file, so that the matrix can be made in parts:

    python -m benchmarks.export_matrix --systems SOLOv2 YOLACT --formats onnx openvino

The full matrix takes hours on two cores.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import centermask_solo
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
from centermask_solo.utils.text import first_line

RESULTS = Path(__file__).parent / "results" / "export_matrix.json"
TABLE = Path(__file__).parents[1] / "docs" / "export_matrix.md"
NUM_IMAGES = 2  # that each file is compared on


def main() -> None:
    """Export what the arguments choose, and write the results and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="*", help="only models of these systems")
    parser.add_argument("--models", nargs="*", help="only these configs")
    parser.add_argument("--formats", nargs="*", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["detections"])
    args = parser.parse_args()
    centermask_solo.register()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for model in list_models():
        if (args.systems and model.system not in args.systems) or (args.models and model.config not in args.models):
            continue
        for form in args.formats:
            for variant in args.variants:
                key = f"{model.config} {form} {variant}"
                results[key] = try_export(model.config, form, variant)
                print(f"{key}: {results[key]}", flush=True)
                with atomic_write(RESULTS) as file:
                    json.dump(results, file, indent=1, sort_keys=True)
                gc.collect()
    with atomic_write(TABLE) as file:
        file.write(table(results))


def try_export(config: str, form: str, variant: str) -> dict[str, Any]:
    """Return what became of a model: its faults, or the largest differences; with seconds and MiB."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        predictor = random_predictor(config, folder)
        path = os.path.join(folder, f"model{FORMATS[form].suffix}")
        try:
            metadata = export_predictor(predictor, FORMATS[form], path, ExportOptions(variant=variant))
        except UserError as error:
            return {"fault": str(error)}
        except Exception as error:  # whatever an exporter raises is a result, too
            return {"fault": first_line(error)}
        size = sum(x.stat().st_size for x in Path(folder).glob("model.*")) / 2**20
        found = {"seconds": round(time.perf_counter() - start), "MiB": round(size)}
        if variant == "raw":
            return found
        verification = verify_file(predictor, path, generated()[:NUM_IMAGES], metadata.input)
    if verification.faults:
        found["fault"] = "; ".join(verification.faults)
    differences = [x for x in verification.differences if x.matched]
    return {
        **found,
        "compared": verification.num_compared,
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
    """Return the page with a row for each model and variant, and a column for each format."""
    rows = sorted({(key.split()[0], key.split()[2]) for key in results})
    lines = [
        "# What can be exported",
        "",
        "Made by `python -m benchmarks.export_matrix`, with random weights of trained scale: the number of detections",
        "in two images, the largest differences from PyTorch of boxes (pixels) and scores, and the smallest IoU of",
        "masks; or what went wrong.",
        "",
        f"| model | variant | {' | '.join(x.title for x in FORMATS.values())} |",
        f"| --- | --- |{' --- |' * len(FORMATS)}",
    ]
    for config, variant in rows:
        cells = [_cell(results.get(f"{config} {form} {variant}")) for form in FORMATS]
        lines.append(f"| {config} | {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(result: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if "fault" in result:
        return "no: " + result["fault"].replace("|", "/")
    if "compared" not in result:
        return "yes"
    return f"{result['compared']}: {result['box']:.0e}, {result['score']:.0e}, {result['mask_iou']:.4f}"


if __name__ == "__main__":
    main()
