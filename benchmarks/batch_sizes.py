"""Whether a training with --batch-size auto ever runs out of a GPU's memory, whatever other programs leave of it.

    python -m benchmarks.batch_sizes [CONFIG ...] [--tries 20] [--write] --opts DATASETS.TRAIN "('photos',)" ...

In each try another process holds all of the memory but a random part, and a config in turn, with or without mixed
precision and an average of the weights, trains for some iterations with random weights.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import random
import tempfile
from multiprocessing.connection import Connection
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from tabulate import tabulate

from benchmarks.results_file import write_results
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.data.datasets import register_datasets
from centermask_solo.training.batch_size import AUTO, set_batch_size
from centermask_solo.training.setup import check_config
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import ConfigError, UserError, reported_errors
from centermask_solo.utils.rules import COUNT, argument

CONFIGS = (
    "SOLOv2/solov2_R_50_3x.yaml",
    "CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml",
    "YOLACT/yolact_resnet50.yaml",
    "SOLO/solo_R_50_3x.yaml",
    "photos/solov2_photos.yaml",
)
GB = 10**9
LEAST_GB, MOST_GB = 1.5, 16.0
COLUMNS = ("config", "options", "free_gb", "images", "peak_gb", "result")
FITTED, TOO_LITTLE, OUT_OF_MEMORY = "fits", "not even one image fits: refused", "out of memory"


def hold(pipe: Connection) -> None:
    """Hold all but the bytes that arrive, until there are no more."""
    held = None
    while (left := pipe.recv()) is not None:
        del held
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        held = torch.empty(max(0, free - left), dtype=torch.uint8, device="cuda")
        pipe.send(torch.cuda.mem_get_info()[0])


def attempt(config: str, opts: list[str], more: list[Any], iterations: int, seed: int) -> dict[str, Any]:
    """Return the batch size that was chosen, the highest memory of the training, and its result."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, config, [*opts, *map(str, more)])
    cfg.SEED, cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST = seed, "", ()
    found: dict[str, Any] = {"images": 0, "peak_gb": 0.0}
    with tempfile.TemporaryDirectory() as cfg.OUTPUT_DIR:
        register_datasets(cfg)
        check_config(cfg, for_training=True)
        try:
            cfg = set_batch_size(cfg, AUTO)
        except ConfigError:
            return found | {"result": TOO_LITTLE}
        found["images"] = cfg.SOLVER.IMS_PER_BATCH
        torch.cuda.reset_peak_memory_stats()
        try:
            _train(cfg, iterations)
            found["result"] = FITTED
        except torch.cuda.OutOfMemoryError:
            found["result"] = OUT_OF_MEMORY
    return found | {"peak_gb": torch.cuda.max_memory_reserved() / GB}


def _train(cfg: CfgNode, iterations: int) -> None:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.EPOCHS, cfg.SOLVER.STEPS = iterations, 0, ()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


def measure(configs: list[str], tries: int, iterations: int, opts: list[str]) -> list[dict[str, Any]]:
    """Return what happened in each try, and print it."""
    rng = random.Random(0)
    spawning = multiprocessing.get_context("spawn")
    pipe, other = spawning.Pipe()
    holder = spawning.Process(target=hold, args=(other,), daemon=True)
    holder.start()
    results = []
    for i in range(tries):
        amp, ema = rng.random() < 0.5, rng.random() < 0.5
        gc.collect()
        torch.cuda.empty_cache()
        pipe.send(int(rng.uniform(LEAST_GB, MOST_GB) * GB))
        free = pipe.recv() / GB
        config = configs[i % len(configs)]
        more = ["SOLVER.AMP.ENABLED", amp, "MODEL.EMA.ENABLED", ema, "MODEL.DEVICE", "cuda"]
        options = " ".join(["float16"] * amp + ["EMA"] * ema)
        found = {"config": config, "options": options, "free_gb": free} | attempt(config, opts, more, iterations, i)
        print(found, flush=True)
        results.append(found)
    pipe.send(None)
    holder.join()
    return results


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(CONFIGS))
    parser.add_argument("--tries", type=argument(COUNT), default=20, help="(%(default)s)")
    parser.add_argument("--iterations", type=argument(COUNT), default=8, help="of each try (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the results to benchmarks/results")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs for all configs; must come last"
    )
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise UserError("this needs a GPU")
    results = measure(args.configs, args.tries, args.iterations, args.opts)
    rows = [[f"{x[key]:.1f}" if isinstance(x[key], float) else x[key] for key in COLUMNS] for x in results]
    print(tabulate(rows, COLUMNS, tablefmt="github", disable_numparse=True))
    if args.write:
        write_results("batch_sizes", results, "cuda")


if __name__ == "__main__":
    with reported_errors():
        main()
