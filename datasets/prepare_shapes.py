#!/usr/bin/env python
"""Generate images of shapes with exact masks, in COCO format: by default those of ``shapes_train`` and ``shapes_val``.

    python datasets/prepare_shapes.py                                        # both, unless they exist
    python datasets/prepare_shapes.py --split train --count 5000 --seed 1    # another shapes_train
    python datasets/prepare_shapes.py --split large --count 200 --size 800 --output data/shapes

A split that exists with the same options is kept; one with other options is replaced.
"""

import argparse

from centermask_solo.data.datasets import shapes_root
from centermask_solo.data.shapes.generator import LARGEST_SIZE, MAX_IMAGES, NUM_IMAGES, generate_shapes
from centermask_solo.data.shapes.scenes import DEFAULT_SIZE
from centermask_solo.utils.errors import ConfigError, reported_errors
from centermask_solo.utils.rules import argument, integer


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--split", nargs="+", default=list(NUM_IMAGES), help="names of the splits (default: %(default)s)"
    )
    parser.add_argument(
        "--count", type=argument(integer(1, MAX_IMAGES)), help=f"images per split (default: {NUM_IMAGES})"
    )
    parser.add_argument(
        "--size",
        type=argument(integer(1, LARGEST_SIZE)),
        default=DEFAULT_SIZE,
        help="longer side of the largest images, pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=argument(integer(0)), default=0, help="seed of all randomness (default: %(default)s)"
    )
    parser.add_argument("--output", default=shapes_root(), help="folder of the splits (default: %(default)s)")
    args = parser.parse_args()
    with reported_errors():
        for split in args.split:
            count = NUM_IMAGES.get(split) if args.count is None else args.count
            if count is None:
                raise ConfigError(f"the split '{split}' has no default number of images: give --count")
            print(generate_shapes(args.output, split, count, args.seed, args.size))


if __name__ == "__main__":
    main()
