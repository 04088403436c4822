"""Measure which share of the network's own rate ``predict`` reaches on a folder of photographs.

    python -m benchmarks.predict_folder CONFIG --images FOLDER [--weights FILE] [--device cuda] [--threads 2] [--write]

In every round, interleaved, the same images are processed by

* network: the networks alone, for inputs that are in memory
* model: these with decoding, NMS and the masks of the instances that predict keeps
* in turn: predict, from files to pictures and predictions.json, without threads
* predict: the same as the command does it, with threads

and the medians over the rounds are printed, in milliseconds an image, with the rates of the latter two as shares of
those of the former. Without weights there are random ones, and on average the best ten instances of an image are kept.
``--write`` adds the results to those of other configs, precisions and clocks.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.modeling import build_model

from benchmarks.results_file import device_name, write_results
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.results import write_predictions
from centermask_solo.inference.sources import Sources, find_images
from centermask_solo.model_zoo import get_config
from centermask_solo.modeling.systems import default_score_threshold
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument
from centermask_solo.utils.threads import available_cores

KEPT = 10  # instances an image, where the weights are random


def build(args: argparse.Namespace, folder: str) -> Predictor:
    """Return the predictor of a config, with random weights if none are given."""
    cfg = get_config(args.config)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", args.weights or os.path.join(folder, "random.pth")
    if not args.weights:
        torch.manual_seed(0)
        torch.save({"model": build_model(cfg).state_dict(), "config": cfg.dump()}, cfg.MODEL.WEIGHTS)
    cfg.MODEL.DEVICE, cfg.TEST.DTYPE = args.device, args.dtype
    return Predictor(cfg, mask_format="compact")


def threshold_of(predictor: Predictor, paths: Sequence[str], weights: str) -> float:
    """Return the score from which on instances are kept."""
    if weights:
        return default_score_threshold(predictor.cfg)
    scores = torch.cat([output["instances"].scores.cpu() for _, _, output in predictor.predict_files(paths)])
    return scores.sort(descending=True).values[: KEPT * len(paths)][-1].item() if len(scores) else 0.0


def stages(predictor: Predictor, paths: Sequence[str], threshold: float, folder: str) -> dict[str, Callable[[], Any]]:
    """Return what is measured."""
    model: Any = predictor.model
    sources = Sources(list(paths), len(paths))
    inputs = [predictor.model_input(predictor.read(path)) for path in paths]
    options = {"mask_format": "compact", "score_threshold": threshold}

    @torch.no_grad()
    def network() -> None:
        for x in inputs:
            model.predict(model.preprocess_image([x]).tensor)
        if predictor.cfg.MODEL.DEVICE != "cpu":
            torch.cuda.synchronize()

    @torch.no_grad()
    def whole_model() -> None:
        for x in inputs:
            model([{**x, **options}])

    def predict(threads: int | None) -> None:
        write_predictions(predictor, sources, folder, Filters(threshold), threads=threads)

    return {
        "network": network,
        "model": whole_model,
        "in turn": lambda: predict(0),
        "predict": lambda: predict(None),
    }


def measure(steps: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median time of each step on a clock, after a round that warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(clock() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="name in configs, of a system of this package")
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--count", type=argument(COUNT), default=40, help="images of it (%(default)s)")
    parser.add_argument("--weights", default="", help="weight file (default: random weights)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=argument(COUNT), default=1, help="threads of the network (%(default)s)")
    parser.add_argument("--rounds", type=argument(COUNT), default=3, help="timed rounds (%(default)s)")
    parser.add_argument("--cpu-time", action="store_true", help="CPU time of the process instead of elapsed time")
    parser.add_argument(
        "--write", action="store_true", help="add the results to benchmarks/results/predict_folder-*.json"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        predictor = build(args, folder)
        paths = find_images([args.images])[: args.count]
        threshold = threshold_of(predictor, paths, args.weights)
        steps = stages(predictor, paths, threshold, folder)
        found = measure(steps, args.rounds, time.process_time if args.cpu_time else time.perf_counter)
    print(
        f"{device_name(args.device)}, PyTorch {torch.__version__}, {available_cores()} cores, network in "
        f"{args.threads} thread(s), {predictor.threads} thread(s) that read and draw, {len(paths)} images"
    )
    for name, seconds in found.items():
        shares = (
            ""
            if name in ("network", "model")
            else "".join(f", {found[x] / seconds:.1%} of the rate of the {x}" for x in ("network", "model"))
        )
        print(f"{name:8} {1000 * seconds / len(paths):8.1f} ms an image{shares}")
    if args.write:
        about = {"config": args.config, "clock": "CPU time" if args.cpu_time else "elapsed time", "dtype": args.dtype}
        about |= {"weights": os.path.basename(args.weights), "images": len(paths), "rounds": args.rounds}
        about |= {"cores": available_cores(), "threads_that_read_and_draw": predictor.threads}
        milliseconds = {name: 1000 * seconds / len(paths) for name, seconds in found.items()}
        case = about | {"ms_an_image": milliseconds}
        write_results("predict_folder", [case], args.device, merge_by=("config", "clock", "dtype"))


if __name__ == "__main__":
    with reported_errors():
        main()
