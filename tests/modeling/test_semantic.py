"""The auxiliary semantic loss: off without a trace, its targets are unions, and it reaches the backbone."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.modeling.semantic import SemanticHead, reduce_by_area, semantic_loss, semantic_targets
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.models import SYSTEMS, gradients_of, losses_of

WEIGHTS = {"SOLOv2": "SOLOV2", "SOLO": "SOLO", "Decoupled SOLO": "SOLO", "CenterMask": "FCOS", "FCOS": "FCOS"}


def instances(masks, classes, **fields):
    boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]]).repeat(len(masks), 1))
    gt = Instances(tuple(masks.shape[1:]), gt_masks=BitMasks(masks), gt_classes=torch.tensor(classes), gt_boxes=boxes)
    for name, value in fields.items():
        gt.set(name, value)
    return gt


def batch():
    masks = torch.zeros(2, 64, 96, dtype=torch.bool)
    masks[0, 8:40, 8:40], masks[1, 16:60, 30:90] = True, True
    gt = instances(masks, [0, 2])
    gt.gt_boxes = gt.gt_masks.get_bounding_boxes()
    image = torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(0)).float()
    return [{"image": image, "instances": gt}]


def options_of(system, weight):
    return (f"MODEL.{WEIGHTS[system]}.LOSS.SEM_SEG_WEIGHT", weight, "MODEL.MASK_ON", True)


@pytest.mark.parametrize("system", WEIGHTS)
def test_it_is_off_by_default_and_has_no_parameters(system):
    plain = SYSTEMS[system].model("MODEL.MASK_ON", True)
    assert plain.semantic_head is None and not any("semantic" in key for key in plain.state_dict())
    assert "loss_semantic" not in losses_of(plain, batch())


@pytest.mark.parametrize("system", WEIGHTS)
def test_it_adds_one_loss_on_the_finest_level_and_changes_no_other(system):
    plain, model = SYSTEMS[system].model("MODEL.MASK_ON", True), SYSTEMS[system].model(*options_of(system, 2.0))
    missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["semantic_head.predictor.weight", "semantic_head.predictor.bias"]
    inputs = batch()
    losses, before = losses_of(model, inputs), losses_of(plain, inputs)
    assert losses.keys() - before.keys() == {"loss_semantic"}
    for name, loss in before.items():
        torch.testing.assert_close(losses[name], loss)

    # By hand, from the features of the backbone.
    head = model.semantic_head
    levels = model.backbone(model.preprocess_image(inputs).tensor)
    assert head.stride == min(
        model.backbone.output_shape()[name].stride for name in levels if name in (head.in_feature,)
    )
    logits = head(levels[head.in_feature])
    targets = torch.zeros_like(logits)
    masks = inputs[0]["instances"].gt_masks.tensor.float()
    targets[0, [0, 2], : 64 // head.stride, : 96 // head.stride] = (F.avg_pool2d(masks, head.stride) >= 0.5).float()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((0, 2, 3)).sum()
    torch.testing.assert_close(losses["loss_semantic"], 2 * expected, rtol=1e-4, atol=1e-5)
    gradients = gradients_of(model, {"loss_semantic": losses["loss_semantic"]})
    assert gradients["semantic_head.predictor.weight"].abs().sum() > 0
    assert any(key.startswith("backbone") and x is not None and x.abs().sum() > 0 for key, x in gradients.items())


@pytest.mark.parametrize("system", WEIGHTS)
def test_images_without_objects_are_background(system):
    model = SYSTEMS[system].model(*options_of(system, 1.0))
    inputs = batch()
    inputs[0]["instances"] = inputs[0]["instances"][:0]
    loss = losses_of(model, inputs)["loss_semantic"]
    assert 0 < loss.item() < 1  # the prior keeps it small
    assert gradients_of(model, {"loss_semantic": loss})["semantic_head.predictor.bias"].min() > 0


@pytest.mark.parametrize("system", ["SOLOv2", "CenterMask"])
def test_detections_and_checkpoints_do_not_depend_on_it(system, tmp_path, caplog):
    model = SYSTEMS[system].model(*options_of(system, 1.0))
    torch.save({"model": model.state_dict(), "thing_classes": ["a", "b", "c"]}, tmp_path / "model.pth")
    plain = build_model(SYSTEMS[system].cfg("MODEL.MASK_ON", True))
    Checkpointer(plain, complete=True).load(str(tmp_path / "model.pth"))
    assert "the config does not build it: semantic_head" in caplog.text
    torch.save({"model": plain.state_dict(), "thing_classes": ["a", "b", "c"]}, tmp_path / "plain.pth")
    Checkpointer(model).load(str(tmp_path / "plain.pth"))
    assert "lacks semantic_head, which start from their initialization" in caplog.text
    image = [{"image": batch()[0]["image"]}]
    with torch.no_grad():
        found, expected = (x.eval()(image)[0]["instances"] for x in (model, plain))
    assert torch.equal(found.scores, expected.scores)


def test_yolact_has_no_head_if_its_loss_weighs_nothing():
    model = SYSTEMS["YOLACT"].model("MODEL.YOLACT.LOSS.SEM_SEG_WEIGHT", 0.0)
    assert model.sem_seg_head is None and "loss_sem_seg" not in losses_of(model, batch())
    assert "loss_sem_seg" in losses_of(SYSTEMS["YOLACT"].model(), batch())


def test_masks_are_needed():
    inputs = batch()
    inputs[0]["instances"].remove("gt_masks")
    with pytest.raises(DataError, match=r"no gt_masks: the model needs MODEL\.MASK_ON True"):
        losses_of(SYSTEMS["FCOS"].model(*options_of("FCOS", 1.0)), inputs)


def test_systems_that_cannot_have_it_refuse_its_weight():
    cfg = SYSTEMS["CenterMask"].cfg("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.FCOS.LOSS.SEM_SEG_WEIGHT", 1.0)
    with pytest.raises(ConfigError, match=r"SEM_SEG_WEIGHT must be 0 with MODEL\.META_ARCHITECTURE GeneralizedRCNN"):
        build_model(cfg)


def test_targets_are_unions_of_classes_without_crowds():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, :4, :4], masks[1, 2:6, :4], masks[2, :2, 4:8], masks[3] = True, True, True, True
    gt = instances(masks, [1, 1, 0, 2], gt_is_crowd=torch.tensor([False, False, False, True]))
    targets = semantic_targets([gt, gt[:0]], 3, (2, 3), 4, torch.device("cpu"))
    assert targets.shape == (2, 3, 2, 3) and not targets[1].any() and not targets[0, 2].any()
    assert targets[0, 1].tolist() == [[True, False, False], [True, False, False]]  # of the lower row, half is padding
    assert targets[0, 0].tolist() == [[False, True, False], [False, False, False]]


def test_masks_are_reduced_by_area(monkeypatch):
    masks = torch.rand(5, 30, 45, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = torch.zeros(5, 8, 12, dtype=torch.bool)
    for m, y, x in torch.cartesian_prod(torch.arange(5), torch.arange(8), torch.arange(12)).tolist():
        expected[m, y, x] = masks[m, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() >= 8
    assert torch.equal(reduce_by_area(masks, (8, 12), 4), expected)
    monkeypatch.setattr("centermask_solo.modeling.semantic.rows_per_chunk", lambda size: 2)
    assert torch.equal(reduce_by_area(masks, (8, 12), 4), expected)


def test_the_prior_sets_the_initial_loss():
    logits = SemanticHead(in_channels=4, num_classes=5, prior_prob=0.01)(torch.zeros(1, 4, 3, 3))
    loss = semantic_loss(logits, torch.zeros(1, 5, 3, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(5 * 0.01005, rel=1e-3)
