"""The demo: train a small model on generated images, evaluate it on others, and draw what it finds."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from .checkpoint.folder import checkpoints_in
from .config import check_pairs, config_dir, config_names, default_config, merge_config
from .data.datasets import register_datasets
from .data.loader import load_dataset
from .data.selective_search import write_missing_proposals
from .evaluation import format_results
from .inference.comparison import compare_with_ground_truth
from .model_zoo import mobilenetv2_imagenet
from .modeling.parts import needs_proposals
from .modeling.systems import list_systems
from .training.logs import output_in_log
from .training.progress import ProgressPrinter, format_seconds
from .training.run import run_training
from .training.setup import setup_cfg
from .utils.errors import ConfigError, WeightsError
from .utils.files import claim_file
from .utils.text import counted

# Without ImageNet weights the whole backbone is trained as fast as the rest, and the statistics of its batch norms are
# estimated.
FROM_SCRATCH = [
    *("MODEL.WEIGHTS", "", "MODEL.MOBILENETV2.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0"),
    *("SOLVER.LR_FACTORS", "[]"),
]


def demo_configs() -> dict[str, str]:
    """Return the config, below ``configs``, of each model that has a demo."""
    names = (name for name in config_names() if name.startswith("shapes/") and "Base" not in name)
    return {name.removeprefix("shapes/").removesuffix("_shapes.yaml"): name for name in names}


def run_demo(model: str = "", output_dir: str = "", opts: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Train, evaluate and draw; write everything below ``output_dir``, and print a summary.

    Args:
        model: A key of :func:`demo_configs` (default: that of the first system that has one).
        output_dir: Folder of the results (default: ``output/demo_<model>``).
        opts: KEY VALUE pairs that change the config.
        overwrite: Whether an earlier training in ``output_dir`` is replaced; one in the default folder always is.

    Raises:
        UserError: There is no demo of such a model, or the training cannot run with these options.
    """
    configs = demo_configs()
    model = model or next(x for x in (system.name.lower() for system in list_systems()) if x in configs)
    if model not in configs:
        raise ConfigError(f"there is no demo of '{model}'; choose one of: {', '.join(configs)}")
    overwrite = overwrite or not output_dir
    check_pairs(opts)
    output_dir = output_dir or os.path.join("output", f"demo_{model}")
    with _catalogs_restored():
        _run(os.path.relpath(config_dir() / configs[model]), output_dir, [*opts, "OUTPUT_DIR", output_dir], overwrite)


def _run(config_file: str, output_dir: str, opts: list[str], overwrite: bool) -> None:
    start = time.perf_counter()
    sheet = os.path.join(output_dir, "contact_sheet.png")
    claim_file(sheet, overwrite=overwrite)
    if checkpoints_in(output_dir) and overwrite:
        say(f"The results of an earlier training in {output_dir} are replaced.")
    cfg = default_config()
    merge_config(cfg, config_file, opts)
    say(f"1. Data: generated images with exact masks (for training: {', '.join(cfg.DATASETS.TRAIN)})")
    register_datasets(cfg)
    num_train, num_test = (len(load_dataset(names[0])) for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST))
    if cfg.MODEL.LOAD_PROPOSALS:
        search_regions(cfg)
    opts = [*initial_weights(cfg.MODEL.WEIGHTS), *opts]
    say(
        f"2. Training: {counted(cfg.SOLVER.MAX_ITER, 'iteration')} on {counted(num_train, 'image')}, "
        f"evaluated on {counted(num_test, 'other')}"
    )
    print("   The same without the demo:\n")
    print(f"     {shlex.join(train_command(config_file, ['--overwrite', *opts]))}\n", flush=True)
    cfg, results = _train(config_file, output_dir, opts, overwrite)
    say("3. Drawing what the model finds in images that it has not seen")
    cfg.MODEL.WEIGHTS = os.path.join(output_dir, "model_final.pth")
    compare_with_ground_truth(cfg, sheet, overwrite=overwrite)
    took = format_seconds(time.perf_counter() - start)
    say(f"Done in {took}. COCO AP on {counted(num_test, 'image')} not seen in training:\n")
    print(format_results(results))
    print(f"\nImages, ground truth and predictions side by side: {sheet}\n\nWhat you can try next:\n")
    commands = next_commands(config_file, output_dir, cfg.SOLVER.MAX_ITER)
    for command in commands[1:] if needs_proposals(cfg) else commands:
        print(f"  {shlex.join(command)}")


def _train(config_file: str, output_dir: str, opts: list[str], overwrite: bool) -> tuple[CfgNode, dict[str, Any]]:
    """Train in this process, with progress on the screen and the log in a file; return the config and the results."""
    args = argparse.Namespace(config_file=config_file, opts=opts, resume=False, eval_only=False, overwrite=overwrite)
    progress = ProgressPrinter(indent=5)
    with output_in_log(output_dir):
        cfg = setup_cfg(args, screen="nothing")
        results = run_training(cfg, overwrite=overwrite, hooks=[progress])
    cfg = cfg.clone()
    cfg.defrost()
    return cfg, results


@contextmanager
def _catalogs_restored() -> Iterator[None]:
    """Forget the datasets that are registered inside, so that another call can give them other files."""
    before = [(catalog, set(catalog.list())) for catalog in (DatasetCatalog, MetadataCatalog)]
    try:
        yield
    finally:
        for catalog, names in before:
            for name in set(catalog.list()) - names:
                catalog.remove(name)


def say(text: str) -> None:
    """Print a step of the demo."""
    print(f"\n{text}", flush=True)


def search_regions(cfg: CfgNode) -> None:
    """Write the proposal files that a config names and that do not exist, by selective search on all cores."""
    for path, count in write_missing_proposals(cfg, "single", os.cpu_count() or 1).items():
        print(f"   Proposals for {counted(count, 'image')} by selective search: {path}", flush=True)


def initial_weights(weights: str) -> list[str]:
    """Return the options that train from scratch if ``weights`` are ImageNet's and unavailable; otherwise none."""
    if weights != str(mobilenetv2_imagenet.FILE):
        return []
    try:
        mobilenetv2_imagenet.prepare(mobilenetv2_imagenet.FILE)
    except WeightsError as error:
        say(f"   The backbone starts from random instead of ImageNet weights, and will find less: {error}")
        return FROM_SCRATCH
    return []


def train_command(config_file: str, opts: Sequence[str]) -> list[str]:
    """Return the command that trains: train_net.py in a checkout, elsewhere the subcommand that does the same."""
    script = Path(config_dir().parent, "train_net.py")
    program = [os.path.relpath(script)] if script.is_file() else ["-m", "centermask_solo.cli", "train"]
    return [python(), *program, "--config-file", config_file, *opts]


def python() -> str:
    """Return the running Python, relative to the current folder if it is below it."""
    relative = os.path.relpath(sys.executable)
    return sys.executable if relative.startswith("..") else relative


def next_commands(config_file: str, output_dir: str, iterations: int) -> list[list[str]]:
    """Return three commands to continue with."""
    command, weights = [python(), "-m", "centermask_solo.cli"], os.path.join(output_dir, "model_final.pth")
    return [
        [*command, "predict", "--weights", weights, "--input", "YOUR_IMAGES", "--output", f"{output_dir}/predictions"],
        train_command(config_file, ["SOLVER.MAX_ITER", str(3 * iterations), "OUTPUT_DIR", f"{output_dir}_longer"]),
        [*command, "data", "check", "YOUR.json", "YOUR_IMAGES"],
    ]
