#!/usr/bin/env python
"""Write a COCO json with a few images of another one: to try a training on little data, or to overfit it as a check.

    python datasets/prepare_subset.py datasets/coco/annotations/instances_val2017.json --count 8 --output val8.json

The images are the first ones, by id, that have an object; the categories stay as they are.
"""

import argparse
import json
from pathlib import Path

from centermask_solo.data.formats.coco import read_coco_json, take_images
from centermask_solo.utils.errors import reported_errors


def main() -> None:
    """Write the subset that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="annotations in COCO's format")
    parser.add_argument("--count", type=int, required=True, help="images")
    parser.add_argument("--output", required=True, help="the json to write")
    args = parser.parse_args()
    with reported_errors():
        subset = take_images(read_coco_json(args.json), args.count)
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output).write_text(json.dumps(subset))
        print(f"{args.output}: {len(subset['images'])} images, {len(subset['annotations'])} objects")


if __name__ == "__main__":
    main()
