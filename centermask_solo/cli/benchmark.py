"""``centermask-solo benchmark``: the time, the memory and the size of models in prediction."""

from __future__ import annotations

import argparse
import itertools
import json
from typing import TYPE_CHECKING

from ..runtime.formats import check_no_options, format_of_file
from ..utils.errors import ConfigError
from ..utils.rules import COUNT, argument
from .options import Several, add_overrides

if TYPE_CHECKING:
    from detectron2.config import CfgNode

EXAMPLE = """examples:
  centermask-solo benchmark --config-file SOLOv2/solov2_R_50_3x.yaml --compare TEST.DTYPE bfloat16
  centermask-solo benchmark --weights model.pth --images photos/ --batch-size 4 --json times.json --plot times.png
  centermask-solo benchmark --config-file SOLOv2/solov2_R_50_3x.yaml --compare baselines/mask_rcnn_R_50_FPN_3x.yaml
  centermask-solo benchmark --config-file YOLACT/yolact_resnet50.yaml --flops
  centermask-solo benchmark --weights model.pth --device cpu --compare model.onnx --compare model.xml --threads 1
"""
# Arguments of measuring, which counting has no use for
OF_MEASURING = ("images", "batch_size", "dtype", "threads", "device", "runs", "cpu_time", "json", "plot", "overwrite")


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the parser of this subcommand and return it."""
    parser = subparsers.add_parser(
        "benchmark",
        help="measure the time of each stage of prediction, the memory, and the size of a model",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="a path, or a name in configs (default: that of --weights)"
    )
    parser.add_argument(
        "--weights",
        default="",
        metavar="FILE",
        help="weights of a detector, or an exported file (default: random weights)",
    )
    parser.add_argument(
        "--compare",
        action="append",
        nargs="+",
        default=[],
        metavar=("CONFIG", "KEY VALUE"),
        help="measure this, too, interleaved with the first: another config, options, or both; or an exported file; "
        "can be repeated",
    )
    parser.add_argument(
        "--images",
        action=Several,
        default=[],
        metavar="PATH",
        help="images, folders or patterns (default: generated)",
    )
    parser.add_argument(
        "--size",
        type=argument(COUNT),
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of generated images, and of the one that --flops counts for, before resizing (default: 480 640)",
    )
    parser.add_argument("--batch-size", type=argument(COUNT), metavar="N", help="images per forward pass (default: 1)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8"),
        help="precision of the networks (default: TEST.DTYPE)",
    )
    parser.add_argument("--threads", type=argument(COUNT), metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda (default: MODEL.DEVICE)")
    parser.add_argument("--runs", type=argument(COUNT), metavar="N", help="measured runs of each config (default: 10)")
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure CPU time instead of the wall, which a busy machine slows"
    )
    parser.add_argument("--flops", action="store_true", help="count parameters and multiply-adds instead")
    parser.add_argument("--json", metavar="FILE", help="write all measurements, too")
    parser.add_argument("--plot", metavar="FILE", help="draw the stages, too (.png, .pdf or .svg)")
    parser.add_argument("--overwrite", action="store_true", help="replace these files if they exist")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print the table, or count and print the parts."""
    if not (args.weights or args.config_file):
        raise ConfigError("there is nothing to measure: give --config-file or --weights")
    if args.flops:
        _count(args)
    else:
        _measure(args)


def _measure(args: argparse.Namespace) -> None:
    from ..checkpoint.files import without_query
    from ..inference.benchmark import benchmark
    from ..inference.benchmark_report import check_picture, format_report, plot
    from ..inference.sources import find_images
    from ..utils.files import atomic_write, claim_file, is_same

    if args.images and args.size:
        raise ConfigError("--size is for generated images: leave it out, or --images")
    paths = find_images(args.images) if args.images else []
    if args.plot:
        check_picture(args.plot)
    cfgs = load_cfgs(args)
    inputs = [args.config_file, *itertools.chain(*args.compare)]
    inputs += [cfg if isinstance(cfg, str) else without_query(cfg.MODEL.WEIGHTS) for cfg in cfgs.values()]
    for path in filter(None, (args.json, args.plot)):
        claim_file(path, [*filter(None, inputs), *paths], overwrite=args.overwrite)
    if args.json and args.plot and is_same(args.json, args.plot):
        raise ConfigError(f"--json and --plot both name {args.json}: choose another name for one of them")
    given = {"size": args.size and tuple(args.size), "batch_size": args.batch_size, "runs": args.runs}
    given = {name: value for name, value in given.items() if value is not None}
    report = benchmark(cfgs, paths, threads=args.threads, cpu_time=args.cpu_time, **given)
    print(format_report(report))
    if args.json:
        with atomic_write(args.json) as file:
            json.dump(report.to_json(), file, indent=1)
    if args.plot:
        plot(report, args.plot)


def _count(args: argparse.Namespace) -> None:
    from ..inference.benchmark import GENERATED_SIZE, input_size, set_num_classes
    from ..inference.benchmark_report import format_parts
    from ..modeling.complexity import count_parts
    from ..modeling.parts import build_empty

    ignored = [f"--{name.replace('_', '-')}" for name in OF_MEASURING if getattr(args, name)]
    if ignored:
        raise ConfigError(f"--flops measures nothing: leave out {', '.join(ignored)}")
    for name, cfg in load_cfgs(args).items():
        if isinstance(cfg, str):
            raise ConfigError(
                f"--flops counts the parts of configs and weights, which {cfg} does not show: leave it out"
            )
        set_num_classes(cfg)
        model = build_empty(cfg)
        size = input_size(cfg, model, tuple(args.size or GENERATED_SIZE))
        print(f"{name}\n\n{format_parts(count_parts(model, size), size)}\n")


def load_cfgs(args: argparse.Namespace) -> dict[str, CfgNode | str]:
    """Return the configs of a command line, or the paths of exported files, by their names in the report."""
    shared = ["TEST.DTYPE", args.dtype] if args.dtype else []
    shared += ["MODEL.DEVICE", args.device] if args.device else []
    first = args.config_file or args.weights
    cfgs: dict[str, CfgNode | str] = {first: _load(args.config_file, args.weights, [*shared, *args.opts])}
    for words in args.compare:
        config, opts = (words[0], words[1:]) if len(words) % 2 else ("", words)
        weights = "" if config else args.weights
        name = " ".join(words)
        if name in cfgs:
            raise ConfigError(f"--compare {name} is measured already: leave it out")
        if format_of_file(config):
            cfgs[name] = _load("", config, opts)
        else:
            cfgs[name] = _load(config or args.config_file, weights, [*shared, *args.opts, *opts])
    return cfgs


def _load(config_file: str, weights: str, opts: list[str]) -> CfgNode | str:
    """Return a config whose ``MODEL.WEIGHTS`` are detector's weights, or ""; or the path of an exported file."""
    if format_of_file(weights):
        check_no_options(weights, [config_file, *opts[::2]])
        return weights
    from .. import registration  # noqa: F401  (registers the models)
    from ..config import check_pairs, default_config, merge_config
    from ..model_zoo.lookup import load_cfg

    if weights:
        return load_cfg(weights, config_file, opts)
    check_pairs(opts)
    cfg = default_config()
    merge_config(cfg, config_file, opts)
    if "MODEL.WEIGHTS" not in opts[::2]:
        cfg.MODEL.WEIGHTS = ""  # those that training starts from
    return cfg
