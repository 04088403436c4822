"""Print the pyramid levels that two RoI assignment rules give the boxes of a COCO file, as Markdown tables.

python benchmarks/level_assignment.py instances_val2017.json [more.json ...] --test-size 800 1333
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes

from centermask_solo.ops.boxes import assign_levels_by_area_ratio
from centermask_solo.utils.errors import reported_errors

MIN_LEVEL, MAX_LEVEL = 3, 5
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # Detectron2's defaults for the "area" rule
COCO_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # square pixels, original image


def read_boxes(paths: list[Path], short_edge: int, longest_edge: int) -> tuple[Boxes, torch.Tensor, torch.Tensor]:
    """Return the boxes in the frame of the resized image, the areas of their images there, and their original areas."""
    boxes, image_areas, areas = [], [], []
    for path in paths:
        data = json.loads(path.read_text())
        images = {x["id"]: x for x in data["images"]}
        for annotation in data["annotations"]:
            x, y, w, h = annotation["bbox"]
            if annotation.get("iscrowd") or w <= 0 or h <= 0:
                continue
            image = images[annotation["image_id"]]
            height, width = image["height"], image["width"]
            new_h, new_w = ResizeShortestEdge.get_output_shape(height, width, short_edge, longest_edge)
            sx, sy = new_w / width, new_h / height
            boxes.append([x * sx, y * sy, (x + w) * sx, (y + h) * sy])
            image_areas.append(float(new_h * new_w))
            areas.append(w * h)
    return Boxes(torch.tensor(boxes)), torch.tensor(image_areas), torch.tensor(areas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, nargs="+", help="COCO instances files")
    parser.add_argument("--test-size", type=int, nargs=2, default=(800, 1333), metavar=("SHORT", "LONG"))
    args = parser.parse_args()
    boxes, image_areas, areas = read_boxes(args.json, *args.test_size)
    ratio = assign_levels_by_area_ratio(boxes.area(), image_areas, MIN_LEVEL, MAX_LEVEL)
    area = MIN_LEVEL + assign_boxes_to_levels([boxes], MIN_LEVEL, MAX_LEVEL, CANONICAL_SIZE, CANONICAL_LEVEL)
    levels = range(MIN_LEVEL, MAX_LEVEL + 1)
    print(f"{len(boxes)} boxes, {args.test_size[0]} x {args.test_size[1]} pixels\n")
    print("| " + " | ".join(["boxes", "rule", *(f"P{k}" for k in levels)]) + " |")
    print("| --- " * 2 + "| ---: " * len(levels) + "|")
    groups = {"all": areas >= 0} | {k: (areas >= lo) & (areas < hi) for k, (lo, hi) in COCO_SIZES.items()}
    for name, rows in groups.items():
        for rule, got in (("ratio", ratio), ("area", area)):
            shares = [f"{100 * (got[rows] == k).float().mean().item():.1f} %" for k in levels]
            print("| " + " | ".join([f"{name} ({int(rows.sum())})", rule, *shares]) + " |")
    print("\n| ratio (rows), area (columns) | " + " | ".join(f"P{k}" for k in levels) + " |")
    print("| --- " + "| ---: " * len(levels) + "|")
    for k in levels:
        print(f"| P{k} | " + " | ".join(str(int(((ratio == k) & (area == j)).sum())) for j in levels) + " |")
    print(f"\nThe rules agree on {100 * (ratio == area).float().mean().item():.1f} % of the boxes.")


if __name__ == "__main__":
    with reported_errors():
        main()
