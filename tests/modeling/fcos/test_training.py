"""FCOS in the trainer, the checkpointer and the evaluator, and in two processes."""

import pytest
import torch

from centermask_solo.modeling.fcos import FCOSPredictions, FCOSProposalGenerator, FCOSTargets
from centermask_solo.modeling.fcos.targets import centerness_targets
from centermask_solo.modeling.instance_nms import InstanceNMS, NMSOptions
from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.trainer import Trainer
from tests.forked import launch_forked
from tests.modeling.fcos.tiny import tiny_cfg
from tests.training.tiny import CLASSES, register, write_dataset

K = 4


def test_it_trains_saves_and_is_evaluated_on_boxes(tmp_path):
    write_dataset(tmp_path / "data", num_images=4, size=(64, 96))
    register(tmp_path / "data", "tiny_fcos")
    cfg = tiny_cfg(
        *["DATASETS.TRAIN", ("tiny_fcos",), "DATASETS.TEST", ("tiny_fcos",), "OUTPUT_DIR", str(tmp_path)],
        *["MODEL.FCOS.NUM_CLASSES", len(CLASSES), "DATALOADER.NUM_WORKERS", 0, "VIS_PERIOD", 1],
        *["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2],
        *["SOLVER.REFERENCE_WORLD_SIZE", 0],
        *["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (1,)],
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    cfg.MODEL.FCOS.SCORE_THRESH_TEST = 0.001  # it has hardly learned yet
    results = evaluate(cfg)
    assert set(results) == {"bbox"} and results["bbox"]["AP"] >= 0


def batch():
    """Predictions and targets of two images; the second has no positive."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(3, 4), (2, 2)]
    predictions = [[torch.rand(2, c, *s, generator=generator) for s in sizes] for c in (K, 4, 1)]
    classes = torch.full((2, 16), K)
    classes[0, :5] = 1
    ltrb = (torch.rand(2, 16, 4, generator=generator) * 3 + 0.1) * (classes < K)[..., None]
    return predictions, FCOSTargets(classes, ltrb, centerness_targets(ltrb))


def losses_of(predictions, targets):
    part = {"in_features": ["p3", "p4"], "strides": [8, 16], "sizes_of_interest": [64], "num_classes": K}
    generator = FCOSProposalGenerator(
        fcos_head=torch.nn.Identity(), nms=InstanceNMS("BatchedNMS", NMSOptions(iou_thresh=0.6)), **part
    )
    return {k: v.item() for k, v in generator.losses(FCOSPredictions(*predictions), targets).items()}


def one_of_two(rank, folder):
    """Run a process that sees one of the two images."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    predictions, targets = batch()
    own = slice(rank, rank + 1)
    losses = losses_of([[x[own] for x in part] for part in predictions], FCOSTargets(*(x[own] for x in targets)))
    torch.save(losses, f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_mean_over_two_processes_is_the_loss_of_one(tmp_path):
    launch_forked(one_of_two, args=(str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    for name, value in losses_of(*batch()).items():
        assert (halves[0][name] + halves[1][name]) / 2 == pytest.approx(value, rel=1e-5), name
