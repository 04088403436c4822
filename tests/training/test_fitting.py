"""A training of R-CNN from data to detections: the fit after the last iteration, its images, and its result."""

import numpy as np
import pytest
import torch

from centermask_solo import demo
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.inference.predictor import Predictor
from centermask_solo.training.fitting import FitHook
from centermask_solo.utils.errors import ConfigError, MissingPackageError, WeightsError
from tests.modeling.rcnn.tiny import tiny_cfg

pytest.importorskip("sklearn")
pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A few images, and an R-CNN that is small enough for them."""
    root = tmp_path_factory.mktemp("shapes")
    data = []
    for split, count in (("train", 6), ("val", 2)):
        generate_shapes(root, split, count, size=128)
        data.append([f"rcnn_{split}", str(root / split / "annotations.json"), str(root / split / "images")])
    opts = ["DATASETS.COCO_JSON", str(data), "DATASETS.TRAIN", "('rcnn_train',)", "DATASETS.TEST", "('rcnn_val',)"]
    for split in ("train", "test"):
        opts += [f"DATASETS.PROPOSAL_FILES_{split.upper()}", f"('{root}/{split}.pkl',)"]
    opts += ["MODEL.RCNN.REGION_SIZE", "32", "MODEL.RCNN.CONTEXT", "4", "DATALOADER.NUM_WORKERS", "0"]
    opts += ["MODEL.RCNN.FIT.MAX_IMAGES", "3", "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "20"]
    return [*opts, "SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "INPUT.MIN_SIZE_TEST", "96"]


def no_connection(output):
    raise WeightsError("no connection")


@pytest.mark.slow
def test_the_demo_of_r_cnn(options, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", no_connection)
    demo.run_demo("rcnn", str(tmp_path / "out"), options)
    text = capfd.readouterr()
    assert "Proposals for 6 images by selective search" in text.out and "Proposals for 2 images" in text.out
    assert "features of regions: 100%" in text.err and "3/3" in text.err and "hard negatives: 100%" in text.err
    assert "side by side" in text.out and " predict --weights " in text.out  # it needs no precomputed proposals
    weights = str(tmp_path / "out" / "model_final.pth")
    assert len(list((tmp_path / "out" / "features").rglob("*.array"))) == 3
    cfg = demo.default_config()
    demo.merge_config(cfg, demo.demo_configs()["rcnn"], [*options, "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"])
    predictor = Predictor(cfg)
    assert bool(predictor.model.is_fitted) and predictor.model.svm.weight.abs().sum() > 0
    assert "instances" in predictor(np.zeros((96, 128, 3), np.uint8))  # by selective search


class FakeTrainer:
    iter, max_iter = 0, 2

    def __init__(self, cfg):
        self.cfg = cfg


class FakeModel:
    max_fit_images = 0
    fits = 0

    def check_fit(self):
        raise MissingPackageError("scikit-learn is missing")

    def fit(self, batches, folder):
        self.fits += 1


def test_what_would_fail_in_the_end_fails_at_the_start():
    hook = FitHook(FakeModel(), {})
    hook.trainer = FakeTrainer(tiny_cfg())
    with pytest.raises(MissingPackageError, match="scikit-learn is missing"):
        hook.before_train()
    hook.trainer = FakeTrainer(tiny_cfg("MODEL.EMA.ENABLED", True))
    with pytest.raises(ConfigError, match=r"RCNN is fitted after training, .*: set MODEL\.EMA\.ENABLED False"):
        hook.before_train()
    hook.trainer = FakeTrainer(tiny_cfg("TEST.PATIENCE", 2))
    with pytest.raises(ConfigError, match=r"which TEST\.PATIENCE may never reach: set TEST\.PATIENCE 0"):
        hook.before_train()


def test_it_is_fitted_after_the_last_iteration_only(monkeypatch):
    monkeypatch.setattr("centermask_solo.training.fitting.build_fitting_loader", lambda *args: [])
    model = FakeModel()
    hook = FitHook(model, {})
    hook.trainer = FakeTrainer(tiny_cfg())
    hook.after_step()
    assert model.fits == 0
    hook.trainer.iter = 1
    hook.after_step()
    assert model.fits == 1


def test_the_fit_sees_images_as_evaluation_does(options):
    from centermask_solo.config import default_config, merge_config
    from centermask_solo.data.datasets import register_datasets
    from centermask_solo.data.loader import build_fitting_loader
    from centermask_solo.data.mapper import InstanceMapper

    cfg = default_config()
    given = [*options, "MODEL.LOAD_PROPOSALS", "False", "INPUT.MIN_SIZE_TRAIN", "(48,)"]
    merge_config(cfg, demo.demo_configs()["rcnn"], given)
    with demo._catalogs_restored():
        register_datasets(cfg)
        loader = build_fitting_loader(cfg, InstanceMapper.without_augmentation(cfg), 3)
        first, second = ([x for (x,) in loader] for _ in range(2))
    assert [x["file_name"] for x in first] == [x["file_name"] for x in second] and len(first) == 3
    assert all(min(x["image"].shape[1:]) == 96 and x["instances"].has("gt_boxes") for x in first)
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True))  # never flipped
