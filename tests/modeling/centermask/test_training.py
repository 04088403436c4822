"""CenterMask through the trainer, the checkpointer and the evaluator, and in several processes."""

import json

import pytest
import torch
import torch.multiprocessing as mp

from centermask_solo.modeling.centermask.losses import fcos_losses
from centermask_solo.modeling.centermask.targets import FCOSTargets, centerness_targets
from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.trainer import Trainer
from tests.modeling.centermask.helpers import K, make_cfg
from tests.training.tiny import CLASSES, register, write_dataset


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", num_images=4, size=(64, 96))
    register(tmp_path / "data", "tiny_centermask")
    cfg = make_cfg(
        *["DATASETS.TRAIN", ("tiny_centermask",), "DATASETS.TEST", ("tiny_centermask",), "OUTPUT_DIR", str(tmp_path)],
        *["MODEL.ROI_HEADS.NUM_CLASSES", len(CLASSES), "DATALOADER.NUM_WORKERS", 0],
        *["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2],
        *["SOLVER.MAX_ITER", 2, "SOLVER.STEPS", (1,)],
        *["TEST.AUG.MIN_SIZES", (64, 80), "TEST.AUG.MAX_SIZE", 120],
    )
    return cfg


def test_it_trains_saves_and_is_evaluated_with_and_without_augmentation(cfg, tmp_path):
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    cfg.MODEL.FCOS.SCORE_THRESH_TEST = 0.001  # it has hardly learned yet
    assert set(evaluate(cfg)) == {"bbox", "segm"}
    results = tmp_path / "inference" / "tiny_centermask" / "coco_instances_results.json"
    plain = json.loads(results.read_text())
    cfg.TEST.AUG.ENABLED = True
    assert set(evaluate(cfg)) == {"bbox", "segm"}
    augmented = json.loads(results.read_text())
    assert plain != augmented
    assert all("mask_score" in x for x in plain + augmented) and plain and augmented


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
    options = {"focal_alpha": 0.25, "focal_gamma": 2.0, "box_loss_type": "giou"}
    return {k: v.item() for k, v in fcos_losses(*predictions, targets, **options).items()}


def one_of_two(rank, folder):
    """A process that sees one of the two images."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    predictions, targets = batch()
    own = slice(rank, rank + 1)
    losses = losses_of([[x[own] for x in part] for part in predictions], FCOSTargets(*(x[own] for x in targets)))
    torch.save(losses, f"{folder}/{rank}.pth")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_the_mean_over_two_processes_is_the_loss_of_one(tmp_path):
    mp.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pth") for rank in range(2)]
    for name, value in losses_of(*batch()).items():
        assert (halves[0][name] + halves[1][name]) / 2 == pytest.approx(value, rel=1e-5), name
