#!/usr/bin/env python
"""Write the proposals that Fast R-CNN needs, one file per dataset, by selective search or by a trained RPN.

    python datasets/prepare_proposals.py shapes_train shapes_val          # selective search, by scikit-image
    python datasets/prepare_proposals.py shapes_train shapes_val --rpn configs/shapes/faster_rcnn_shapes.yaml \\
        output/shapes_faster_rcnn/model_final.pth                         # the RPN of a trained Faster or Mask R-CNN
    python datasets/prepare_proposals.py --coco-json birds_train birds/train.json birds/images --rpn ...

The files are FOLDER/DATASET.pkl, in Detectron2's format, for DATASETS.PROPOSAL_FILES_TRAIN and _TEST. Each records how
it was made, which is also printed.
"""

import argparse
import os

from detectron2.config import get_cfg
from tqdm import tqdm

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.data.datasets import load_dataset, register_datasets
from centermask_solo.data.proposals import write_proposals
from centermask_solo.data.selective_search import search_dataset
from centermask_solo.inference.proposals import rpn_proposals
from centermask_solo.ops.selective_search import MODES, describe_search
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.files import claim_file
from centermask_solo.utils.rules import COUNT, argument


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="*", help="names of registered datasets")
    parser.add_argument(
        "--coco-json",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "JSON", "IMAGES"),
        help="another dataset: its name, COCO json and folder of images",
    )
    parser.add_argument(
        "--rpn", nargs=2, metavar=("CONFIG", "WEIGHTS"), help="config and weights of the model whose RPN is used"
    )
    parser.add_argument(
        "--output", default="output/proposals", metavar="FOLDER", help="folder of the files (%(default)s)"
    )
    parser.add_argument(
        "--workers", type=argument(COUNT), default=1, help="processes of selective search (%(default)s)"
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="fast",
        help='of selective search: that of the paper, or "single", a quarter of it, for small images (%(default)s)',
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    args = parser.parse_args(argv)
    names = [*args.datasets, *(name for name, _, _ in args.coco_json)]
    if not names:
        parser.error("name a dataset, or give one with --coco-json")
    with reported_errors():
        cfg = get_cfg()
        add_centermask_solo_config(cfg)
        cfg.DATASETS.COCO_JSON = args.coco_json
        register_datasets(cfg)
        if args.rpn:
            merge_config(cfg, args.rpn[0], ["MODEL.WEIGHTS", args.rpn[1]])
            source = f"the RPN of {args.rpn[0]} with {args.rpn[1]}"
        else:
            source = describe_search(args.mode)
        paths = {name: os.path.join(args.output, f"{name}.pkl") for name in names}
        for path in paths.values():
            claim_file(path, args.rpn or (), overwrite=args.overwrite)
        for name, path in paths.items():
            dataset = load_dataset(name)
            proposals = rpn_proposals(cfg, dataset) if args.rpn else search_dataset(dataset, args.workers, args.mode)
            write_proposals(path, dataset, tqdm(proposals, name, total=len(dataset), unit=" images"), source)
            print(f"{path}: proposals for {len(dataset)} images, by {source}")


if __name__ == "__main__":
    main()
