"""``centermask-solo predict``: find the instances in images, videos and cameras, draw them and write them."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from ..runtime.formats import check_no_options, format_of_file
from ..utils.errors import ConfigError, report, user_message
from ..utils.rules import COUNT, PROBABILITY, argument, at_least
from ..utils.text import counted
from .options import (
    Several,
    add_color_argument,
    add_overrides,
    add_runtime_arguments,
    add_weights_arguments,
    load_cfg,
    names,
)

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from ..inference.exported import ExportedFilePredictor
    from ..inference.results import Predicted

EXAMPLE = """examples:
  centermask-solo predict --weights model_final.pth --input photos/ --output found/
  centermask-solo predict --weights model.onnx --input street.mp4 --output found/ --track --save-video --save-csv
  centermask-solo predict --weights model_final.pth --input 0 --output found/ --save-video
  centermask-solo predict --weights model_final.pth --input aerial.tif --output found/ --tile 1024 --overlap 0.2
  find photos -name "a*.jpg" | centermask-solo predict --weights model_final.pth --input - --output found/

The exit code is 0 if everything was read, 1 if some images or videos could not be, and 2 if anything else is wrong.
"""
SAVES = {  # attributes of Outputs, and what they write
    "video": "a video of each video, camera or stream, with its frame rate and its sound",
    "results": "results.json, a list in COCO's format of results, with the ids of predictions.json",
    "csv": "instances.csv: id, file, class, score, box, area, centroid of each instance",
    "labelme": "labelme/: files of labelme, to correct the instances in",
    "yolo": "labels/: files in YOLO's format for segmentation",
    "masks": "masks/: a PNG with the mask of each instance",
    "id-maps": "id_maps/: a PNG per image with the number of the instance at each pixel",
    "cutouts": "cutouts/: a PNG of each instance, transparent around it",
}
PARTS = ("masks", "outlines", "boxes", "names", "scores")  # those of visualization.drawing, which takes time to import


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "predict",
        help="find instances in images, videos and cameras, and draw them",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_weights_arguments(parser)
    _add_input(parser.add_argument_group("input"))
    _add_filters(parser.add_argument_group("which instances are kept"))
    _add_outputs(parser.add_argument_group("output"))
    _add_speed(parser.add_argument_group("precision and speed"))
    add_overrides(parser)
    return parser


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        required=True,
        action=Several,
        metavar="SOURCE",
        help="images, image folders, patterns, videos, a camera (0), an address (rtsp://, http://), or - for a list of "
        "files, folders and patterns on standard input",
    )
    group.add_argument("--recursive", action="store_true", help="include the subfolders of image folders")
    group.add_argument("--max-images", type=argument(COUNT), metavar="N", help="end after N images or frames")
    group.add_argument(
        "--tile", type=argument(COUNT), metavar="PIXELS", help="cut images into tiles of this side, for small objects"
    )
    group.add_argument(
        "--overlap",
        type=argument(PROBABILITY, float),
        metavar="SHARE",
        help="of a tile that its neighbor covers, too (default: 0.2)",
    )
    group.add_argument(
        "--track", action="store_true", help="give instances numbers that stay the same from frame to frame"
    )


def _add_filters(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--classes", type=names, metavar="NAMES", help="only these, such as person,dog (default: all)")
    group.add_argument(
        "--max-detections",
        type=argument(COUNT),
        metavar="N",
        help="the N best of each image, at most those that the model gives",
    )
    group.add_argument(
        "--min-area",
        type=argument(at_least(0), float),
        default=0,
        metavar="PIXELS",
        help="only instances of at least this many pixels",
    )
    group.add_argument(
        "--class-agnostic-nms", action="store_true", help="of instances that overlap, the best, whatever the classes"
    )
    group.add_argument(
        "--split-components", action="store_true", help="make an instance of each connected part of a mask"
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--output", required=True, metavar="FOLDER", help="folder for predictions.json and the rest")
    group.add_argument(
        "--pictures",
        action=argparse.BooleanOptionalAction,
        help="draw the instances over each image (default: over images, but not over the frames of videos)",
    )
    for name, what in SAVES.items():
        group.add_argument(f"--save-{name}", action="store_true", help=f"write {what}")
    group.add_argument("--polygons", action="store_true", help="polygons in predictions.json instead of run lengths")
    group.add_argument(
        "--draw", type=_parts, metavar="PARTS", help=f"of {','.join(PARTS)} (default: all but boxes of masks)"
    )
    group.add_argument("--line-width", type=argument(COUNT), metavar="PIXELS", help="default: one that fits the image")
    add_color_argument(group)
    group.add_argument("--json", action="store_true", help="print the summary as JSON")
    group.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")


def _add_speed(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--batch-size",
        type=argument(COUNT),
        default=1,
        metavar="N",
        help="images or tiles per forward pass (default: 1; of live sources always 1)",
    )
    group.add_argument("--device", metavar="NAME", help="such as cpu or cuda (default: MODEL.DEVICE)")
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="precision of the networks (default: TEST.DTYPE); int8 needs TEST.INT8_RANGES, see calibrate",
    )
    add_runtime_arguments(group)
    group.add_argument(
        "--tta",
        action="store_true",
        help="predict each image in the sizes and flips of TEST.AUG, and merge the results",
    )


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(names(text))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown: choose from {','.join(PARTS)}")
    return parts


def run(args: argparse.Namespace) -> None:
    """Predict, and print the number of instances; name the images that cannot be read and exit with code 1."""
    from ..inference.filters import Filters
    from ..inference.outputs import Outputs
    from ..inference.results import predict_to_folder
    from ..inference.tiling import Tiles
    from ..visualization.drawing import DEFAULT_STYLE, Style

    sizes = {name: x for name, x in (("size", args.tile), ("overlap", args.overlap)) if x is not None}
    if args.overlap is not None and not args.tile:
        raise ConfigError("--overlap applies to tiles only: give their size with --tile")
    saved = {name.replace("-", "_"): getattr(args, f"save_{name.replace('-', '_')}") for name in SAVES}
    style = Style(args.color_by, args.draw or DEFAULT_STYLE.parts, args.line_width)
    done = predict_to_folder(
        _model(args),
        args.input,
        args.output,
        filters=Filters(
            args.score_threshold,
            args.classes,
            args.class_agnostic_nms,
            args.split_components,
            args.min_area,
            args.max_detections,
        ),
        outputs=Outputs(pictures=args.pictures, polygons=args.polygons, style=style, **saved),
        tiles=Tiles(**sizes) if args.tile else None,
        track=args.track,
        batch_size=args.batch_size,
        max_images=args.max_images,
        recursive=args.recursive,
        overwrite=args.overwrite,
    )
    _print_summary(done, args)
    for failure in done.failures:
        report(failure)
    if done.failures:
        raise SystemExit(1)


def _print_summary(done: Predicted, args: argparse.Namespace) -> None:
    from ..inference.result_file import PREDICTIONS

    path = os.path.join(args.output, PREDICTIONS)
    if args.json:
        summary = done._asdict() | {"failures": [user_message(x) for x in done.failures], "predictions": path}
        print(json.dumps(summary), flush=True)
        return
    hint = "" if done.num_instances else "; a lower --score-threshold keeps more"
    dropped = f" ({counted(done.num_dropped, 'frame')} came too fast)" if done.num_dropped else ""
    found = f"{counted(done.num_instances, 'instance')} in {counted(done.num_images, 'image')}"
    print(f"{found}{dropped}{hint}; see {path}", flush=True)


def _model(args: argparse.Namespace) -> CfgNode | ExportedFilePredictor:
    """Return the config of the weights, or what predicts with an exported file, which takes no further options.

    Raises:
        ConfigError: Options are given that the file, or the weights, cannot obey.
    """
    import torch

    from ..inference.exported import ExportedFilePredictor

    if format_of_file(args.weights) is None:
        if args.providers:
            raise ConfigError(f"--providers is for exported files, which {args.weights} is not: choose a --device")
        if args.threads:
            torch.set_num_threads(args.threads)
        args.opts += ["TEST.DTYPE", args.dtype] if args.dtype else []
        args.opts += ["MODEL.DEVICE", args.device] if args.device else []
        args.opts += ["TEST.AUG.ENABLED", "True"] if args.tta else []
        return load_cfg(args)
    given = [f"--{x.replace('_', '-')}" for x in ("config_file", "dtype", "device", "tta") if getattr(args, x)]
    check_no_options(args.weights, [*given, *args.opts])
    return ExportedFilePredictor(args.weights, cpu_threads=args.threads, providers=args.providers or ())
