#!/usr/bin/env python
"""Write the label images that panoptic models train their semantic head with, from COCO's panoptic annotations.

    COCO=datasets/coco
    for split in train2017 val2017; do
        python datasets/prepare_panoptic_fpn.py $COCO/annotations/panoptic_$split.json \\
            $COCO/panoptic_$split $COCO/panoptic_stuff_$split
    done

In the PNGs, 0 is any thing, 1, 2, ... are the stuff categories by id, and 255 is unlabeled.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial

from PIL import Image
from tqdm import tqdm

from centermask_solo.data.formats.panoptic import (
    IGNORE_LABEL,
    PanopticImage,
    read_panoptic_json,
    read_segment_ids,
    semantic_labels,
)
from centermask_solo.utils.errors import DataError, reported_errors
from centermask_solo.utils.files import atomic_write, claim_folder
from centermask_solo.utils.rules import COUNT, argument


def convert(image: PanopticImage, panoptic_root: str, output: str, is_thing: dict[int, bool]) -> None:
    """Write the label image of one image."""
    ids = read_segment_ids(os.path.join(panoptic_root, image.file_name), image)
    with atomic_write(os.path.join(output, image.file_name), "wb", durable=False) as file:
        Image.fromarray(semantic_labels(ids, image, is_thing)).save(file, format="PNG")


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", help="panoptic annotations")
    parser.add_argument("panoptic_root", help="folder of their PNGs")
    parser.add_argument("output", help="folder to write")
    parser.add_argument("--workers", type=argument(COUNT), default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace PNGs that are in the output folder already")
    args = parser.parse_args(argv)
    with reported_errors():
        data = read_panoptic_json(args.json)
        claim_folder(args.output, ["**/*.png"], [args.panoptic_root], overwrite=args.overwrite)
        num_stuff = sum(not thing for thing in data.is_thing.values())
        if num_stuff >= IGNORE_LABEL:
            raise DataError(f"{args.json} has {num_stuff} stuff categories, but label images can hold only 254")
        work = partial(convert, panoptic_root=args.panoptic_root, output=args.output, is_thing=data.is_thing)
        with processes(min(args.workers, len(data.images))) as run:
            for _ in tqdm(run(work, data.images), total=len(data.images), mininterval=1.0):
                pass
        print(f"{args.output}: {len(data.images)} images, labels 0 (things) to {num_stuff}, 255 unlabeled")


@contextmanager
def processes(count: int) -> Iterator:
    """Yield a ``map`` that runs in ``count`` processes."""
    if count <= 1:
        yield map
        return
    with ProcessPoolExecutor(count) as pool:
        try:
            yield partial(pool.map, chunksize=32)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
