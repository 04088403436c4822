"""Run one step of a comparison of systems in its own process; compare_systems.py and equal_time.py start it.

python -m benchmarks.system_run STAGE SYSTEM --iterations N --output FOLDER [--opts ...]

"pace" measures an iteration of training, "train" writes FOLDER/SYSTEM/model_final.pth, "propose" the proposals of its
RPN for all datasets, and "search" those of selective search, below FOLDER/proposals; "predict" evaluates the trained
weights, and "curve" those that the training has saved before. Every step adds its measurements to FOLDER/SYSTEM.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import detectron2
import torch
import torchvision
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import HookBase
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from benchmarks.postprocessing import device_name
from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer
from centermask_solo.config import merge_config
from centermask_solo.data.datasets import load_dataset, register_datasets
from centermask_solo.data.proposals import write_proposals
from centermask_solo.data.selective_search import write_missing_proposals
from centermask_solo.demo import initial_weights
from centermask_solo.inference.proposals import rpn_proposals
from centermask_solo.modeling.parts import needs_proposals
from centermask_solo.training.setup import check_config
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.files import atomic_write

MB = 10**6
WARM_UP = 3  # predictions that are not timed
SEARCH_MODE = "single"  # of selective search, for small images
SEED = 0  # the same images in the same order for all systems
PACE_WARM_UP, PACE_ITERATIONS = 5, 25
IMAGES_PER_ITERATION = 4  # of --iterations; a config with smaller batches makes more iterations of as many images
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

Measured = dict[str, Any]


def build_cfg(system: str, iterations: int, output: Path, opts: list[str], configs: str = "shapes") -> CfgNode:
    """Return the config of a system for the comparison, and register its datasets."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.SEED = SEED
    merge_config(cfg, f"{configs}/{system}_{configs}.yaml", opts)
    if cfg.MODEL.LOAD_PROPOSALS and "DATASETS.PROPOSAL_FILES_TRAIN" not in opts[::2]:
        source = "rpn" if needs_proposals(cfg) else "selective_search"
        for split in ("TRAIN", "TEST"):
            files = [proposal_file(output, source, name) for name in cfg.DATASETS[split]]
            cfg.DATASETS[f"PROPOSAL_FILES_{split}"] = files
    cfg.SOLVER.MAX_ITER = math.ceil(iterations * IMAGES_PER_ITERATION / cfg.SOLVER.IMS_PER_BATCH)
    cfg.OUTPUT_DIR = str(output / system)
    register_datasets(cfg)
    return cfg


def proposal_file(output: Path, source: str, dataset: str) -> str:
    """Return the path of the proposals for a dataset, which "rpn" or "selective_search" makes."""
    return str(output / "proposals" / source / f"{dataset}.pkl")


class _Clock(HookBase):
    """The CPU time of the process after each iteration, seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def after_step(self) -> None:
        self.seconds.append(time.process_time())


def pace(cfg: CfgNode, output: Path) -> Measured:
    """Train for a few iterations in a folder that is removed, and return the CPU time of one of four images."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR, cfg.SOLVER.MAX_ITER = folder, PACE_WARM_UP + PACE_ITERATIONS
        trainer, _ = build_trainer(cfg)
        trainer.register_hooks([clock])
        trainer.train()
    seconds_per_image = (
        (clock.seconds[-1] - clock.seconds[PACE_WARM_UP - 1]) / PACE_ITERATIONS / cfg.SOLVER.IMS_PER_BATCH
    )
    return {"cpu_seconds_per_iteration": seconds_per_image * IMAGES_PER_ITERATION}


def build_trainer(cfg: CfgNode) -> tuple[Trainer, bool]:
    """Return the trainer without evaluation, with the initial weights, and whether these are random."""
    from_scratch = initial_weights(cfg.MODEL.WEIGHTS)
    cfg.merge_from_list(from_scratch)
    check_config(cfg, for_training=True)
    cfg.DATASETS.TEST = ()
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer, bool(from_scratch) or not cfg.MODEL.WEIGHTS


def train(cfg: CfgNode, output: Path) -> Measured:
    """Train the system without evaluation, and return the measurements."""
    trainer, from_scratch = build_trainer(cfg)
    _, seconds, cpu_seconds = timed(cfg, trainer.train)
    return {
        "iterations": cfg.SOLVER.MAX_ITER,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak_mb(cfg),
        "batch": cfg.SOLVER.IMS_PER_BATCH,
        "images": len(load_dataset(cfg.DATASETS.TRAIN[0])),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "from_scratch": from_scratch,
    }


def propose(cfg: CfgNode, output: Path) -> Measured:
    """Write the proposals by the trained system's RPN for all datasets, and return the measurements."""
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, "model_final.pth")
    count, start = 0, time.perf_counter()
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        dataset = load_dataset(name)
        write_proposals(proposal_file(output, "rpn", name), dataset, rpn_proposals(cfg, dataset), cfg.MODEL.WEIGHTS)
        count += len(dataset)
    return {"seconds_per_image": (time.perf_counter() - start) / count, "images": count}


def search(cfg: CfgNode, output: Path) -> Measured:
    """Write the proposals of selective search for the datasets, unless they exist, and return the measurements."""
    del output
    written, seconds, cpu_seconds = timed(cfg, write_missing_proposals, cfg, SEARCH_MODE, 1)
    count = sum(written.values())
    per_image = {"seconds_per_image": seconds / count, "cpu_seconds_per_image": cpu_seconds / count} if count else {}
    return {"images": count, "mode": SEARCH_MODE, **per_image}


def predict(cfg: CfgNode, output: Path) -> Measured:
    """Evaluate the trained system on ``DATASETS.TEST``, one image at a time, and return the measurements."""
    results, times, peak = evaluate(cfg, "model_final.pth")
    seconds, cpu_seconds = (statistics.median(x) for x in zip(*times, strict=True))
    square = cfg.MODEL.META_ARCHITECTURE == "YOLACT"
    sides = [cfg.MODEL.YOLACT.INPUT_SIZE] * 2 if square else [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST]
    return {
        "seconds_per_image": seconds,
        "cpu_seconds_per_image": cpu_seconds,
        "peak_mb": peak,
        "images": len(times),
        "input_sides": sides,  # the shorter side, and the limit of the longer one
        "results": results,
    }


def curve(cfg: CfgNode, output: Path) -> Measured:
    """Return the AP of each task of the checkpoints before the last one, by iteration."""
    points = []
    for path in sorted(Path(cfg.OUTPUT_DIR).glob(f"model_{'[0-9]' * 7}.pth")):
        results, *_ = evaluate(cfg, path.name)
        iteration = int(path.stem.removeprefix("model_")) + 1
        points.append({"iteration": iteration} | {task: found["AP"] for task, found in results.items()})
    return {"points": points}


@torch.no_grad()
def evaluate(cfg: CfgNode, weights: str) -> tuple[dict[str, Any], list[list[float]], float]:
    """Return the metrics of each task, the wall and CPU seconds of each image, and the peak memory, MB.

    Args:
        cfg: Config of the trained system.
        weights: Name of the file below ``OUTPUT_DIR``.
    """
    cfg.MODEL.WEIGHTS = os.path.join(cfg.OUTPUT_DIR, weights)
    cfg.DATALOADER.NUM_WORKERS = 0  # no other process disturbs the times
    name = cfg.DATASETS.TEST[0]
    model = Trainer.build_model(cfg)
    Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    evaluator = Trainer.build_evaluator(cfg, name)
    evaluator.reset()
    times = []
    with inference_context(model):
        for i, inputs in enumerate(Trainer.build_test_loader(cfg, name)):
            for _ in range(WARM_UP if i == 0 else 0):
                model(inputs)
            outputs, *duration = timed(cfg, model, inputs)
            times.append(duration)
            evaluator.process(inputs, outputs)
    peak = peak_mb(cfg)
    results = evaluator.evaluate()
    tasks = ("bbox", "segm")[: 1 + cfg.MODEL.MASK_ON]
    return {task: scores(results.get(task)) for task in tasks}, times, peak


def scores(metrics: Mapping[str, float] | None) -> dict[str, float | None]:
    """Return the metrics of a task: None where there is no object, 0 if there are no detections at all."""
    if not metrics or math.isnan(metrics["AP"]):  # how Detectron2's evaluator reports no detections
        return dict.fromkeys(METRICS, 0.0)
    return {name: metrics[name] if math.isfinite(metrics[name]) else None for name in METRICS}


def timed(cfg: CfgNode, function: Callable[..., Any], *args: Any) -> tuple[Any, float, float]:
    """Call the function, and return its result, its wall seconds and its CPU seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    if cfg.MODEL.DEVICE == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - clock, time.process_time() - cpu


def peak_mb(cfg: CfgNode) -> float:
    """Return the peak memory so far: of this process on a CPU, of PyTorch's tensors on a GPU."""
    if cfg.MODEL.DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / MB
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def machine(cfg: CfgNode) -> dict[str, Any]:
    """Return the hardware and the versions that the figures depend on."""
    return {
        "device": device_name(cfg.MODEL.DEVICE),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "detectron2": detectron2.__version__,
    }


STAGES = {"pace": pace, "train": train, "propose": propose, "search": search, "predict": predict, "curve": curve}


def main(argv: list[str] | None = None) -> None:
    """Run a step and add its measurements to the system's json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("system", help="the start of a file below the folder of --configs")
    parser.add_argument("--iterations", type=int, required=True, help="training images of the system, divided by 4")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--configs", default="shapes", help="folder below configs/ of SYSTEM_FOLDER.yaml (%(default)s)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args(argv)
    setup_logger()
    setup_logger(name="fvcore")
    with reported_errors():
        cfg = build_cfg(args.system, args.iterations, args.output, args.opts, args.configs)
        about = {"libraries_mb": peak_mb(cfg), "machine": machine(cfg), "date": time.strftime("%Y-%m-%d")}
        measured = STAGES[args.stage](cfg, args.output) | about
        path = args.output / f"{args.system}.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        if args.stage == "train" or not record:  # "pace" may be measured with others
            record |= {"iterations": args.iterations, "opts": args.opts}
        with atomic_write(path) as file:
            file.write(json.dumps(record | {args.stage: measured}, indent=1) + "\n")


if __name__ == "__main__":
    main()
