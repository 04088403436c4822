"""The demonstration: train a small model on generated images, judge it on others, draw what it finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from .config import config_dir, config_names, merge_config
from .data.datasets import register_datasets
from .data.loader import load_dataset
from .evaluation import format_results
from .inference.predictor import compare_with_truth
from .model_zoo import mobilenetv2_imagenet
from .modeling.systems import find_system
from .visualization.pictures import SCORE_THRESHOLD

# Without ImageNet weights the whole backbone is trained, and its statistics have to be found.
FROM_SCRATCH = ["MODEL.WEIGHTS", "''", "MODEL.MOBILENETV2.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0"]
# A line of Detectron2's log in training, colours removed: what of it is shown.
PROGRESS = re.compile(r"(?:eta: (\S+(?: days?, \S+)?) +)?iter: (\d+) +total_loss: (\S+)")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def demo_configs() -> dict[str, str]:
    """The config, below ``configs``, of each model that there is a demo of."""
    names = (name for name in config_names() if name.startswith("shapes/") and "Base" not in name)
    return {name.removeprefix("shapes/").removesuffix("_shapes.yaml"): name for name in names}


def run_demo(cfg: CfgNode, model: str, output_dir: str = "", opts: Sequence[str] = ()) -> None:
    """Train, evaluate and draw; everything is written below ``output_dir``, and a summary printed.

    Args:
        cfg: Detectron2's defaults with the options of this package; changed in place.
        model: a key of :func:`demo_configs`.
        output_dir: by default ``output/demo_<model>``.
        opts: KEY VALUE pairs that change the config.

    Raises:
        ValueError: there is no demo of such a model.
    """
    configs = demo_configs()
    if model not in configs:
        raise ValueError(f"there is no demo of '{model}'; there is one of: {', '.join(configs)}")
    start = time.perf_counter()
    output_dir = output_dir or os.path.join("output", f"demo_{model}")
    config_file = os.path.relpath(config_dir() / configs[model])
    opts = [*opts, "OUTPUT_DIR", output_dir]
    merge_config(cfg, config_file, opts)
    say(f"1. The data: generated images with exact masks (those for training: {', '.join(cfg.DATASETS.TRAIN)})")
    register_datasets(cfg)
    num_train, num_test = (len(load_dataset(names[0])) for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST))
    command = train_command(config_file, [*initial_weights(cfg.MODEL.WEIGHTS), *opts])
    say(f"2. {cfg.SOLVER.MAX_ITER} iterations of training on {num_train} of them, judged on {num_test} others, by\n")
    print(f"     {' '.join(command)}\n")
    run_training(command, cfg.SOLVER.MAX_ITER, os.path.join(output_dir, "log.txt"))
    say("3. Drawing what the model finds in images that it has not seen")
    cfg.MODEL.WEIGHTS = os.path.join(output_dir, "model_final.pth")
    threshold = score_threshold(cfg.MODEL.META_ARCHITECTURE)
    sheet = compare_with_truth(cfg, os.path.join(output_dir, "contact_sheet.png"), score_threshold=threshold)
    results = json.loads(Path(output_dir, "evaluation.json").read_text())
    say(f"Done in {format_seconds(time.perf_counter() - start)}. COCO AP on {num_test} images not seen in training:\n")
    print(format_results(results))
    print(f"\nImages, ground truth and predictions side by side: {sheet}\nNext you can try:\n")
    commands = next_commands(config_file, output_dir, threshold)
    for line in commands[1:] if cfg.MODEL.LOAD_PROPOSALS else commands:  # without proposals it cannot predict
        print(f"  {line}")


def score_threshold(meta_architecture: str) -> float:
    """The score from which on detections of a system are drawn."""
    system = find_system(meta_architecture)
    return SCORE_THRESHOLD if system is None else system.score_threshold


def say(text: str) -> None:
    """Print a step of the demo."""
    print(f"\n{text}", flush=True)


def initial_weights(weights: str) -> list[str]:
    """The options that train from scratch if ``weights`` are ImageNet's and cannot be had here; otherwise none."""
    if weights != str(mobilenetv2_imagenet.FILE):
        return []
    try:
        mobilenetv2_imagenet.prepare(mobilenetv2_imagenet.FILE)
    except FileNotFoundError as error:
        say(f"   The backbone starts from random instead of ImageNet weights, and will find less: {error}")
        return FROM_SCRATCH
    return []


def train_command(config_file: str, opts: Sequence[str]) -> list[str]:
    """The command that trains: train_net.py in a checkout, elsewhere the subcommand that does the same."""
    script = Path(config_dir().parent, "train_net.py")
    program = [os.path.relpath(script)] if script.is_file() else ["-m", "centermask_solo.cli", "train"]
    return [python(), *program, "--config-file", config_file, *opts]


def python() -> str:
    """The running Python, as short as can be typed."""
    relative = os.path.relpath(sys.executable)
    return sys.executable if relative.startswith("..") else relative


def run_training(command: Sequence[str], max_iter: int, log: str) -> None:
    """Run the command and show how it gets on.

    Raises:
        ValueError: it failed, and why.
    """
    start = time.perf_counter()
    last_lines: deque[str] = deque(maxlen=20)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last_lines.append(line)
            shown = progress(line, max_iter, time.perf_counter() - start)
            if shown:
                print(f"     {shown}", flush=True)
    if process.returncode:
        sentences = [line for line in last_lines if line.startswith("error: ")]
        reason = (
            sentences[-1].removeprefix("error: ").strip() if sentences else "its last lines:\n" + "".join(last_lines)
        )
        raise ValueError(f"the training failed ({log} has all it said): {reason}")


def progress(line: str, max_iter: int, seconds: float) -> str | None:
    """What a line of the training's log says of its progress; None for other lines."""
    line = COLOURS.sub("", line)
    found = PROGRESS.search(line)
    if found:
        eta, iteration, loss = found.groups()
        done, gone = int(iteration) + 1, format_seconds(seconds)
        shown = f"iteration {done:4d} of {max_iter}   loss {float(loss):6.3f}   {gone} gone"
        return shown if eta is None else f"{shown}, {eta} to go"
    if "Start inference on" in line:
        return f"judging on {line.split('Start inference on ')[1].rstrip()}"
    return None


def next_commands(config_file: str, output_dir: str, score_threshold: float) -> list[str]:
    """Three commands that go on from here."""
    command, weights = f"{python()} -m centermask_solo.cli", os.path.join(output_dir, "model_final.pth")
    longer = train_command(config_file, ["SOLVER.MAX_ITER", "5000"])
    return [
        f"{command} predict --weights {weights} --score-threshold {score_threshold} "
        f"--input YOUR_IMAGES --output {output_dir}/predictions",
        " ".join([*longer, "OUTPUT_DIR", f"{output_dir}_longer"]),
        f"{command} check-dataset YOUR.json YOUR_IMAGES",
    ]


def format_seconds(seconds: float) -> str:
    """Such as "7 min 05 s"."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
