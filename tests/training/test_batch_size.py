"""The batch size that fits in memory, and what belongs to it."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks

from centermask_solo.data.loader import DRAWS, TrainLoader
from centermask_solo.training import batch_size, optimizer
from centermask_solo.training.batch_size import SHARE, find_batch_size, set_batch_size
from centermask_solo.training.run import run_training
from centermask_solo.training.schedule import scale_to_processes
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils import memory
from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.memory import available_bytes, forget_highest, highest_resident_bytes, resident_bytes
from tests.forked import CONTEXT
from tests.modeling.models import SYSTEMS
from tests.training.tiny import register, tiny_cfg, train, write_dataset

MEGA = 2**20
BUDGET = 700 * MEGA


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
    peaks.setattr(batch_size, "available_bytes", lambda: int(225 * MEGA / SHARE))
    cfg = tiny_cfg(data, tmp_path)
    assert find_batch_size(cfg) == 12
    assert "100" not in caplog.text and "0.10 GB, with optimizer, and 0.01 GB per image" in caplog.text
    cfg.SOLVER.ACCUMULATE = 2
    assert find_batch_size(cfg) == 24
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


@pytest.mark.parametrize(
    ("share", "tried", "expected"), [(3.1, [1, 3], 22), (2.1, [1, 2], 12), (1.9, [1], 1), (1.1, [1], 1)]
)
def test_no_step_on_a_cpu_may_end_the_process(data, tmp_path, peaks, share, tried, expected):
    """Steps that would take more than the memory, if each image took as much as the first one, are not tried."""
    ran = []
    peaks.setattr(batch_size._Probe, "_worst_area", lambda self: self._area(self.sample))
    peaks.setattr(batch_size._Probe, "_peak", lambda self, x: ran.append(x) or (90 + 10 * x) * MEGA)
    peaks.setattr(batch_size, "available_bytes", lambda: int(100 * share * MEGA / SHARE) + MEGA)
    assert find_batch_size(tiny_cfg(data, tmp_path)) == expected and ran == tried


@pytest.fixture
def gpu(peaks):
    """Steps on a GPU with memory for a number of images, each of which takes 10 MiB beside 100."""
    probe, limits = batch_size._Probe, []

    def peak(self, images):
        if images > (limits.pop(0) if len(limits) > 1 else limits[0]):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return (100 + 10 * images / self.scale) * MEGA

    peaks.setattr(probe, "_peak", peak)
    peaks.setattr(probe, "on_cpu", property(lambda self: False, lambda self, value: None), raising=False)
    peaks.setattr(probe, "budget", lambda self: 800.0 * MEGA)
    return limits


@pytest.mark.parametrize(("fitting", "expected"), [(40, 40), (30, 30), (2, 2), (1, 1)])
def test_a_gpu_on_which_few_images_fit(data, tmp_path, gpu, fitting, expected):
    gpu.append(fitting)
    assert find_batch_size(tiny_cfg(data, tmp_path)) == expected


@pytest.mark.parametrize("limits", [[0], [1, 0]])
def test_a_gpu_on_which_no_image_fits(data, tmp_path, gpu, limits):
    """From the beginning, or because others have taken its memory meanwhile."""
    gpu += limits
    with pytest.raises(ConfigError, match=r"one image takes more than 1\.0 GB, but 0\.8 GB are available: lower INPUT"):
        find_batch_size(tiny_cfg(data, tmp_path))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_state_of_the_optimizer_is_measured(data, tmp_path, monkeypatch, name):
    """Also where the gradients of float16 overflow, of which its scaler skips the step."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scaler("cpu", init_scale=math.inf))
    monkeypatch.setattr(optimizer, "FUSED_ON_CPU_SINCE", "9")  # fused steps have a state even if they are skipped
    cfg = tiny_cfg(data, tmp_path)
    cfg.SOLVER.OPTIMIZER = name
    probe = batch_size._Probe(cfg, Trainer)
    probe._peak(1)
    state, key = probe.trainer.optimizer.state, {"SGD": "momentum_buffer", "AdamW": "exp_avg_sq"}[name]
    for parameter in probe.trainer.model.parameters():
        assert state[parameter][key].shape == parameter.shape and parameter.isfinite().all()


def test_the_steps_that_are_measured_keep_the_average_of_the_weights(data, tmp_path, monkeypatch):
    calls = []

    class Average(batch_size.WeightAverage):
        def start(self):
            calls.append("start")
            super().start()

        def update(self):
            calls.append("update")
            super().update()

    monkeypatch.setattr(batch_size, "WeightAverage", Average)
    cfg = tiny_cfg(data, tmp_path)
    for cfg.MODEL.EMA.ENABLED in (False, True):
        batch_size._Probe(cfg, Trainer)._peak(1)
    assert calls == ["start"] + batch_size.STEPS * ["update"]


@pytest.mark.parametrize(
    ("options", "is_bitmask"),
    [
        ((), False),
        (("INPUT.LSJ.ENABLED", True, "INPUT.LSJ.SIZE", 64, "INPUT.LSJ.SCALES", (4.0, 9.0)), True),
        (("INPUT.ERASE.PROB", 1.0, "INPUT.ERASE.AREA", (0.9, 0.9)), True),
        (("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.2, 0.2]), True),
        (("INPUT.COPY_PASTE.PROB", 0.001), True),
        (("INPUT.MOSAIC.PROB", 0.001), True),
    ],
)
def test_no_augmentation_takes_objects_from_the_image_that_is_measured(tmp_path, options, is_bitmask):
    write_dataset(tmp_path / "data", num_images=3)
    path = tmp_path / "data" / "instances.json"
    content = json.loads(path.read_text())
    for i in range(9):
        x, y = 2 + 18 * (i % 3), 2 + 13 * (i // 3)
        shape = {"bbox": [x, y, 8, 8], "area": 64, "segmentation": [[x, y, x + 8, y, x + 8, y + 8, x, y + 8]]}
        content["annotations"].append({"id": 10 + i, "image_id": 2, "category_id": 1, "iscrowd": 0, **shape})
    path.write_text(json.dumps(content))
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.merge_from_list(["MODEL.MASK_ON", True, "SEED", 3, *options])
    probe = batch_size._Probe(cfg, Trainer)
    instances = probe.sample["instances"]
    assert isinstance(instances.gt_masks, BitMasks) == is_bitmask
    if cfg.INPUT.COPY_PASTE.PROB or cfg.INPUT.MOSAIC.PROB:
        assert len(instances) > 10
    else:
        assert probe.sample["file_name"].endswith("2.png") and len(instances) == 10
    if cfg.INPUT.LSJ.ENABLED:  # all images have this size, whatever MIN_SIZE_TRAIN is
        assert probe.sample["image"].shape == (3, 64, 64) and probe.scale == 1.0


def test_the_augmentation_that_keeps_the_most_objects_is_measured():
    dataset = [{"file_name": str(i), "width": 8, "height": 8, "annotations": [{}] * i} for i in (1, 3, 2)]
    drawn = []

    def mapper(sample):
        drawn.append(np.random.randint(100))  # noqa: NPY002
        return {"file_name": sample["file_name"], "instances": range(drawn[-1])}

    loader = TrainLoader(dataset, mapper, build_sampler=lambda seed: iter(range(3)), seed=1, batch_size=1)
    sample = loader.sample_with_most_objects()
    assert sample["file_name"] == "3" and len(sample["instances"]) == max(drawn)
    assert len(drawn) == DRAWS and len(set(drawn)) > 1


@pytest.mark.parametrize("available", [2**40, 0])
def test_the_training_begins_with_the_random_numbers_that_it_has_without(data, tmp_path, peaks, available):
    def states():
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        numbers, position = np.random.get_state()[1:3]  # noqa: NPY002
        return [random.getstate(), numbers.tolist(), position, [x.tolist() for x in (torch.get_rng_state(), *cuda)]]

    peaks.setattr(batch_size, "available_bytes", lambda: available)
    before = states()
    cfg = tiny_cfg(data, tmp_path)
    cfg.TEST.LOSS, cfg.TEST.KEEP_BEST = True, "validation/total_loss"  # which the steps that are measured do without
    try:
        find_batch_size(cfg)
    except ConfigError:
        assert not available
    assert states() == before


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
    cfg.SOLVER.EPOCHS = 2
    caplog.clear()
    set_batch_size(cfg, "8")
    assert caplog.messages[-1].endswith("= 0.08, 2 epochs")


@pytest.mark.skipif(not memory._STATUS.exists(), reason="needs Linux")
def test_memory_that_was_used_before_is_measured():
    """The system gets it back; otherwise a step that takes it again would seem to take nothing."""
    blocks = [bytearray(60_000) for _ in range(1000)]
    last = blocks.pop()  # the C library keeps what is before it
    high = resident_bytes()
    blocks.clear()
    memory.free_unused()
    assert resident_bytes() < high - 50e6 and last


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
def test_a_training_stays_within_its_memory(data, tmp_path, ema):
    """The batch that is found for some memory takes at most that, optimizer and average included."""
    found = CONTEXT.SimpleQueue()
    process = CONTEXT.Process(target=train_within, args=(str(data), str(tmp_path), ema, found))
    process.start()  # of its own, because tests before leave memory that the probe would use and not count
    process.join()
    assert process.exitcode == 0
    images, taken = found.get()
    assert 1 <= images <= 40 and taken < BUDGET / SHARE


def train_within(data, folder, ema, found):
    """Put the batch size that is found for a budget, and the bytes that a training takes with it, into a queue."""
    register(Path(data))
    cfg = SYSTEMS["SOLOv2"].cfg(num_classes=2)
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["OUTPUT_DIR", folder, "INPUT.MIN_SIZE_TRAIN", (160,), "INPUT.MAX_SIZE_TRAIN", 224])
    cfg.merge_from_list(["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (), "MODEL.EMA.ENABLED", ema])
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0
    torch.set_num_threads(1)
    batch_size.available_bytes = lambda: int(BUDGET / SHARE)
    start = resident_bytes()
    cfg.SOLVER.IMS_PER_BATCH = find_batch_size(cfg)
    torch.manual_seed(0)
    forget_highest()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    found.put((cfg.SOLVER.IMS_PER_BATCH, highest_resident_bytes() - start))


def test_available_memory(monkeypatch, tmp_path):
    assert 0 < available_bytes() < 2**50
    (tmp_path / "max").write_text("3000000\n")
    (tmp_path / "now").write_text("1000000\n")
    monkeypatch.setattr(memory, "_LIMITS", ((tmp_path / "max", tmp_path / "now"),))
    if memory._MEMORY.exists():
        assert available_bytes() == 2_000_000
        (tmp_path / "max").write_text("max\n")
        assert available_bytes() > 2_000_000
