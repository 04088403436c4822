"""``centermask-solo export``: write a model as a file of another runtime."""

from __future__ import annotations

import argparse

from ..runtime.formats import FORMATS, VARIANTS, check_choice, choose_format, unverified_name
from ..utils.errors import UserError, report
from ..utils.rules import COUNT, argument
from .options import Several, add_model_arguments, add_overrides


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as a file of ONNX, OpenVINO or torch.export",
        epilog="example: centermask-solo export --weights model_final.pth --output model.onnx",
    )
    add_model_arguments(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write")
    suffixes = ", ".join(f"{x.name} ({x.suffix})" for x in FORMATS.values())
    parser.add_argument("--format", default="", help=f"{suffixes}; default: what the suffix of FILE says")
    parser.add_argument(
        "--variant", default="detections", help=f"{', '.join(VARIANTS)}; default: detections, with small masks"
    )
    parser.add_argument(
        "--max-detections", type=argument(COUNT), metavar="K", help="slots per image (default: the model's limit)"
    )
    parser.add_argument("--half", action="store_true", help="store the weights as float16, in half the space")
    parser.add_argument(
        "--int8",
        action=Several,
        default=[],
        metavar="PATH",
        help="multiply 8-bit integers, calibrated on these images, which should be like those to predict",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--dynamic", action="store_true", help="take images of any size, which is the default")
    sizes.add_argument(
        "--size", type=argument(COUNT), nargs=2, metavar=("H", "W"), help="take images of this size only, pixels"
    )
    parser.add_argument(
        "--images", action=Several, default=[], metavar="PATH", help="what to compare on (default: generated images)"
    )
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument(
        "--ground-truth",
        default="",
        metavar="FILE",
        help="annotations in COCO's format: also state the AP of both; --images is then the folder of their images, of "
        "which four are compared",
    )
    truth.add_argument("--dataset", default="", metavar="NAME", help="the same for a registered dataset")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the file with PyTorch")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the file and print the comparison; exit with code 1 if results are out of bounds."""
    form = choose_format(args.format, args.output)
    check_choice(form, args.variant, args.half, bool(args.int8))  # first, because the rest takes seconds to import
    from .. import registration  # noqa: F401  (registers the models)
    from ..evaluation.results import format_average_precisions
    from ..export.verification import Verification
    from ..model_zoo.exporting import export_model

    found = export_model(
        args.weights,
        args.output,
        format=args.format,
        variant=args.variant,
        max_detections=args.max_detections,
        half=args.half,
        int8=args.int8,
        size=tuple(args.size) if args.size else None,
        verify=not args.no_verify,
        images=args.images,
        ground_truth=args.ground_truth,
        dataset=args.dataset,
        config_file=args.config_file,
        overwrite=args.overwrite,
        opts=args.opts,
    )
    if found is None:
        print(f"wrote {args.output}, which was not compared with PyTorch")
        return
    print(found.table())
    if found.rounding:
        print(found.loss())
    if isinstance(found, Verification):
        if found.average_precisions:
            print(format_average_precisions(found.average_precisions, "in PyTorch", "in the file"))
        elif found.rounding:
            print("for the loss of AP, add --ground-truth FILE and --images FOLDER, or --dataset NAME")
    if not found.faults:
        print(f"wrote {args.output}")
        if not found.num_compared:
            print("nothing was found in these images, so nothing was compared: give others with --images")
        return
    kept = unverified_name(args.output)
    for fault in found.faults:
        report(UserError(f"{kept} differs from PyTorch: {fault}"))
    print(f"{args.output} was not written; what was compared is kept as {kept}")
    raise SystemExit(1)
