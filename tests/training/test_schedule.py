"""What the log says of batch size, learning rate and schedule."""

import logging

import pytest

from centermask_solo.config import default_config
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
