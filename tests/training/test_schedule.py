"""What the log says of batch size, learning rate and schedule."""

import logging

import pytest
import torch

from centermask_solo.config import default_config
from centermask_solo.training.schedule import epochs_to_iterations, without_useless_steps
from centermask_solo.training.trainer import Trainer


def messages(caplog, num_processes, **solver):
    cfg = default_config()
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    with caplog.at_level(logging.INFO, "centermask_solo"):
        Trainer.auto_scale_workers(cfg, num_processes)
    return [(x.levelname, x.message) for x in caplog.records if x.name.startswith("centermask_solo")]


CONFIGS = "batch size, learning rate and schedule are the config's"
SCALED = "batch size and learning rate times {}; iterations, steps, warm-up and periods times {}"


@pytest.mark.parametrize(
    "reference, num_processes, rule, result",
    [
        (8, 1, SCALED.format("1/8", "8"), "2 images per iteration, learning rate 0.00125, 720000 iterations"),
        (2, 3, SCALED.format("3/2", "2/3"), "24 images per iteration, learning rate 0.015, 60000 iterations"),
        (8, 8, CONFIGS, "16 images per iteration, learning rate 0.01, 90000 iterations"),
        (
            0,
            1,
            f"{CONFIGS} for any number of processes",
            "16 images per iteration, learning rate 0.01, 90000 iterations",
        ),
    ],
)
def test_one_line_states_the_rule(caplog, reference, num_processes, rule, result):
    options = {"IMS_PER_BATCH": 16, "BASE_LR": 0.01, "MAX_ITER": 90_000, "REFERENCE_WORLD_SIZE": reference}
    processes = "1 process" if num_processes == 1 else f"{num_processes} processes"
    line = f"{processes}, SOLVER.REFERENCE_WORLD_SIZE {reference}: {rule}: {result}"
    assert messages(caplog, num_processes, **options) == [("INFO", line)]


def test_a_warm_up_as_long_as_the_training_is_a_warning(caplog):
    sound = {"WARMUP_ITERS": 999, "MAX_ITER": 1000, "STEPS": ()}
    assert len(messages(caplog, 1, **sound)) == 1
    caplog.clear()
    _, (level, text) = messages(caplog, 1, **sound | {"WARMUP_ITERS": 1000})
    assert level == "WARNING"
    assert text.startswith("SOLVER.WARMUP_ITERS 1000 is not less than SOLVER.MAX_ITER 1000: the learning rate never")


@pytest.mark.parametrize(
    ("steps", "max_iter", "kept"), [((0, 0, 1, 2, 2, 3), 3, (1, 2)), ((60, 80), 2, ()), ((1, 2), 2, (1,)), ((), 1, ())]
)
def test_steps_of_short_trainings(caplog, steps, max_iter, kept):
    """Detectron2's schedules end with a traceback if two are at one iteration, or one is at the first or last."""
    cfg = default_config()
    cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER = steps, max_iter
    cfg = without_useless_steps(cfg)
    assert kept == cfg.SOLVER.STEPS and ("become" in caplog.text) == (steps != kept)
    Trainer.build_lr_scheduler(cfg, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0))


def test_a_training_in_epochs_has_checkpoints():
    """The period of the config is for its own, longer training."""
    cfg = default_config()
    cfg.SOLVER.EPOCHS, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.CHECKPOINT_PERIOD = 10, 2, 5000
    assert epochs_to_iterations(cfg, 4).SOLVER.CHECKPOINT_PERIOD == 4
    cfg.SOLVER.CHECKPOINT_PERIOD = 15
    assert epochs_to_iterations(cfg, 4).SOLVER.CHECKPOINT_PERIOD == 15
    cfg.SOLVER.CHECKPOINT_EPOCHS = 20
    assert epochs_to_iterations(cfg, 4).SOLVER.CHECKPOINT_PERIOD == 40


def test_epochs_are_not_called_iterations(caplog):
    ((_, text),) = messages(caplog, 1, EPOCHS=2, REFERENCE_WORLD_SIZE=0)
    assert text.endswith("learning rate 0.001, 2 epochs")
