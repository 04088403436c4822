#!/usr/bin/env python
"""Generate images of shapes with exact masks, in COCO format: by default those of ``shapes_train`` and ``shapes_val``.

    python datasets/prepare_shapes.py                                        # both, if they are not there yet
    python datasets/prepare_shapes.py --split train --count 5000 --seed 1    # another shapes_train
    python datasets/prepare_shapes.py --split large --count 200 --size 800 --output data/shapes

A split that is there with the same options is left alone; with others it is replaced.
"""

import argparse

from centermask_solo.data.datasets import shapes_root
from centermask_solo.data.shapes.generator import NUM_IMAGES, generate_shapes
from centermask_solo.data.shapes.scenes import DEFAULT_SIZE
from centermask_solo.utils.errors import reported_errors


def main() -> None:
    """Generate what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", nargs="+", default=list(NUM_IMAGES), help="names (default: %(default)s)")
    parser.add_argument("--count", type=int, help=f"images of each (default: {NUM_IMAGES})")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="longer side, pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--output", default=shapes_root(), help="folder of the splits (default: %(default)s)")
    args = parser.parse_args()
    with reported_errors():
        for split in args.split:
            count = NUM_IMAGES.get(split) if args.count is None else args.count
            if count is None:
                raise SystemExit(f"error: say with --count how many images '{split}' shall have")
            print(generate_shapes(args.output, split, count, args.seed, args.size))


if __name__ == "__main__":
    main()
