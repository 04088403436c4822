import copy

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN, PanopticFPN, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.centermask.meta_arch import CenterMask
from centermask_solo.modeling.pasting import paste_into_whole_boxes
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.centermask.helpers import BOXES, SIZE, make_cfg, make_gt, make_input, make_model

LOSSES = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask", "loss_maskiou"}
FIELDS = {"pred_boxes", "scores", "pred_classes", "locations", "pred_masks", "mask_scores"}


def losses_of(model, inputs):
    with EventStorage():
        return model(inputs)


def predict(model, inputs):
    with torch.no_grad():
        return [x["instances"] for x in model.eval()(inputs)]


def test_the_verbs_are_what_the_model_does():
    # Of two sizes that are padded alike: the model does not batch others in inference
    model, inputs = make_model(), [make_input(make_gt(BOXES)), make_input(make_gt(), size=(80, 120))]
    inputs[1]["instances"] = make_gt(size=(80, 120))
    images, gt = model.preprocess_image(inputs), [x["instances"] for x in inputs]
    predictions = model.predict(images.tensor)
    torch.manual_seed(0)
    losses = model.losses(predictions, model.label(predictions, gt))  # no event storage needed
    torch.manual_seed(0)
    expected = losses_of(model, inputs)
    assert losses.keys() == expected.keys() == LOSSES
    assert all(torch.equal(losses[k], expected[k]) for k in LOSSES)

    raw = model.inference(predictions, images.image_sizes)
    model.eval()
    with torch.no_grad():
        assert_equal(model.predict(images.tensor), predictions)
        for x, y in zip(raw, model.inference(inputs, do_postprocess=False), strict=True):
            assert set(x.get_fields()) == set(y.get_fields()) == FIELDS and len(x) > 0
            assert torch.equal(x.scores, y.scores) and torch.equal(x.pred_masks, y.pred_masks)
        for i, expected_result in enumerate(predict(model, inputs)):
            size = tuple(inputs[i]["image"].shape[1:])
            result = model.postprocess(raw[i], predictions, i, size)
            assert torch.equal(result.pred_masks, expected_result.pred_masks)


def assert_equal(a, b):
    """The same tensors in the same places."""
    a, b = torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b)
    assert len(a) == len(b) > 0
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_training_equals_that_of_a_plain_generalized_rcnn():
    losses = []
    for name in ("CenterMask", "GeneralizedRCNN"):
        model = make_model("MODEL.META_ARCHITECTURE", name, "MODEL.CHANNELS_LAST", False)  # that of Detectron2's own
        torch.manual_seed(0)
        losses.append(losses_of(model, [make_input(make_gt(BOXES)), make_input(make_gt())]))
    assert losses[0].keys() == losses[1].keys() == LOSSES
    assert all(torch.equal(losses[0][k], losses[1][k]) for k in LOSSES)


def test_given_boxes_are_completed():
    model, x = make_model().eval(), make_input()
    with torch.no_grad():
        found = model.inference([x], do_postprocess=False)[0]
        given = Instances(found.image_size, pred_boxes=found.pred_boxes, pred_classes=found.pred_classes)
        completed = model.inference([x], [given], do_postprocess=False)[0]
    assert torch.equal(completed.pred_masks, found.pred_masks)


def test_training_visualizes_proposals():
    with EventStorage() as storage:
        make_model("VIS_PERIOD", 1)([make_input(make_gt(BOXES))])
        assert [name for name, *_ in storage._vis_data] == ["Left: GT bounding boxes;  Right: Predicted proposals"]


@pytest.mark.parametrize("option", ["MODEL.PROPOSAL_GENERATOR.NAME", "MODEL.ROI_HEADS.NAME"])
def test_other_parts_are_an_error_that_names_the_fix(option):
    other = {"MODEL.PROPOSAL_GENERATOR.NAME": "RPN", "MODEL.ROI_HEADS.NAME": "StandardROIHeads"}[option]
    needed = ["MODEL.RPN.IN_FEATURES", ["p3"], "MODEL.ANCHOR_GENERATOR.SIZES", [[32]]]
    needed += ["MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1]
    with pytest.raises(ConfigError, match=r'set MODEL\.META_ARCHITECTURE "GeneralizedRCNN" for other parts$'):
        build_model(make_cfg(option, other, *needed))


@pytest.mark.parametrize("wrong", [-1, 4, 80])
def test_a_class_out_of_range_is_an_error(wrong):
    with pytest.raises(DataError, match=rf"class {wrong}, but MODEL\.ROI_HEADS\.NUM_CLASSES is 4"):
        losses_of(make_model(), [make_input(make_gt(BOXES, [0, wrong, 1]))])


def test_training_without_ground_truth_is_an_error():
    with pytest.raises(DataError, match='no "instances"'):
        losses_of(make_model(), [make_input(make_gt(BOXES)), make_input()])


def test_double_precision_agrees_with_single():
    inputs = [make_input(make_gt(BOXES), height=200, width=300)]
    single, double = make_model(), make_model().double()
    losses = {}
    for model in (single, double):
        torch.manual_seed(0)
        losses[model] = losses_of(model, inputs)
        sum(losses[model].values()).backward()
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())
    for name, value in losses[double].items():
        assert value.item() == pytest.approx(losses[single][name].item(), rel=1e-4), name
    a, b = predict(single, inputs)[0], predict(double, inputs)[0]
    assert len(a) == len(b) > 0
    torch.testing.assert_close(b.scores, a.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(b.mask_scores, a.mask_scores, rtol=0, atol=1e-4)
    assert (a.pred_masks != b.pred_masks).float().mean() < 1e-3


def test_the_same_model_by_either_name():
    layout = ("MODEL.CHANNELS_LAST", False)  # that of Detectron2's own
    ours, theirs = make_model(*layout), make_model(*layout, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
    assert type(ours) is CenterMask and type(theirs) is GeneralizedRCNN
    x = make_input(height=200, width=300)
    a, b = predict(ours, [x])[0], predict(theirs, [x])[0]
    assert set(a.get_fields()) == set(b.get_fields()) == FIELDS
    assert len(a) == len(b) > 0
    assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor) and torch.equal(a.pred_masks, b.pred_masks)


def test_objects_of_one_pixel_and_beyond_the_image_train():
    boxes = [[30.0, 30.0, 31.0, 31.0], [-20.0, -10.0, 20.0, 15.0], [100.0, 80.0, 180.0, 140.0]]
    losses = losses_of(make_model(), [make_input(make_gt(boxes))])
    assert all(x.isfinite() for x in losses.values())


def test_without_masks_it_is_a_plain_fcos():
    model = make_model("MODEL.MASK_ON", False)
    losses = losses_of(model, [make_input(make_gt(BOXES))])
    assert set(losses) == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    result = predict(model, [make_input()])[0]
    assert set(result.get_fields()) == FIELDS - {"pred_masks", "mask_scores"} and len(result) > 0


def test_box_only_training_needs_no_masks():
    gt = make_gt(BOXES)
    gt.remove("gt_masks")
    assert all(x > 0 for x in losses_of(make_model("MODEL.MASK_ON", False), [make_input(gt)]).values())


def test_a_thousand_objects_train():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(1000, 2, generator=generator) * torch.tensor([100.0, 70.0])
    boxes = torch.cat([corner, corner + 2 + torch.rand(1000, 2, generator=generator) * 20], 1).tolist()
    losses = losses_of(make_model(), [make_input(make_gt(boxes))])
    assert all(x.isfinite() and x > 0 for x in losses.values())


@pytest.mark.parametrize("unclipped", [False, True])
def test_no_detections(unclipped):
    name = ["MODEL.FCOS.SCORE_THRESH_TEST", 0.9999, "MODEL.CENTERMASK.PASTE_UNCLIPPED", unclipped]
    for result in predict(make_model(*name), [make_input(height=50, width=60), make_input()]):
        assert len(result) == 0
        assert set(result.get_fields()) == FIELDS
        assert result.pred_masks.shape == (0, *result.image_size)


def corner_detection(scale=1):
    """Return a box of 40 x 40 whose lower right quarter lies in the image; the mask is the lower right half."""
    x = Instances((50 * scale, 60 * scale))
    x.pred_boxes = Boxes(torch.tensor([[-20.0, -20.0, 20.0, 20.0], [10.0, 10.0, 30.0, 30.0]]) * scale)
    x.scores, x.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    half = (torch.arange(28)[:, None] + torch.arange(28) >= 28).float()
    x.pred_masks = half.expand(2, 1, 28, 28).clone()
    return x


def test_unclipped_pasting_keeps_the_masks_in_place():
    from detectron2.modeling import detector_postprocess

    squeezed = detector_postprocess(copy.deepcopy(corner_detection()), 100, 120)
    whole = paste_into_whole_boxes(corner_detection(), 100, 120)
    assert set(whole.get_fields()) == set(squeezed.get_fields())
    assert torch.equal(whole.pred_boxes.tensor, squeezed.pred_boxes.tensor)  # clipped in both
    assert torch.equal(whole.pred_masks[1], squeezed.pred_masks[1])  # inside the image: the same
    assert whole.pred_masks[0, :40, :40].float().mean() > 0.95  # the whole quarter is foreground
    assert squeezed.pred_masks[0, :40, :40].float().mean() == pytest.approx(0.5, abs=0.05)  # a squeezed half


def test_unclipped_pasting_drops_what_lies_outside():
    x = corner_detection()
    x.pred_boxes.tensor[0] = torch.tensor([-50.0, -50.0, -10.0, -10.0])
    pasted = paste_into_whole_boxes(x, 100, 120)
    assert pasted.pred_classes.tolist() == [1] and pasted.pred_masks.shape == (1, 100, 120)


def test_unclipped_pasting_is_an_option_of_the_model():
    x = make_input()
    clipped = predict(make_model(), [x])[0]
    whole = predict(make_model("MODEL.CENTERMASK.PASTE_UNCLIPPED", True), [x])[0]
    assert torch.equal(clipped.pred_boxes.tensor, whole.pred_boxes.tensor)
    boxes_only = predict(make_model("MODEL.CENTERMASK.PASTE_UNCLIPPED", True, "MODEL.MASK_ON", False), [x])[0]
    assert len(boxes_only) == len(whole)


def panoptic(*overrides):
    features = ["res2", "res3", "res4", "res5"]
    return make_model(
        *["MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.RESNETS.OUT_FEATURES", features],
        *["MODEL.FPN.IN_FEATURES", features, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5],
        *["MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 0.1, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32],
        *overrides,
    )


def test_panoptic_trains():
    model = panoptic()
    assert type(model) is PanopticFPN
    labels = torch.zeros(SIZE, dtype=torch.int64)
    inputs = [make_input(make_gt(BOXES), sem_seg=labels), make_input(make_gt(), sem_seg=labels + 1)]
    losses = losses_of(model, inputs)
    assert set(losses) == LOSSES | {"loss_sem_seg"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_panoptic_gives_detectron2s_output():
    model = panoptic().eval()
    with torch.no_grad():
        output = model([make_input(height=100, width=140)])[0]
    segments, infos = output["panoptic_seg"]
    assert segments.shape == (100, 140) and output["sem_seg"].shape == (5, 100, 140)
    assert {x["isthing"] for x in infos} >= {True}
    things = [x for x in infos if x["isthing"]]
    instances = output["instances"]
    for x in things:  # ranked by box scores, not by mask scores
        assert x["score"] == instances.scores[x["instance_id"]].item()
    assert sorted(segments.unique().tolist())[-1] == len(infos)
