"""train_net.py with SOLOv2: killed and resumed, and on two processes."""

import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model
from PIL import Image

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.training.launch import launch
from tests.forked import start_program
from tests.training import double

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "shapes" / "solov2_shapes.yaml")
# So small that starting takes longer than training
SMALL = "MODEL.SOLOV2.INSTANCE_CHANNELS 32 MODEL.SOLOV2.MASK_CHANNELS 32 MODEL.SOLOV2.NUM_MASKS 32"
SMALL += " MODEL.FPN.OUT_CHANNELS 32 INPUT.MIN_SIZE_TRAIN (64,) SOLVER.IMS_PER_BATCH 2 SEED 3 MODEL.DEVICE cpu"
# From random weights, which every machine has, and with plain gradient steps, which are continuous in the gradient
SMALL += " MODEL.WEIGHTS '' MODEL.MOBILENETV2.NORM BN MODEL.BACKBONE.FREEZE_AT 0 SOLVER.OPTIMIZER SGD"
SMALL += " SOLVER.BASE_LR 0.02 SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR SOLVER.WARMUP_ITERS 2 SOLVER.STEPS (5,)"


def arguments(data, output, options, *flags):
    """The arguments of train_net.py that train the small model on a generated split, the folder ``data``."""
    name = f"program_{data.name}"
    coco = [[name, str(data / "annotations.json"), str(data / "images")]]
    datasets = ["DATASETS.COCO_JSON", str(coco), "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", "()"]
    overrides = shlex.split(f"{SMALL} {options}")
    return ["--config-file", CONFIG, "--dist-url", "auto", *flags, *overrides, *datasets, "OUTPUT_DIR", str(output)]


def start(data, output, *args):
    """Start train_net.py in a process group of its own; its log goes to ``output`` with the suffix .log."""
    return start_program(str(ROOT / "train_net.py"), arguments(data, output, *args), output.with_suffix(".log"))


def finish(process, output):
    """Wait until train_net.py ends well, and return its log."""
    process.join()
    log = output.with_suffix(".log").read_text()
    assert process.exitcode == 0, log[-4000:]
    return log


def weights(output):
    return torch.load(output / "model_final.pth", weights_only=True)["model"]


def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    data = generate_shapes(tmp_path, "many", 9, size=128)
    options = "SOLVER.MAX_ITER 20 SOLVER.CHECKPOINT_PERIOD 3 DATALOADER.NUM_WORKERS 1"
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    reference, process = start(data, unbroken, options), start(data, killed, options)
    while not (killed / "last_checkpoint").exists() and process.is_alive():
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (killed / "model_final.pth").exists()
    log = finish(start(data, killed, options, "--resume"), killed)
    iteration = int(re.search(r"which continues at iteration (\d+)", log).group(1))
    assert 0 < iteration < 20 and iteration % 3 == 0
    finish(reference, unbroken)
    expected = weights(unbroken)
    for name, value in weights(killed).items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture
def pair(tmp_path):
    """The folder of a split of two images, a generated one and its negative, with the same instances."""
    folder = generate_shapes(tmp_path, "pair", 1, size=128)
    content = json.loads((folder / "annotations.json").read_text())
    image = content["images"][0]
    negative = {**image, "id": image["id"] + 1, "file_name": "negative.png"}
    pixels = np.asarray(Image.open(folder / "images" / image["file_name"]))
    Image.fromarray(255 - pixels).save(folder / "images" / negative["file_name"])
    content["images"].append(negative)
    copies = [{**x, "id": x["id"] + 1000, "image_id": negative["id"]} for x in content["annotations"]]
    content["annotations"].extend(copies)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.mark.usefixtures("forked_processes")
def test_two_processes_take_the_steps_of_one(pair, tmp_path):
    """On images with the same instances, so that the processes' means are over as many cells: see docs/training.md.

    In double precision, because a network of random weights magnifies the rounding of float32, on each processor in its
    own way. Two losses would differ: batch norms would see one image instead of two, so they are frozen, and the class
    loss is divided by one more than the positive cells of a process, so it is left out.
    """
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(CONFIG)
    options = "MODEL.META_ARCHITECTURE DoubleSOLOv2 MODEL.MOBILENETV2.NORM FrozenBN MODEL.SOLOV2.LOSS.CLASS_WEIGHT 0.0"
    cfg.merge_from_list(shlex.split(f"{SMALL} {options}"))
    torch.manual_seed(0)
    before = build_model(cfg).state_dict()
    torch.save(before, tmp_path / "start.pth")
    options += f" MODEL.WEIGHTS {shlex.quote(str(tmp_path / 'start.pth'))}"
    options += " SOLVER.MAX_ITER 2 SOLVER.STEPS () INPUT.RANDOM_FLIP none DATALOADER.NUM_WORKERS 0"
    updates = []
    for flag in ("--num-gpus=1", "--num-gpus=2"):
        args = arguments(pair, tmp_path / flag, options, flag)
        launch(double.main, default_argument_parser().parse_args(args), on_cpu=True)
        after = weights(tmp_path / flag)
        updates.append(torch.cat([(after[name] - value).flatten() for name, value in before.items()]))
    one, two = updates
    assert one.dtype == torch.float64 and one.norm() > 0
    assert (one - two).norm() < 1e-9 * one.norm()
