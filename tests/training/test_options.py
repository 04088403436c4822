"""Epochs, the validation loss, early stopping, and frozen parameters."""

import copy
import json
import math

import pytest
import torch
from torch import nn

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.modeling.batch_norms import freeze
from centermask_solo.modeling.gradient_checkpointing import checkpoint_backbone
from centermask_solo.training import trainer as trainer_module
from centermask_solo.training.best import BestWeights
from centermask_solo.training.trainer import Trainer, training_data_of
from centermask_solo.training.validation import ValidationLoss, batches_of_process
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS
from tests.training.test_averaging import fake_scores
from tests.training.tiny import RecordingTrainer, register, tiny_cfg, train, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


def make_cfg(data, output, *options):
    cfg = tiny_cfg(data, output)
    cfg.SEED = 3
    cfg.merge_from_list(list(options))
    return cfg


def test_epochs_in_place_of_iterations(data, tmp_path, caplog):
    """6 images in batches of 4: an epoch is 1.5 iterations; the step stays at 3/4 of the training."""
    caplog.set_level("INFO")
    options = ("SOLVER.EPOCHS", 8, "TEST.EVAL_EPOCHS", 2, "SOLVER.CHECKPOINT_EPOCHS", 4, "SOLVER.WARMUP_ITERS", 9)
    trainer = RecordingTrainer(make_cfg(data, tmp_path, *options))
    solver = trainer.cfg.SOLVER
    assert (trainer.max_iter, solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (12, 12, (9,), 1)
    assert (trainer.cfg.TEST.EVAL_PERIOD, solver.CHECKPOINT_PERIOD) == (3, 6)
    assert "An epoch is 1.5 iterations, 6 images in batches of 4: 12 iterations" in caplog.text
    again = RecordingTrainer(trainer.cfg)  # as in a checkpoint
    assert solver == again.cfg.SOLVER


def test_without_epochs_iterations_count(data, tmp_path):
    trainer = RecordingTrainer(make_cfg(data, tmp_path))
    assert (trainer.max_iter, trainer.cfg.SOLVER.STEPS, trainer.cfg.SOLVER.WARMUP_ITERS) == (8, (6,), 2)


def test_training_ends_when_the_metric_stays(data, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    options = ("TEST.EVAL_PERIOD", 1, "TEST.KEEP_BEST", "segm/AP", "TEST.PATIENCE", 2)
    fake_scores(monkeypatch, [10.0, 20.0, 19.0, 20.0, 99.0, 99.0, 99.0, 99.0])
    trainer = train(make_cfg(data, tmp_path, *options))
    assert len(trainer.history) == 4
    assert "segm/AP has not improved in 2 evaluations, since iteration 2: the training ends." in caplog.text
    assert "Exception during training" not in caplog.text
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    final = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert final["iteration"] == 3 and final["results"] == {"segm/AP": 20.0}
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["best"]["iteration"] == 2 and best["results"] == {"segm/AP": 20.0}


def test_a_training_that_has_ended_early_stays_ended(data, tmp_path, monkeypatch):
    """Resumed, it trains no more; with more patience, it does."""
    options = ("TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "TEST.PATIENCE", 1)
    fake_scores(monkeypatch, [10.0, 10.0])
    assert len(train(make_cfg(data, tmp_path, *options)).history) == 4
    for _ in range(2):
        fake_scores(monkeypatch, [10.0])
        assert train(make_cfg(data, tmp_path, *options), resume=True).start_iter == 4
        assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 3
    fake_scores(monkeypatch, [10.0, 11.0, 12.0])
    trainer = train(make_cfg(data, tmp_path, *options[:-1], 2), resume=True)
    assert len(trainer.history) == 4 and trainer.best.value == 12.0


def test_an_evaluation_that_an_interruption_cost_is_made_up_for(data, tmp_path, monkeypatch):
    """The checkpoint after iteration 4 is written before its evaluation, which would not end the training."""
    options = ("TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "TEST.PATIENCE", 1, "SOLVER.CHECKPOINT_PERIOD", 2)
    scores = iter([10.0])
    monkeypatch.setattr(RecordingTrainer, "test", lambda self, cfg, model: {"segm": {"AP": next(scores)}})
    with pytest.raises(StopIteration):  # in the second evaluation
        train(make_cfg(data, tmp_path, *options))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000003.pth"
    fake_scores(monkeypatch, [20.0, 30.0, 40.0])
    trainer = train(make_cfg(data, tmp_path, *options), resume=True)
    assert len(trainer.history) == 4 and trainer.best.value == 40.0


def test_an_evaluation_that_is_made_up_for_counts_without_patience(data, tmp_path, monkeypatch):
    """Its weights may be the best, and its metrics are stored as those of all others."""
    options = ("TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "SOLVER.CHECKPOINT_PERIOD", 2)
    scores = iter([10.0])
    monkeypatch.setattr(RecordingTrainer, "test", lambda self, cfg, model: {"segm": {"AP": next(scores)}})
    with pytest.raises(StopIteration):  # in the second evaluation
        train(make_cfg(data, tmp_path, *options))
    fake_scores(monkeypatch, [50.0, 30.0, 40.0])
    trainer = train(make_cfg(data, tmp_path, *options), resume=True)
    assert trainer.storage.history("segm/AP").values() == [(50.0, 3), (30.0, 5), (40.0, 8)]
    assert (trainer.best.value, trainer.best.iteration) == (50.0, 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    written = [(x["segm/AP"], x["iteration"]) for x in lines if "segm/AP" in x]
    assert written == [(10.0, 1), (50.0, 3), (30.0, 5), (40.0, 8)]


@pytest.mark.parametrize(
    ("metric", "best"), [("segm/AP-lip gloss", 30.0), ("own/loss", 30.0), ("validation/total_loss", 10.0)]
)
def test_only_of_validation_losses_the_lowest_is_the_best(tmp_path, metric, best):
    weights = BestWeights(Checkpointer(nn.Linear(1, 1), str(tmp_path)), metric)
    task, _, name = metric.partition("/")
    for iteration, value in enumerate([20.0, 30.0, 10.0, 20.0]):
        weights.offer({task: {name: value}}, iteration, "raw")
    assert weights.value == best


def test_another_batch_size_of_a_resumed_training_is_a_warning(data, tmp_path, caplog):
    train(make_cfg(data, tmp_path), kill_before=6)
    train(make_cfg(data, tmp_path), resume=True)
    assert "images per iteration in" not in caplog.text
    train(make_cfg(data, tmp_path, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 9), resume=True)
    assert "had 4 images per iteration in 1 process, this one has 2 images per iteration" in caplog.text


def test_training_goes_on_while_the_metric_rises(data, tmp_path, monkeypatch):
    options = ("TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "TEST.PATIENCE", 1)
    fake_scores(monkeypatch, [10.0, 20.0, 30.0, 40.0])
    assert len(train(make_cfg(data, tmp_path, *options)).history) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("TEST.PATIENCE", 1, "TEST.EVAL_PERIOD", 2), r"TEST\.PATIENCE needs a metric: set TEST\.KEEP_BEST"),
        (("TEST.PATIENCE", 1, "TEST.KEEP_BEST", "segm/AP"), r"TEST\.PATIENCE counts evaluations in training"),
        (("TEST.KEEP_BEST", "segm/APx"), r"TEST\.KEEP_BEST segm/APx is none of the metrics: choose one of bbox/AP, "),
        (("TEST.KEEP_BEST", "ema/segm/AP"), r"are compared in one metric: set TEST\.KEEP_BEST segm/AP$"),
        (("TEST.KEEP_BEST", "validation/total_loss"), r"needs the losses of DATASETS\.TEST: set TEST\.LOSS True"),
        (("TEST.KEEP_BEST", "segm/AP", "DATASETS.TEST", ()), r"needs evaluations, but DATASETS\.TEST is empty"),
        (("TEST.LOSS", True, "DATASETS.TEST", ()), r"TEST\.LOSS needs images, but DATASETS\.TEST is empty"),
        (
            ("INPUT.COLOR", "weak", "INPUT.CHANNELS", 4),
            r"INPUT\.CHANNELS is 4: set INPUT\.COLOR none",
        ),
        (("MODEL.FREEZE", ["neck.*"]), r"MODEL\.FREEZE: no parameter of the model matches 'neck\.\*'"),
        (("MODEL.FREEZE", ["*"]), r"MODEL\.FREEZE \* freezes the whole model"),
    ],
)
def test_what_cannot_work_is_refused(data, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        RecordingTrainer(make_cfg(data, tmp_path, *options))


def test_an_unknown_part_of_the_validation_loss_ends_the_first_iteration(data, tmp_path):
    options = ("TEST.EVAL_PERIOD", 2, "TEST.LOSS", True, "TEST.KEEP_BEST", "validation/loss_x")
    with pytest.raises(
        ConfigError, match=r"choose one of validation/loss_last, validation/loss_mean, validation/total"
    ):
        train(make_cfg(data, tmp_path, *options))
    assert not (tmp_path / "model_final.pth").exists()


def test_norms_that_are_replaced_stay_frozen(data, tmp_path, monkeypatch):
    """On GPUs, those of several processes are new modules, which hooks of the old ones do not reach."""
    monkeypatch.setattr(trainer_module, "synchronize_batch_norms", nn.SyncBatchNorm.convert_sync_batchnorm)
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 2)
    cfg = make_cfg(data, tmp_path, "MODEL.SYNC_BN", True, "MODEL.FREEZE", ["0.*"])
    model = Trainer.prepare_training(cfg, nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))).train()
    assert isinstance(model[0], nn.SyncBatchNorm)
    model(torch.rand(2, 3, 4, 4) + 5)
    assert torch.equal(model[0].running_mean, torch.zeros(3))


def test_the_lowest_loss_is_the_best(data, tmp_path):
    """The validation loss of the weights that are kept is the lowest of all evaluations."""
    options = ("TEST.EVAL_PERIOD", 1, "TEST.LOSS", True, "TEST.KEEP_BEST", "validation/total_loss")
    trainer = train(make_cfg(data, tmp_path, *options))
    history = [value for value, _ in trainer.storage.history("validation/total_loss").values()]
    assert len(history) == 8 and len(set(history)) > 1
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]
    assert best["value"] == min(history) and best["iteration"] == 1 + history.index(min(history))
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [x["validation/total_loss"] for x in lines if "validation/total_loss" in x] == history
    parts = trainer.storage.latest()
    assert parts["validation/loss_mean"][0] + parts["validation/loss_last"][0] == pytest.approx(history[-1])


def test_the_validation_loss_is_the_mean_over_the_images(data, tmp_path):
    """Without dropout, flips and random sizes, and the same however images are batched; the model stays as it is."""
    cfg = make_cfg(data, tmp_path, "MODEL.TINY_DROPOUT", 0.9)
    model = Trainer.build_model(cfg).train()
    before = copy.deepcopy(model.state_dict())
    losses = []
    for batch in (1, 4):
        cfg.SOLVER.IMS_PER_BATCH = batch
        found = ValidationLoss(cfg, training_data_of(model)).compute(model)
        losses.append(found)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert model.training and model.dropout.training and not model.backbone[1].training
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert math.isclose(losses[0]["total_loss"], losses[0]["loss_mean"] + losses[0]["loss_last"])


@pytest.mark.parametrize("name", ["SOLOv2", "YOLACT", "CenterMask"])
def test_the_validation_loss_of_every_kind_of_system(data, tmp_path, name):
    register(data)
    cfg = SYSTEMS[name].cfg(num_classes=2)
    cfg.merge_from_list(["DATASETS.TEST", ("tiny",), "SOLVER.IMS_PER_BATCH", 3, "DATALOADER.NUM_WORKERS", 0])
    cfg.INPUT.AUGMENTATION = "ssd" if name == "YOLACT" else "default"
    model = Trainer.build_model(cfg)
    validation = ValidationLoss(cfg, training_data_of(model))
    first = validation.compute(model)
    assert first == validation.compute(model) and first["total_loss"] > 0 and not math.isnan(first["total_loss"])


@pytest.mark.parametrize(("num_images", "size", "processes"), [(5, 2, 2), (1, 4, 3), (6, 3, 2), (7, 1, 3)])
def test_processes_share_the_images_in_equally_many_batches(num_images, size, processes):
    shares = [batches_of_process(num_images, size, rank, processes) for rank in range(processes)]
    assert len({len(batches) for batches, _ in shares}) == 1
    counted = [i for batches, weights in shares for x, w in zip(batches, weights, strict=True) if w for i in x]
    assert sorted(counted) == list(range(num_images))
    assert sum(sum(weights) for _, weights in shares) == num_images


def test_frozen_parameters_and_statistics_stay(data, tmp_path):
    cfg = make_cfg(data, tmp_path, "MODEL.FREEZE", ["backbone.0.*"])
    torch.manual_seed(0)
    before = RecordingTrainer(cfg).model.state_dict()
    trainer = train(cfg)
    after = trainer.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"backbone.1.weight", "backbone.1.bias", "head.weight", "head.bias"}


def test_batch_norms_of_frozen_parameters_are_frozen():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3)).train()
    assert freeze(model, ["0.*"]) == 2
    model.train()
    model(torch.rand(2, 3, 4, 4) + 5)
    assert torch.equal(model[0].running_mean, torch.zeros(3)) and not torch.equal(model[1].running_mean, torch.zeros(3))
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_a_frozen_backbone_has_no_activations_to_save(caplog):
    caplog.set_level("INFO")
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)))
    model.requires_grad_(False)
    assert checkpoint_backbone(model) == 0
    assert "GRADIENT_CHECKPOINTING has no effect, as nothing in the backbone is trained" in caplog.text
