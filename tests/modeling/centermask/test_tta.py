import pytest
import torch
from detectron2.modeling import DatasetMapperTTA

from centermask_solo.modeling.centermask.tta import CenterMaskWithTTA
from centermask_solo.utils.errors import ConfigError
from tests.modeling.centermask.helpers import SIZE, make_cfg, make_input, make_model
from tests.modeling.detections import assert_same


def with_tta(*overrides, sizes=(96, 64), flip=True, batch_size=2):
    overrides = (*overrides, "TEST.AUG.ENABLED", True)
    cfg = make_cfg(*overrides)
    mapper = DatasetMapperTTA(min_sizes=list(sizes), max_size=200, flip=flip)
    return CenterMaskWithTTA(cfg, make_model(*overrides).eval(), mapper, batch_size)


def image_input():
    x = make_input(height=SIZE[0], width=SIZE[1])
    return x | {"image": x["image"].to(torch.uint8)}


def test_results_have_masks_and_mask_scores():
    model = with_tta("TEST.DETECTIONS_PER_IMAGE", 20)
    with torch.no_grad():
        result = model([image_input()])[0]["instances"]
    assert 0 < len(result) <= 20 and result.image_size == SIZE
    assert result.pred_masks.shape == (len(result), *SIZE) and result.pred_masks.dtype == torch.bool
    assert result.mask_scores.shape == (len(result),) and result.mask_scores.isfinite().all()
    assert (result.scores.diff() <= 0).all()
    assert model.model.roi_heads.mask_on  # switched back on


def test_one_unchanged_image_is_the_model_itself():
    tta = with_tta("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.6, sizes=[SIZE[0]], flip=False)
    x = image_input()
    with torch.no_grad():
        plain, merged = tta.model([x])[0]["instances"], tta([x])[0]["instances"]
    inside = ((plain.locations > 0).all(1)).sum()
    assert len(merged) > 0.8 * inside  # clipped boxes may suppress each other where whole ones do not
    for i in range(len(merged)):
        distance = (plain.pred_boxes.tensor - merged.pred_boxes.tensor[i]).abs().amax(1)
        assert distance.min() < 1e-3


def test_mask_scores_are_the_mean_over_the_augmented_images():
    tta = with_tta()
    seen = []
    original = tta._batch_inference

    def keep(*args):
        outputs = original(*args)
        seen.append(outputs)
        return outputs

    tta._batch_inference = keep
    with torch.no_grad():
        result = tta([image_input()])[0]["instances"]
    assert len(seen) == 2 and len(seen[1]) == 4  # boxes, then masks, of two sizes with and without flip
    assert not seen[0][0].has("pred_masks")
    mean = torch.stack([x.mask_scores for x in seen[1]]).mean(0)
    assert len(mean) == len(result)
    assert torch.allclose(result.mask_scores, mean)


@pytest.mark.parametrize("meta_architecture", ["CenterMask", "GeneralizedRCNN"])
def test_sizes_that_run_in_one_batch_do_not_affect_each_other(meta_architecture):
    options = ["MODEL.META_ARCHITECTURE", meta_architecture, "TEST.DETECTIONS_PER_IMAGE", 20]
    with torch.no_grad():
        alone, together = (with_tta(*options, batch_size=n)([image_input()])[0]["instances"] for n in (1, 4))
    differ, drawn = together.pred_masks ^ alone.pred_masks, together.pred_masks | alone.pred_masks
    assert differ.sum() < 0.05 * drawn.sum()  # random masks are close to a half
    for found in (alone, together):
        found.remove("pred_masks")
    assert_same(together, alone, scores=2e-5, boxes=0.01)


@pytest.mark.parametrize("overrides", [["MODEL.CENTERMASK.MASK_IOU.ENABLED", False], ["MODEL.MASK_ON", False]])
def test_what_is_off_stays_off(overrides):
    with torch.no_grad():
        result = with_tta(*overrides)([image_input()])[0]["instances"]
    assert len(result) > 0 and not result.has("mask_scores")
    assert result.has("pred_masks") == (overrides[0] == "MODEL.CENTERMASK.MASK_IOU.ENABLED")


def test_no_detections():
    with torch.no_grad():
        result = with_tta("MODEL.FCOS.SCORE_THRESH_TEST", 0.9999)([image_input()])[0]["instances"]
    assert len(result) == 0 and result.pred_masks.shape == (0, *SIZE) and result.mask_scores.shape == (0,)


def test_other_two_stage_models_work():
    """Mask R-CNN's head has no mask scores."""
    plain = ["MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]
    with torch.no_grad():
        result = with_tta(*plain, "MODEL.CENTERMASK.MASK_IOU.ENABLED", False)([image_input()])[0]["instances"]
    assert result.has("pred_masks") and not result.has("mask_scores")


def test_unsupported_models_are_an_error():
    features = ["res2", "res3", "res4", "res5"]
    overrides = ["MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.FPN.IN_FEATURES", features]
    overrides += ["MODEL.RESNETS.OUT_FEATURES", features]
    with pytest.raises(ConfigError, match="PanopticFPN"):
        CenterMaskWithTTA(make_cfg(*overrides), make_model(*overrides))
    with pytest.raises(ConfigError, match="Linear"):
        CenterMaskWithTTA(make_cfg(), torch.nn.Linear(1, 1))
