"""How many processes a machine with one GPU lets one start: one for the GPU, several on the CPU."""

import argparse
import os

import detectron2.engine
import pytest
import torch

from centermask_solo.cli import train
from centermask_solo.training.launch import launch
from centermask_solo.utils.errors import ConfigError

GPUS = "CUDA_VISIBLE_DEVICES"


@pytest.fixture
def started(monkeypatch):
    """What the launcher of a machine with one GPU is asked for: numbers of processes, and the GPUs that they see."""
    started = []

    def start(main, num_processes, **options):
        started.append((num_processes, os.environ.get(GPUS)))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(detectron2.engine, "launch", start)
    return started


def run(*arguments):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.run(parser.parse_args(["--config-file", "shapes/solov2_shapes.yaml", *arguments]))


@pytest.mark.parametrize("before", [None, "0"])
def test_several_processes_run_on_the_cpu_of_a_machine_with_one_gpu(started, monkeypatch, before):
    monkeypatch.delenv(GPUS, raising=False)
    if before is not None:
        monkeypatch.setenv(GPUS, before)
    run("--num-gpus", "2", "MODEL.DEVICE", "cpu")
    run("--num-gpus", "1", "MODEL.DEVICE", "cpu")
    run("--num-gpus", "1")
    assert started == [(2, ""), (1, before), (1, before)]
    assert os.environ.get(GPUS) == before


def test_the_device_may_be_in_the_config_file(started, tmp_path):
    (tmp_path / "cpu.yaml").write_text("MODEL: {DEVICE: cpu}")
    run("--config-file", str(tmp_path / "cpu.yaml"), "--num-gpus", "3")
    assert started == [(3, "")]


def test_more_processes_than_gpus_or_cores_are_refused(started, monkeypatch):
    for device in ("cuda", "cuda:0"):
        with pytest.raises(ConfigError, match=r"--num-gpus 2: this machine has 1 usable GPU$"):
            run("--num-gpus", "2", "MODEL.DEVICE", device)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    with pytest.raises(ConfigError, match=r"--num-gpus 17: MODEL\.DEVICE is cpu, and this machine has 4 cores: give"):
        run("--num-gpus", "17", "MODEL.DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"--num-gpus 17: this machine has no GPU and 4 cores: give fewer"):
        launch(print, argparse.Namespace(num_gpus=17))
    assert not started
