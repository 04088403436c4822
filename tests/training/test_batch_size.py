"""The batch size that fits in memory, and what belongs to it."""

import pytest
import torch

from centermask_solo.training import batch_size
from centermask_solo.training.batch_size import SHARE, find_batch_size, set_batch_size
from centermask_solo.training.run import run_training
from centermask_solo.training.schedule import scale_to_processes
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils import memory
from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.memory import available_bytes, forget_highest, highest_resident_bytes, resident_bytes
from tests.modeling.models import SYSTEMS
from tests.training.tiny import register, tiny_cfg, train, write_dataset

MEGA = 2**20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, num_images=40)
    return folder


@pytest.fixture
def peaks(monkeypatch):
    """Steps that need 100 MiB, and 10 MiB for each image at the largest size."""
    probe = batch_size._Probe
    monkeypatch.setattr(probe, "_peak", lambda self, images: 100 * MEGA + images * 10 * MEGA / self.scale)
    monkeypatch.setattr(probe, "_now", lambda self: 0)
    return monkeypatch


def test_memory_for_one_step_and_each_image(data, tmp_path, peaks, caplog):
    caplog.set_level("INFO")
    peaks.setattr(batch_size, "available_bytes", lambda: int(195 * MEGA / SHARE))
    cfg = tiny_cfg(data, tmp_path)
    assert find_batch_size(cfg) == 9
    assert "100" not in caplog.text and "0.10 GB, with optimizer, and 0.01 GB per image" in caplog.text
    cfg.SOLVER.ACCUMULATE = 2
    assert find_batch_size(cfg) == 18
    peaks.setattr(batch_size, "available_bytes", lambda: 2**40)
    assert find_batch_size(cfg) == 40  # images that there are
    peaks.setattr(batch_size, "available_bytes", lambda: 100 * MEGA)
    with pytest.raises(ConfigError, match=r"--batch-size auto: a step with one image takes 0\.1 GB, but 0\.1 GB are"):
        find_batch_size(cfg)


def test_no_step_takes_less_than_nothing(data, tmp_path, monkeypatch):
    """Memory that is measured varies: the line through two steps may cross zero images below zero bytes."""
    monkeypatch.setattr(batch_size._Probe, "_peak", lambda self, images: {1: 10 * MEGA, 3: 70 * MEGA}[images])
    fixed, per_image = batch_size._Probe(tiny_cfg(data, tmp_path), Trainer).measure()
    assert fixed == 0.0 and per_image >= 30 * MEGA


def test_learning_rate_and_schedule_follow(data, tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = tiny_cfg(data, tmp_path)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 0.04, 80, (60,)
    solver = set_batch_size(cfg, "8").SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (8, 0.08, 40, (30,))
    assert "--batch-size 8: learning rate 0.04 x 8 / 4 = 0.08, 40 iterations" in caplog.text
    assert set_batch_size(cfg, "") is cfg
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 2  # for one process: two images, half the rate, twice the iterations
    solver = set_batch_size(cfg, "8").SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (8, 0.08, 40)


def test_no_schedule_gets_shorter_than_an_iteration(data, tmp_path):
    """Detectron2's rule rounds to 0: a training that fails, and periods without checkpoints and evaluations."""
    cfg = tiny_cfg(data, tmp_path)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.STEPS = 4, 2, 2, ()
    scaled = set_batch_size(cfg, "64")
    assert (scaled.SOLVER.MAX_ITER, scaled.SOLVER.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (1, 1, 1)
    cfg.TEST.EVAL_PERIOD = 0  # none
    assert set_batch_size(cfg, "64").TEST.EVAL_PERIOD == 0
    cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH = 1, 1
    assert scale_to_processes(cfg, 16).SOLVER.MAX_ITER == 1


def test_a_resumed_training_keeps_its_batch_size(data, tmp_path):
    cfg = tiny_cfg(data, tmp_path)
    train(cfg, kill_before=6)
    with pytest.raises(ConfigError, match=r"give the --batch-size that its log\.txt names"):
        run_training(cfg, resume=True, batch_size="auto")


@pytest.mark.slow
@pytest.mark.skipif(not memory._STATUS.exists(), reason="needs Linux")
@pytest.mark.parametrize("ema", [False, True])
def test_a_training_stays_within_its_memory(data, tmp_path, monkeypatch, ema):
    """The batch that is found for some memory takes at most that, optimizer and average included."""
    register(data)
    cfg = SYSTEMS["SOLOv2"].cfg(num_classes=2)
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "INPUT.MIN_SIZE_TRAIN", (160,), "INPUT.MAX_SIZE_TRAIN", 224])
    cfg.merge_from_list(["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "MODEL.EMA.ENABLED", ema])
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0
    budget = 700 * MEGA
    monkeypatch.setattr(batch_size, "available_bytes", lambda: int(budget / SHARE))
    start = resident_bytes()
    images = find_batch_size(cfg)
    assert 1 <= images <= 40
    cfg.SOLVER.IMS_PER_BATCH = images
    torch.manual_seed(0)
    forget_highest()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert highest_resident_bytes() - start < budget / SHARE


def test_available_memory(monkeypatch, tmp_path):
    assert 0 < available_bytes() < 2**50
    (tmp_path / "max").write_text("3000000\n")
    (tmp_path / "now").write_text("1000000\n")
    monkeypatch.setattr(memory, "_LIMITS", ((tmp_path / "max", tmp_path / "now"),))
    if memory._MEMORY.exists():
        assert available_bytes() == 2_000_000
        (tmp_path / "max").write_text("max\n")
        assert available_bytes() > 2_000_000
