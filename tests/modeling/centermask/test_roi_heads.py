import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_roi_heads
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, ImageList, Instances, Keypoints, pairwise_iou
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.centermask import matching
from centermask_solo.modeling.centermask.pooler import AdaptiveROIPooler
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.centermask.helpers import BOXES, SIZE, K, make_cfg, make_gt

STRIDES = {"p3": 8, "p4": 16, "p5": 32}


def heads(*overrides, seed=0):
    torch.manual_seed(seed)
    shapes = {name: ShapeSpec(channels=32, stride=stride) for name, stride in STRIDES.items()}
    module = build_roi_heads(make_cfg(*overrides), shapes)
    if module.mask_on:  # otherwise all masks start out alike
        torch.nn.init.normal_(module.mask_head.predictor.weight, std=0.5)
    return module


def features(num_images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(num_images, 32, SIZE[0] // s, SIZE[1] // s, generator=generator) for n, s in STRIDES.items()}


def proposals_of(boxes):
    x = Instances(SIZE)
    x.proposal_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    x.objectness_logits = torch.zeros(len(boxes))
    return x


def train(module, proposals, targets):
    images = ImageList(torch.zeros(len(targets), 3, *SIZE), [SIZE] * len(targets))
    with EventStorage() as storage:
        _, losses = module(images, features(len(targets)), proposals, targets)
    return losses, storage


def detections(boxes=BOXES, classes=(0, 1, 2), scores=(0.9, 0.8, 0.7)):
    x = Instances(SIZE)
    x.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    x.pred_classes = torch.tensor(classes).long()
    if scores is not None:
        x.scores = torch.tensor(scores)
    return x


NEAR = [[11.0, 12.0, 62.0, 69.0], [90.0, 5.0, 120.0, 20.0], [-4.0, -3.0, 17.0, 15.0], [38.0, 28.0, 130.0, 99.0]]


def test_positives_are_matched_and_background_is_dropped():
    module = heads()
    gt = make_gt(BOXES)
    with EventStorage():
        rois = module.label_positives([proposals_of(NEAR), proposals_of(NEAR)], [gt, make_gt()])
    assert len(rois[1]) == 0
    columns = (rois[0].proposal_boxes.tensor, rois[0].gt_classes, rois[0].gt_index)
    got = {tuple(b): (c, i) for b, c, i in zip(*(x.tolist() for x in columns), strict=True)}
    assert got[tuple(NEAR[0])] == (0, 0) and got[tuple(NEAR[3])] == (1, 1)
    assert all(got[tuple(b)] == (i, i) for i, b in enumerate(BOXES))  # the ground truth itself
    assert tuple(NEAR[1]) not in got
    assert set(rois[0].get_fields()) == {"proposal_boxes", "gt_classes", "gt_index"}


@pytest.mark.parametrize("append_gt", [True, False])
@pytest.mark.parametrize("chunk_bytes", [2**25, 32 * len(BOXES) * 2])
def test_proposals_are_matched_a_few_at_a_time_as_by_detectron2(append_gt, chunk_bytes, monkeypatch):
    """All of them with thousands of objects would take gigabytes."""
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
    pairs = []
    monkeypatch.setattr(matching, "pairwise_iou", lambda a, b: pairs.append(len(a) * len(b)) or pairwise_iou(a, b))
    module = heads()
    module.proposal_append_gt, module.batch_size_per_image = append_gt, 6
    proposals, gt = [proposals_of(NEAR * 2), proposals_of(NEAR)], [make_gt(BOXES), make_gt()]
    torch.manual_seed(0)
    with EventStorage() as own_log:
        rois = module.label_positives(proposals, gt)
    torch.manual_seed(0)
    with EventStorage() as log:
        expected = module.label_and_sample_proposals(proposals, gt)
    foreground = expected[0].gt_classes < module.num_classes
    assert torch.equal(rois[0].proposal_boxes.tensor, expected[0].proposal_boxes.tensor[foreground])
    assert torch.equal(rois[0].gt_classes, expected[0].gt_classes[foreground])
    assert torch.equal(gt[0].gt_boxes.tensor[rois[0].gt_index], expected[0].gt_boxes.tensor[foreground])
    assert len(rois[0]) > 0 and len(rois[1]) == 0
    assert {k: v for k, (v, _) in own_log.latest().items()} == {k: v for k, (v, _) in log.latest().items()}
    assert max(pairs) <= chunk_bytes // 32


def test_no_mask_is_copied_for_matching(monkeypatch):
    gt = make_gt(BOXES, masks="bitmask")
    monkeypatch.setattr(type(gt.gt_masks), "__getitem__", lambda *_: pytest.fail("masks were indexed"))
    losses, _ = train(heads(), [proposals_of(NEAR)], [gt])
    assert losses["loss_mask"] > 0


def test_polygons_and_bitmasks_train_alike():
    got = {}
    for masks in ("polygon", "bitmask"):
        torch.manual_seed(5)
        got[masks], _ = train(heads(), [proposals_of(NEAR)], [make_gt(BOXES, masks=masks)])
    assert got["polygon"]["loss_mask"].item() == pytest.approx(got["bitmask"]["loss_mask"].item(), rel=0.05)
    assert got["polygon"]["loss_maskiou"].item() == pytest.approx(got["bitmask"]["loss_maskiou"].item(), rel=0.3)


def test_other_mask_formats_are_an_error():
    gt = make_gt(BOXES)
    gt.remove("gt_masks")
    gt.gt_masks = torch.zeros(3, *SIZE)
    with pytest.raises(ValueError, match="PolygonMasks or BitMasks"):
        train(heads(), [proposals_of(NEAR)], [gt])


def test_missing_masks_are_an_error():
    gt = make_gt(BOXES)
    gt.remove("gt_masks")
    with pytest.raises(DataError, match=r"no gt_masks: .* MODEL\.MASK_ON False"):
        train(heads(), [proposals_of(NEAR)], [gt])


@pytest.mark.parametrize("masks", ["polygon", "bitmask"])
@pytest.mark.parametrize("objects", [[BOXES, []], [[], []]])
def test_images_and_batches_without_objects_train(masks, objects):
    module = heads()
    losses, _ = train(module, [proposals_of(NEAR)] * 2, [make_gt(b, masks=masks) for b in objects])
    assert set(losses) == {"loss_mask", "loss_maskiou"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    if objects == [[], []]:
        assert all(x == 0 for x in losses.values())


def test_the_mask_iou_loss_trains_the_mask_head():
    module = heads()
    losses, _ = train(module, [proposals_of(NEAR)], [make_gt(BOXES)])
    losses["loss_maskiou"].backward()
    assert module.mask_head.predictor.weight.grad.abs().sum() > 0


def test_no_gradient_through_the_boxes():
    proposals = proposals_of(NEAR)
    proposals.proposal_boxes.tensor.requires_grad_()
    losses, _ = train(heads(), [proposals], [make_gt(BOXES)])
    sum(losses.values()).backward()
    assert proposals.proposal_boxes.tensor.grad is None


def test_mask_accuracy_is_logged_under_detectron2s_names():
    module = heads()
    torch.nn.init.zeros_(module.mask_head.predictor.weight)
    torch.nn.init.constant_(module.mask_head.predictor.bias, -1.0)  # all background
    _, storage = train(module, [proposals_of([])], [make_gt([[10.0, 10.0, 60.0, 60.0]])])
    latest = {k: v[0] for k, v in storage.latest().items()}
    assert latest["mask_rcnn/false_positive"] == 0 and latest["mask_rcnn/false_negative"] == 1
    assert latest["mask_rcnn/accuracy"] == pytest.approx(0.5, abs=0.03)  # the object is a triangle


def test_loss_weight_scales_the_mask_iou_loss():
    got = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        got.append(
            train(heads("MODEL.CENTERMASK.LOSS.MASK_IOU_WEIGHT", weight), [proposals_of(NEAR)], [make_gt(BOXES)])[0]
        )
    assert got[1]["loss_maskiou"].item() == pytest.approx(3 * got[0]["loss_maskiou"].item(), rel=1e-4)


def test_given_boxes_get_masks_and_scores():
    module = heads().eval()
    with torch.no_grad():
        first, second = module.forward_with_given_boxes(features(), [detections(), detections(BOXES[:1], [3], [0.5])])
    assert first.pred_masks.shape == (3, 1, 28, 28) and second.pred_masks.shape == (1, 1, 28, 28)
    assert first.pred_masks.min() >= 0 and first.pred_masks.max() <= 1
    assert first.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    with torch.no_grad():
        without, _ = module.forward_with_given_boxes(features(), [detections(scores=None), detections(scores=None)])
    assert torch.allclose(
        first.mask_scores, without.mask_scores * first.scores
    )  # without scores they are the IoU itself
    assert torch.equal(first.pred_masks, without.pred_masks)


@pytest.mark.parametrize("counts", [(0, 3), (0, 0)])
def test_images_without_detections_have_all_fields(counts):
    module = heads().eval()
    given = [detections(BOXES[:n], [0, 1, 2][:n], [0.9, 0.8, 0.7][:n]) for n in counts]
    with torch.no_grad():
        results, losses = module(None, features(), given)
    assert losses == {}
    for x, n in zip(results, counts, strict=True):
        assert x.pred_masks.shape == (n, 1, 28, 28) and x.mask_scores.shape == (n,)


def test_class_agnostic_masks_use_one_output_of_both_heads():
    module = heads("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True).eval()
    assert module.mask_head.predictor.out_channels == 1 and module.maskiou_head.maskiou.out_features == K
    torch.nn.init.normal_(module.maskiou_head.maskiou.weight)
    with torch.no_grad():
        a = module.forward_with_given_boxes(features(1), [detections(classes=[0, 1, 2])])[0]
        b = module.forward_with_given_boxes(features(1), [detections(classes=[3, 3, 0])])[0]
    assert torch.equal(a.mask_scores, b.mask_scores) and torch.equal(a.pred_masks, b.pred_masks)
    losses, _ = train(module.train(), [proposals_of(NEAR)], [make_gt(BOXES)])
    losses["loss_maskiou"].backward()
    touched = module.maskiou_head.maskiou.weight.grad.abs().sum(1)
    assert touched[0] > 0 and (touched[1:] == 0).all()


def test_without_mask_iou_there_are_no_mask_scores():
    module = heads("MODEL.CENTERMASK.MASK_IOU.ENABLED", False)
    losses, _ = train(module, [proposals_of(NEAR)], [make_gt(BOXES)])
    assert set(losses) == {"loss_mask"}
    with torch.no_grad():
        assert not module.eval().forward_with_given_boxes(features(1), [detections()])[0].has("mask_scores")


def test_without_masks_boxes_pass_through():
    module = heads("MODEL.MASK_ON", False)
    assert not list(module.parameters())
    losses, _ = train(module, [proposals_of(NEAR)], [make_gt(BOXES)])
    assert losses == {}
    given = detections()
    results, _ = module.eval()(None, features(1), [given])
    assert results[0] is given and not given.has("pred_masks")


def test_the_plain_mask_head_works_too():
    module = heads("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead")
    losses, _ = train(module, [proposals_of(NEAR)], [make_gt(BOXES)])
    sum(losses.values()).backward()
    with torch.no_grad():
        assert module.eval().forward_with_given_boxes(features(1), [detections()])[0].pred_masks.shape == (3, 1, 28, 28)


def test_level_assignment_chooses_the_pooler():
    assert type(heads().mask_pooler) is AdaptiveROIPooler
    module = heads("MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT", "area").eval()
    assert type(module.mask_pooler) is ROIPooler
    with torch.no_grad():
        assert module.forward_with_given_boxes(features(1), [detections()])[0].pred_masks.shape == (3, 1, 28, 28)
    with pytest.raises(ConfigError, match="LEVEL_ASSIGNMENT"):
        heads("MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT", "size")


def test_invalid_options_are_named():
    with pytest.raises(ConfigError, match="INSTANCE_LOSS_WEIGHT"):
        heads("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 2.0)
    with pytest.raises(
        ConfigError,
        match=rf"MODEL\.FCOS\.NUM_CLASSES is 7 but MODEL\.ROI_HEADS\.NUM_CLASSES is {K}: set the former to 0",
    ):
        heads("MODEL.FCOS.NUM_CLASSES", 7)
    assert heads("MODEL.FCOS.NUM_CLASSES", K).num_classes == K
    with pytest.raises(ConfigError, match="p2"):
        heads("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3"])


def test_half_precision_pools_at_exact_coordinates():
    """Bfloat16 cannot distinguish a box of 1,001 pixels from one of 1,000."""
    module = heads().eval()
    maps = {n: torch.randn(1, 32, 1024 // s, 1024 // s).bfloat16() for n, s in STRIDES.items()}
    x = Instances((1024, 1024), pred_boxes=Boxes(torch.tensor([[801.3, 801.7, 1001.2, 1002.9]])))
    x.pred_classes = torch.tensor([0])
    wide = {n: f.float() for n, f in maps.items()}
    with torch.no_grad():
        exact = module.forward_with_given_boxes(wide, [Instances((1024, 1024), **x.get_fields())])[0].pred_masks
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = module.forward_with_given_boxes(maps, [x])[0]
    assert half.pred_masks.dtype == half.mask_scores.dtype == torch.float32
    assert (half.pred_masks - exact).abs().max() < 0.03


def with_keypoints(gt):
    centers = gt.gt_boxes.get_centers()
    keypoints = torch.cat([centers, torch.full((len(gt), 1), 2.0)], 1)[:, None].repeat(1, 3, 1)
    gt.gt_keypoints = Keypoints(keypoints)
    return gt


def test_keypoints_train_and_predict():
    module = heads(*["MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 3])
    assert type(module.keypoint_pooler) is AdaptiveROIPooler
    losses, _ = train(module, [proposals_of(NEAR)] * 2, [with_keypoints(make_gt(BOXES)), with_keypoints(make_gt())])
    assert losses["loss_keypoint"] > 0
    losses["loss_keypoint"].backward()
    with torch.no_grad():
        result = module.eval().forward_with_given_boxes(features(1), [detections()])[0]
    assert result.pred_keypoints.shape == (3, 3, 3)
