"""Gradient accumulation, mixed precision and gradient checkpointing: the same training with less memory."""

import argparse
import copy
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from centermask_solo.modeling.batch_norms import running_statistics_kept
from centermask_solo.modeling.gradient_checkpointing import checkpoint_backbone
from centermask_solo.training.launch import launch
from centermask_solo.training.steps import TrainingStep, amp_dtype
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS, losses_and_gradients
from tests.modeling.test_parts_of_batch import BATCH
from tests.training.tiny import RecordingTrainer, tiny_cfg, train, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


def make_cfg(data, output, *options):
    """Without dropout, and with images of one size, so that padding is the same."""
    cfg = tiny_cfg(data, output)
    cfg.MODEL.TINY_DROPOUT, cfg.INPUT.MIN_SIZE_TRAIN, cfg.SEED = 0.0, (40,), 3
    cfg.merge_from_list(list(options))
    return cfg


CLIP = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"]
CLIP += ["SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.05]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ([], 1e-5),
        (["MODEL.EMA.ENABLED", True], 1e-5),
        (CLIP, 1e-5),
        (["SOLVER.AMP.ENABLED", True], 1e-2),
    ],
)
def test_accumulation_equals_the_large_batch(data, tmp_path, options, tolerance):
    whole = train(make_cfg(data, tmp_path / "whole", *options))
    parts = train(make_cfg(data, tmp_path / "parts", *options, "SOLVER.ACCUMULATE", 2))
    for a, b in zip(whole.history, parts.history, strict=True):
        assert b == pytest.approx(a, rel=tolerance)
    weights = parts.model.state_dict()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=tolerance, atol=tolerance)
    if whole.average is not None:
        for name, value in whole.average.average.items():
            torch.testing.assert_close(parts.average.average[name], value, rtol=1e-5, atol=1e-6)


def test_accumulation_needs_equal_parts(data, tmp_path):
    with pytest.raises(ConfigError, match=r"IMS_PER_BATCH 4 cannot be computed in SOLVER\.ACCUMULATE 3 equal parts"):
        train(make_cfg(data, tmp_path, "SOLVER.ACCUMULATE", 3))


def train_in_parts(args: argparse.Namespace) -> None:
    """Train in one of two processes, and save the weights."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    cfg = make_cfg(Path(args.data), Path(args.output), "SOLVER.ACCUMULATE", args.parts)
    trainer = RecordingTrainer(cfg)
    synchronized = []
    if args.parts > 1:
        trainer._trainer.model.register_comm_hook(synchronized, count_buckets)
    trainer.resume_or_load(resume=False)
    trainer.train()
    if trainer.checkpointer.save_to_disk:
        result = {"model": trainer.checkpointer.model.state_dict(), "synchronized": len(synchronized)}
        torch.save(result, Path(args.output, "result.pth"))


def count_buckets(state, bucket):
    """The default communication of gradients, which notes each call."""
    state.append(bucket.index())
    tensor = bucket.buffer() / torch.distributed.get_world_size()
    return torch.distributed.all_reduce(tensor, async_op=True).get_future().then(lambda x: x.value()[0])


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
def test_accumulation_in_two_processes_adds_gradients_once_per_step(data, tmp_path):
    results = []
    for parts in (1, 2):
        output = tmp_path / str(parts)
        args = argparse.Namespace(data=str(data), output=str(output), parts=parts)
        vars(args).update(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
        launch(train_in_parts, args, on_cpu=True)
        results.append(torch.load(output / "result.pth", weights_only=True))
    assert results[1]["synchronized"] == 8  # iterations, whose gradients fit in one bucket
    for name, value in results[0]["model"].items():
        torch.testing.assert_close(results[1]["model"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SOLOv2", "CenterMask"])
def test_a_step_in_parts_has_the_gradients_of_the_batch(name):
    gradients = []
    for parts in (1, 2):
        model = SYSTEMS[name].model().double()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.0)
        step = TrainingStep(model, [BATCH], optimizer, parts=parts)
        step.iter = 0
        torch.manual_seed(0)
        with EventStorage() as storage:
            step.run_step()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        assert storage.latest()["total_loss"][0] > 0
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], value, rtol=1e-4, atol=1e-5)


def test_counting_leaves_no_trace(data, tmp_path):
    """Running statistics and random numbers are those of a single forward pass."""
    norm = nn.BatchNorm2d(3)
    expected = copy.deepcopy(norm.state_dict())
    with running_statistics_kept(norm):
        norm(torch.rand(2, 3, 4, 4))
    assert all(torch.equal(value, expected[name]) for name, value in norm.state_dict().items())
    norm(torch.rand(2, 3, 4, 4))
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 1 and not torch.equal(norm.running_mean, torch.zeros(3))


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", "auto", torch.bfloat16),
        ("cuda", "auto", torch.float16),
        ("cuda", "bfloat16", torch.bfloat16),
        ("cuda", "float16", torch.float16),
    ],
)
def test_type_of_mixed_precision(data, tmp_path, device, dtype, expected):
    cfg = make_cfg(data, tmp_path, "MODEL.DEVICE", device, "SOLVER.AMP.DTYPE", dtype)
    assert amp_dtype(cfg) is None
    cfg.SOLVER.AMP.ENABLED = True
    assert amp_dtype(cfg) == expected


def test_float16_on_a_cpu_is_refused(data, tmp_path):
    cfg = make_cfg(data, tmp_path, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "float16")
    with pytest.raises(ConfigError, match=r"^SOLVER\.AMP\.DTYPE float16 needs a GPU"):
        train(cfg)


class Saved:
    """Counts the bytes that autograd keeps for the backward pass."""

    def __init__(self) -> None:
        self.bytes = 0

    def __enter__(self):
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda x: x)
        self.hooks.__enter__()
        return self

    def pack(self, tensor):
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


@pytest.mark.parametrize("name", ["SOLOv2", "CenterMask", "YOLACT"])
def test_gradient_checkpointing_keeps_less_and_changes_nothing(name):
    found = []
    for checkpointed in (False, True):
        model = SYSTEMS[name].model("MODEL.BACKBONE.FREEZE_AT", 0)
        keys = list(model.state_dict())
        if checkpointed:
            assert checkpoint_backbone(model) > 0
        assert list(model.state_dict()) == keys
        losses, gradients = losses_and_gradients(model, BATCH)
        with Saved() as saved:
            model.backbone(model.preprocess_image(BATCH).tensor)
        found.append((losses, gradients, saved.bytes, {k: v.clone() for k, v in model.state_dict().items()}))
    (losses, gradients, saved, state), (losses2, gradients2, saved2, state2) = found
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in losses2.items()}
    assert all(a is None or torch.equal(a, gradients2[key]) for key, a in gradients.items())
    assert all(torch.equal(value, state2[key]) for key, value in state.items())  # also running statistics
    assert saved2 < 0.7 * saved


def test_gradient_checkpointing_is_an_option_of_training(data, tmp_path):
    with pytest.raises(ConfigError, match=r"GRADIENT_CHECKPOINTING: TinyModel has no backbone with stages"):
        train(make_cfg(data, tmp_path, "MODEL.BACKBONE.GRADIENT_CHECKPOINTING", True))
