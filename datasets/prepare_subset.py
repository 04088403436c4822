#!/usr/bin/env python
"""Write a COCO json with a few images of another one, to train on little data or to overfit a model as a check.

    python datasets/prepare_subset.py datasets/coco/annotations/instances_val2017.json --count 8 --output val8.json

The images are the first ones, by id, that have an object; the categories are unchanged.
"""

import argparse

from centermask_solo.data.formats.coco import take_images, write_coco_json
from centermask_solo.data.validation.gate import inspect_file, refuse_errors
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.files import atomic_write, claim_file
from centermask_solo.utils.rules import COUNT, argument


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="annotations in COCO format")
    parser.add_argument("--count", type=argument(COUNT), required=True, help="number of images")
    parser.add_argument("--output", required=True, help="json to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    args = parser.parse_args()
    with reported_errors():
        claim_file(args.output, [args.json], overwrite=args.overwrite)
        data, found = inspect_file(args.json)
        refuse_errors(found, args.json, "images", masks=False)
        subset = take_images(data, args.count)
        with atomic_write(args.output) as file:
            write_coco_json(subset, file)
        print(f"{args.output}: {len(subset['images'])} images, {len(subset['annotations'])} objects")


if __name__ == "__main__":
    main()
