"""Where trained models lose average precision: by size, overlap and class, with oracles, and by kind of error.

    python -m benchmarks.learning_analysis output/equal_time/seed_2/*/model_final.pth \
        --annotations datasets/shapes/extra/annotations.json --images datasets/shapes/extra/images --write

Every file is evaluated on the images as train_net.py --eval-only does, and its detections are analyzed as
centermask-solo analyze does; a file is named after its folder. --write keeps the figures in results/ and writes the
tables of docs/learning.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

import centermask_solo
from benchmarks.compare_systems import GENERATED, SYSTEMS, write_document
from benchmarks.equal_time import DOCUMENT
from benchmarks.processes import in_own_process
from benchmarks.results_file import write_results
from centermask_solo.data.datasets import register_datasets
from centermask_solo.evaluation.analysis import analyze_detections, read_annotated, read_detected
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.training.evaluate import evaluate
from centermask_solo.utils.errors import UserError, reported_errors

DATASET = "benchmark_learning_analysis"
BEGIN = f"{GENERATED} by benchmarks/learning_analysis.py: begin -->"
TASKS = {"masks": "segm", "boxes": "bbox"}
GROUPS = ("small", "medium", "overlap 0 to 0.1", "overlap 0.1 to 0.3", "overlap above 0.3")
ERRORS = ("classification", "localization", "duplicate", "background", "missed")
Measured = dict[str, Any]


def measure(weights: str, annotations: str, images: str) -> Measured:
    """Return the figures of the masks and the boxes that the weights of a file find in the images."""
    torch.set_num_threads(1)
    centermask_solo.register()
    cfg = load_cfg(weights)
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "DATASETS.COCO_JSON", [[DATASET, annotations, images]]])
    cfg.DATASETS.TEST, cfg.DATALOADER.NUM_WORKERS = (DATASET,), 0
    register_datasets(cfg)
    with tempfile.TemporaryDirectory() as cfg.OUTPUT_DIR:
        evaluate(cfg)
        files = list(Path(cfg.OUTPUT_DIR).rglob("coco_instances_results.json"))
        if len(files) != 1:
            raise UserError(f"{weights} finds nothing in {images}: there is nothing to analyze")
        found = {name: figures(annotations, str(files[0]), iou_type) for name, iou_type in TASKS.items()}
    name = Path(weights).resolve().parent.name
    return {"system": SYSTEMS.get(name, name), **found}


def figures(annotations: str, results: str, iou_type: str) -> Measured:
    """Return what the tables need: average precision in percent, None without objects; costs in points of AP50."""
    annotated = read_annotated(annotations, iou_type)
    numbers = analyze_detections(annotated, read_detected(results, annotated, iou_type)).to_json()
    return {
        "images": numbers["images"],
        "AP": numbers["AP"],
        "groups": {x["name"]: {"objects": x["objects"], "AP": x["ap"]} for x in numbers["groups"]},
        "classes": {x["name"]: {"objects": x["objects"], "AP": x["ap"]} for x in numbers["classes"]},
        "oracles": numbers["oracles"],
        "AP50_lost": numbers["errors"]["AP50_lost"],
    }


def render(results: Sequence[Measured], arguments: Sequence[str]) -> str:
    """Return the generated part of the document."""
    first = results[0]["masks"]
    parts = ["```", "python -m benchmarks.learning_analysis " + " ".join(arguments), "```", ""]
    parts += [f"{first['images']} images that no training and no table above has seen; average precision.", ""]
    for name in TASKS:
        rows = [(x["system"], x[name]) for x in results]
        parts += [f"**{name.capitalize()}.**", "", _table(rows, _by_group), "", _table(rows, _by_cause), ""]
    parts += ["**Masks by class.**", "", _table([(x["system"], x["masks"]) for x in results], _by_class)]
    return "\n".join([*parts, ""])


def _by_group(x: Measured) -> Mapping[str, float | None]:
    return {"all": x["AP"]["value"]} | {name: x["groups"][name]["AP"] for name in GROUPS if name in x["groups"]}


def _by_cause(x: Measured) -> Mapping[str, float]:
    costs = {f"AP50 lost: {name}": x["AP50_lost"][name] for name in ERRORS}
    return {f"with {name}": value for name, value in x["oracles"].items()} | costs


def _by_class(x: Measured) -> Mapping[str, float | None]:
    return {name: found["AP"] for name, found in x["classes"].items()}


def _table(rows: Sequence[tuple[str, Measured]], columns: Any) -> str:
    values = [(system, columns(x)) for system, x in rows]
    cells = [[system, *("–" if v is None else f"{v:.1f}" for v in found.values())] for system, found in values]
    align = ("left", *["right"] * len(values[0][1]))
    return tabulate(cells, ["system", *values[0][1]], tablefmt="pipe", disable_numparse=True, colalign=align)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="trained weights with masks")
    parser.add_argument("--annotations", required=True, help="COCO json of the images")
    parser.add_argument("--images", required=True, help="their folder")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="file to write (docs/learning.md)")
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results and the document")
    args = parser.parse_args(argv)
    paths = [str(Path(x).resolve()) for x in (args.annotations, args.images)]
    results = [in_own_process(measure, os.path.abspath(x), *paths) for x in args.weights]
    shown = [*args.weights, "--annotations", args.annotations, "--images", args.images, "--write"]
    text = render(results, shown)
    print(text)
    if args.write:
        write_results("learning_analysis", results)
        write_document(args.document, text, BEGIN, f"# How fast the systems learn\n\n{BEGIN}\n{GENERATED}: end -->\n")
        print(f"wrote {args.document}")


if __name__ == "__main__":
    with reported_errors():
        main()
