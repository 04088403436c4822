"""Every option of R-CNN has its effect."""

import pytest
import torch

from centermask_solo.modeling.rcnn import meta_arch
from centermask_solo.modeling.rcnn.fitting import FitOptions
from centermask_solo.training.trainer import Trainer
from tests.modeling.rcnn.tiny import color_model, scene, tiny_cfg, tiny_model

BOXES = scene(0)["proposals"].proposal_boxes.tensor


def sizes_of_batches(model):
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with torch.no_grad():
        model([scene(0)])
    return seen


def sampled(model):
    torch.manual_seed(0)
    (targets,) = model.label([BOXES], [scene(0)["instances"]])
    return sorted(targets.classes.tolist())


def searched(model):
    modes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_arch, "selective_search", lambda image, mode: modes.append(mode) or BOXES.numpy())
        model.propose({"image": scene(0)["image"]})
    return modes


OPTIONS = {
    "MODEL.RCNN.NUM_CLASSES": (5, lambda m: m.svm.weight.shape),
    "MODEL.RCNN.SEARCH_MODE": ("fast", searched),
    "MODEL.RCNN.REGION_SIZE": (40, lambda m: m.warp(torch.ones(3, 64, 96), BOXES).shape),
    "MODEL.RCNN.CONTEXT": (2, lambda m: m.warp(torch.ones(3, 64, 96), BOXES).sum().item()),
    "MODEL.RCNN.REGIONS_PER_BATCH": (7, sizes_of_batches),
    "MODEL.RCNN.MAX_REGIONS_TEST": (9, sizes_of_batches),
    "MODEL.RCNN.POOLED_SIZE": (3, lambda m: m.embedding.weight.shape),
    "MODEL.RCNN.FC_DIM": (16, lambda m: m.embedding.weight.shape),
    "MODEL.RCNN.BATCH_SIZE_PER_IMAGE": (8, sampled),
    "MODEL.RCNN.POSITIVE_FRACTION": (0.5, sampled),
    "MODEL.RCNN.POSITIVE_IOU": (0.95, sampled),
    "MODEL.RCNN.SCORE_THRESH_TEST": (0.5, lambda m: detections(m)),
    "MODEL.RCNN.NMS_THRESH_TEST": (0.9, lambda m: detections(m)),
}


@torch.no_grad()
def detections(model):
    """How many of two overlapping boxes are detected."""
    model.is_fitted.fill_(True)
    boxes = torch.tensor([[0.0, 0, 40, 40], [0.0, 0, 40, 30], [50.0, 0, 90, 40]])
    margins = torch.tensor([[1.0, -9], [0.5, -9], [-0.5, -9]])
    found = model.inference(meta_arch.RegionPredictions(torch.zeros(3, 3), margins, torch.zeros(3, 8)), boxes, (64, 96))
    return len(found)


@pytest.mark.parametrize("key", OPTIONS)
def test_option(key):
    value, observe = OPTIONS[key]
    assert observe(tiny_model()) != observe(tiny_model(key, value))


def test_feature_map():
    both = ("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3"])
    lengths = [tiny_model(*both, "MODEL.RCNN.IN_FEATURE", x).embedding.in_features for x in ("res2", "res3")]
    assert lengths == [4 * 24, 4 * 32]


def fitted(key, value, base=()):
    """What a fit with an option gives: the SVMs, and the box regression."""
    model = color_model()
    options = ["MODEL.RCNN.FIT.SVM_C", 10.0, "MODEL.RCNN.FIT.RIDGE_IOU", 0.4, *base, key, value]
    model.fit_options = FitOptions.from_cfg(tiny_cfg(*options))._replace(cache_bytes=0)
    model.fit([[scene(i)] for i in range(12)], "")
    return model.svm.weight, model.box_pred.weight


TWICE = ("MODEL.RCNN.FIT.SVM_PASSES", 2)
OF_SVMS = {
    "MODEL.RCNN.FIT.SVM_C": (1e-3, ()),
    "MODEL.RCNN.FIT.SVM_POSITIVE_WEIGHT": (40.0, ("MODEL.RCNN.FIT.SVM_C", 1e-3)),
    "MODEL.RCNN.FIT.SVM_NEGATIVE_IOU": (0.01, ()),
    "MODEL.RCNN.FIT.SVM_PASSES": (2, ()),
    "MODEL.RCNN.FIT.SVM_MAX_NEGATIVES": (1, TWICE),
}
OF_BOXES = {
    "MODEL.RCNN.FIT.RIDGE": 1.0,
    "MODEL.RCNN.FIT.RIDGE_IOU": 0.7,
    "MODEL.RCNN.FIT.RIDGE_MAX_REGIONS": 4,
}


@pytest.mark.parametrize("key", [*OF_SVMS, *OF_BOXES])
def test_option_of_the_fit(key):
    pytest.importorskip("sklearn")
    value, base = OF_SVMS.get(key) or (OF_BOXES[key], ())
    before = fitted("MODEL.RCNN.FIT.CACHE_GB", 0.0, base)
    after = fitted(key, value, base)
    changed = [not torch.allclose(x, y, rtol=1e-3, atol=1e-6) for x, y in zip(before, after, strict=True)]
    assert changed == [key in OF_SVMS, key in OF_BOXES]


def test_limits_of_the_fit():
    options = FitOptions.from_cfg(tiny_cfg("MODEL.RCNN.FIT.CACHE_GB", 0.5, "MODEL.RCNN.FIT.MAX_IMAGES", 7))
    assert (options.cache_bytes, options.max_images) == (500_000_000, 7)
    assert tiny_model("MODEL.RCNN.FIT.MAX_IMAGES", 7).max_fit_images == 7


def test_weights_are_not_trained_that_are_fitted():
    cfg = tiny_cfg()
    optimizer = Trainer.build_optimizer(cfg, tiny_model())
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert count == sum(p.numel() for n, p in tiny_model().named_parameters() if not n.startswith(("svm", "box_pred")))
