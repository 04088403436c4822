"""train_net.py as a user runs it, with SOLOv2: killed and resumed, and on two processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from centermask_solo import add_centermask_solo_config
from centermask_solo.data.shapes.generator import generate_shapes

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CONFIG = "configs/shapes/solov2_shapes.yaml"
# So small that an iteration takes a fraction of a second
SMALL = "MODEL.SOLOV2.INSTANCE_CHANNELS 32 MODEL.SOLOV2.MASK_CHANNELS 32 MODEL.SOLOV2.NUM_MASKS 32 MODEL.DEVICE cpu"
SMALL += " INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96 SOLVER.WARMUP_ITERS 2 SOLVER.STEPS (5,) SEED 3"
# From random weights, which every machine has, and with plain gradient steps, which are continuous in the gradient
SMALL += " MODEL.WEIGHTS '' MODEL.MOBILENETV2.NORM BN MODEL.BACKBONE.FREEZE_AT 0"
SMALL += " SOLVER.OPTIMIZER SGD SOLVER.BASE_LR 0.02 SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR"


def command(data, output, *options):
    folder = data / "train"
    coco = [["program_test", str(folder / "annotations.json"), str(folder / "images")]]
    own = ["DATASETS.COCO_JSON", str(coco), "DATASETS.TRAIN", "('program_test',)", "DATASETS.TEST", "()"]
    flags = [x for x in options if x.startswith("--")]
    values = [x for x in options if not x.startswith("--")]
    program = [sys.executable, "-W", "ignore", "train_net.py", "--config-file", CONFIG, "--dist-url", "auto", *flags]
    return [*program, *SMALL.split(), *own, "OUTPUT_DIR", str(output), *values]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*args):
    result = subprocess.run(command(*args), cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def weights(output, name="model_final"):
    return torch.load(output / f"{name}.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    generate_shapes(folder, "train", 9, size=128)
    return folder


def test_a_killed_training_ends_with_the_weights_of_an_unbroken_one(data, tmp_path):
    options = ("SOLVER.MAX_ITER", "8", "SOLVER.CHECKPOINT_PERIOD", "3", "SOLVER.IMS_PER_BATCH", "2")
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    run(data, unbroken, *options)
    with subprocess.Popen(
        command(data, killed, *options), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not (killed / "last_checkpoint").exists() and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (killed / "model_final.pth").exists()
    log = run(data, killed, "--resume", *options)
    assert "Starting training from iteration 3" in log or "Starting training from iteration 6" in log
    expected = weights(unbroken)
    for name, value in weights(killed).items():
        assert torch.equal(value, expected[name]), name


def test_two_processes_take_the_step_of_one(data, tmp_path):
    """On copies of one image, so that the processes' means are over as many cells; docs/training.md tells of others.

    The class loss, over one more than the positive cells of a process, is left out: it would differ by that one.
    """
    generate_shapes(tmp_path / "one", "train", 1, size=128)
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    cfg.merge_from_file(str(ROOT / CONFIG))
    cfg.merge_from_list(SMALL.split())
    torch.manual_seed(0)
    start = build_model(cfg).state_dict()
    torch.save(start, tmp_path / "start.pth")
    options = ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "INPUT.RANDOM_FLIP", "none"]
    options += [
        "MODEL.SOLOV2.LOSS.CLASS_WEIGHT",
        "0.0",
        "MODEL.CHANNELS_LAST",
        "False",
    ]  # a fresh network magnifies rounding
    options += ["MODEL.WEIGHTS", str(tmp_path / "start.pth"), "DATALOADER.NUM_WORKERS", "0"]
    updates = []
    for flag in ("--num-gpus=1", "--num-gpus=2"):
        run(tmp_path / "one", tmp_path / flag, flag, *options)
        end = weights(tmp_path / flag)
        names = [name for name, value in start.items() if value.is_floating_point() and "running" not in name]
        updates.append(torch.cat([(end[name] - start[name]).flatten() for name in names]))
    one, two = updates
    assert one.norm() > 0
    assert (one - two).norm() < 0.01 * one.norm()
