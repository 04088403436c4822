"""CenterMask in the trainer, the checkpointer and the evaluator."""

import json

import pytest

from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.trainer import Trainer
from tests.modeling.centermask.helpers import make_cfg
from tests.training.tiny import CLASSES, register, write_dataset


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "data", num_images=4, size=(64, 96))
    register(tmp_path / "data", "tiny_centermask")
    cfg = make_cfg(
        *["DATASETS.TRAIN", ("tiny_centermask",), "DATASETS.TEST", ("tiny_centermask",), "OUTPUT_DIR", str(tmp_path)],
        *["MODEL.ROI_HEADS.NUM_CLASSES", len(CLASSES), "DATALOADER.NUM_WORKERS", 0],
        *["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "SOLVER.IMS_PER_BATCH", 2],
        *["SOLVER.REFERENCE_WORLD_SIZE", 0],
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
