"""Two processes: batch norms with the statistics of both, the average of the weights, a loss that is not finite."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import nn

from centermask_solo.modeling.batch_norms import synchronize_batch_norms
from centermask_solo.modeling.channels_last import to_channels_last
from centermask_solo.training.launch import launch, reported_once
from tests.training.tiny import RecordingTrainer, TinyModel, tiny_cfg, write_dataset


class TinyNormModel(TinyModel):
    """TinyModel with a batch norm that uses the statistics of the batch."""

    def train(self, mode: bool = True) -> "TinyNormModel":
        return nn.Module.train(self, mode)


class TinyFailingModel(TinyModel):
    """TinyModel whose loss is not finite in iteration 5 of some processes."""

    failing: tuple[int, ...] = ()

    def forward(self, batched_inputs):
        losses = super().forward(batched_inputs)
        if self.training and get_event_storage().iter == 5 and comm.get_rank() in self.failing:
            losses["loss_last"] = losses["loss_last"] * torch.inf
        return losses


for model in (TinyNormModel, TinyFailingModel):
    if model.__name__ not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(model)


def train_in_process(args: argparse.Namespace) -> None:
    """Train in one of several processes; each writes its average, the main one its losses and weights."""
    torch.set_num_threads(1)
    cfg = tiny_cfg(Path(args.data), Path(args.output))
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.TINY_DROPOUT = "TinyNormModel", 0.0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.SEED, cfg.SOLVER.BASE_LR = (40,), 1, 0.02
    cfg.MODEL.SYNC_BN, cfg.MODEL.EMA.ENABLED, cfg.TEST.LOSS, cfg.TEST.EVAL_PERIOD = args.synchronized, True, True, 4
    torch.manual_seed(1)
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    rank = int(not trainer.checkpointer.save_to_disk)
    state = {"history": trainer.history, "model": trainer.checkpointer.model.state_dict()}
    state |= {"average": trainer.average.average, "validation": trainer.validation.compute(trainer.checkpointer.model)}
    torch.save(state, os.path.join(args.output, f"{rank}.pth"))


def run(data, output, processes, synchronized):
    args = argparse.Namespace(data=str(data), output=str(output), synchronized=synchronized)
    vars(args).update(num_gpus=processes, num_machines=1, machine_rank=0, dist_url="auto")
    launch(train_in_process, args, on_cpu=True)
    return [torch.load(output / f"{rank}.pth", weights_only=True) for rank in range(processes)]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
def test_synchronized_batch_norms_and_the_average_of_two_processes_equal_those_of_one(tmp_path):
    write_dataset(tmp_path / "data")
    (one,) = run(tmp_path / "data", tmp_path / "one", 1, synchronized=True)
    main, other = run(tmp_path / "data", tmp_path / "two", 2, synchronized=True)
    for a, b in zip(one["history"], main["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    for name, value in one["model"].items():
        # Detectron2's variance is not corrected for the number of values, and it counts no batches
        if not name.endswith(("running_var", "num_batches_tracked")):
            torch.testing.assert_close(main["model"][name], value, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(main["average"][name], one["average"][name], rtol=1e-3, atol=1e-5)
    for name, value in main["average"].items():  # also statistics
        assert torch.equal(value, other["average"][name]), name
    assert main["validation"] == other["validation"]
    apart = run(tmp_path / "data", tmp_path / "apart", 2, synchronized=False)
    name = "backbone.1.running_mean"
    assert not torch.equal(apart[0]["model"][name], apart[1]["model"][name])  # each process has its own


def fail_in_process(args: argparse.Namespace) -> None:
    """Train in one of several processes, of which some fail; each writes the error with which it ends."""
    torch.set_num_threads(1)
    cfg = tiny_cfg(Path(args.data), Path(args.output))
    cfg.MODEL.META_ARCHITECTURE, cfg.SOLVER.ACCUMULATE, TinyFailingModel.failing = (
        "TinyFailingModel",
        args.parts,
        args.failing,
    )
    with reported_once():
        trainer = RecordingTrainer(cfg)
        trainer.resume_or_load(resume=False)
        try:
            trainer.train()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            (Path(args.output) / f"error_{comm.get_rank()}.txt").write_text(text)
            raise


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
@pytest.mark.parametrize(("failing", "parts"), [((0,), 1), ((1,), 2), ((0, 1), 1)])
def test_a_loss_that_is_not_finite_in_one_process_ends_all(tmp_path, failing, parts):
    """Those whose loss it is keep their batches, and each names them and the last checkpoint."""
    write_dataset(tmp_path / "data")
    args = argparse.Namespace(data=str(tmp_path / "data"), output=str(tmp_path), failing=failing, parts=parts)
    vars(args).update(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    with pytest.raises(SystemExit) as end:
        launch(fail_in_process, args, on_cpu=True)
    assert end.value.code == 2
    first, second = ((tmp_path / f"error_{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("NonFiniteLossError: the loss became infinite or NaN at iteration 5: {'loss_mean': ")
    files = [tmp_path / f"non_finite_batch_{rank}.pth" for rank in failing]
    assert sorted(tmp_path.glob("non_finite_batch*")) == files
    for rank, file in zip(failing, files, strict=True):
        kept = torch.load(file, weights_only=True)
        assert kept["iteration"] == 5 and len(kept["batch"]) == 2
        assert f"images {[x['file_name'] for x in kept['batch']]} in process {rank}" in first
    where = f"the batch is in {files[0]}" if len(files) == 1 else f"the batches are in {files[0]} and {files[1]}"
    assert f"{where}, and the last checkpoint, {tmp_path}/model_0000003.pth, has finite weights" in first


@pytest.mark.parametrize("channels_last", [False, True])
def test_conversion_keeps_names_values_and_other_norms(channels_last):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4)))
    model[1].running_mean += 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model[1].weight
    made = synchronize_batch_norms(to_channels_last(model) if channels_last else model)
    assert [type(x) for x in (made[1], made[2][0], made[2][1])] == [NaiveSyncBatchNorm] * 2 + [type(model[2][1])]
    assert list(made.state_dict()) == list(before) and made[1].weight is weight
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    image = torch.rand(2, 3, 4, 4)
    assert made(image).shape == (2, 4, 4, 4)  # in a single process, it is a batch norm
