from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances

from centermask_solo.modeling.yolact.anchors import grid_anchors, level_shapes
from centermask_solo.modeling.yolact.decode import decode_batch, decode_full_masks, mask_probabilities
from tests.modeling.yolact.tiny import RATIOS, tiny_model

NODE = "MODEL.YOLACT."
FIELDS = {"pred_boxes", "scores", "pred_classes", "pred_masks"}


def model_for_inference(*overrides):
    """Random weights, and logits that differ enough for some anchors to be confident."""
    model = tiny_model(*overrides).eval()
    with torch.no_grad():
        model.head.class_logits.weight *= 3
        model.protonet.prototypes.weight *= 10
    return model


def images(*sizes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [{"image": torch.randint(0, 256, (3, h, w), generator=rng, dtype=torch.uint8)} for h, w in sizes]


@pytest.fixture(scope="module")
def model():
    return model_for_inference()


def detect(model, inputs):
    with torch.no_grad():
        return [x["instances"] for x in model(inputs)]


def same(a, b, tolerance=1e-4):
    assert len(a) == len(b) > 0
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=tolerance)
    assert torch.equal(a.pred_classes, b.pred_classes)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=0.05)
    assert (a.pred_masks != b.pred_masks).sum() <= 0.001 * a.pred_masks.sum()


def test_results_have_the_size_of_the_image_and_are_sorted(model):
    inputs = images((50, 90), (200, 130), (1, 1))
    inputs[1] |= {"height": 333, "width": 77}
    for found, size in zip(detect(model, inputs), [(50, 90), (333, 77), (1, 1)], strict=True):
        assert found.image_size == size
        assert set(found.get_fields()) == FIELDS
        assert 0 < len(found) <= 100
        assert found.pred_masks.shape == (len(found), *size)
        assert found.pred_masks.dtype == torch.bool
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        boxes = found.pred_boxes.tensor
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_network_sees_exactly_the_configured_square(model):
    inputs = images((200, 130))
    batch = model.preprocess_image(inputs)
    assert batch.tensor.shape == (1, 3, 128, 128)
    assert batch.image_sizes == [(128, 128)]
    pixels = F.interpolate(inputs[0]["image"][None].float(), (128, 128), mode="bilinear", align_corners=False)[0]
    mean, std = (torch.tensor(x)[:, None, None] for x in ([123.68, 116.78, 103.94], [58.40, 57.12, 57.38]))
    torch.testing.assert_close(batch.tensor[0], (pixels - mean) / std)
    exact = images((128, 128))
    torch.testing.assert_close(model.preprocess_image(exact).tensor[0] * std + mean, exact[0]["image"].float())


def test_masks_lie_in_their_boxes_border_included(model):
    found = detect(model, images((128, 128)))[0]
    rows = torch.arange(128)
    pixel = 2 * 128 / 32  # one prototype pixel of border, and one that it is interpolated over
    for box, mask in zip(found.pred_boxes.tensor.tolist(), found.pred_masks, strict=True):
        inside = (rows >= box[1] - pixel) & (rows <= box[3] + pixel)
        assert not mask[~inside].any()


def test_full_masks_are_cropped_resized_and_thresholded():
    rng = torch.Generator().manual_seed(0)
    coefficients, prototypes = torch.randn(30, 6, generator=rng), torch.rand(6, 34, 34, generator=rng)
    prototypes = F.avg_pool2d(prototypes, 5, 1, 2) * 3
    corners = torch.rand(30, 2, generator=rng) * 1.2 - 0.2
    boxes = torch.cat([corners, corners + torch.rand(30, 2, generator=rng)], dim=1)
    for size in ((77, 201), (34, 34), (20, 15)):
        probabilities = mask_probabilities(coefficients, prototypes, boxes)
        expected = F.interpolate(probabilities[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        got = decode_full_masks(coefficients, prototypes, boxes, size)
        assert (got != (expected > 0.5))[(expected - 0.5).abs() > 1e-5].sum() == 0
        assert got.any()


def test_boxes_may_be_swapped_or_outside_of_the_image():
    coefficients, prototypes = torch.ones(4, 1), torch.ones(1, 8, 8)
    boxes = torch.tensor([[0.7, 0.2, 0.3, 0.6], [1.5, 1.5, 2.0, 2.0], [-1.0, -1.0, 3.0, 3.0], [0.3, 0.2, 0.7, 0.6]])
    masks = mask_probabilities(coefficients, prototypes, boxes)
    assert torch.equal(masks[0], masks[3])
    assert not masks[1].any()
    assert masks[2].all()


def test_detections_outside_of_the_image_are_dropped(model):
    outside = [[130.0, 10, 180, 60], [-50.0, 10, -1, 60], [10.0, 10, 60, 60], [100.0, 100, 200, 200]]
    instances = Instances((128, 128), pred_boxes=Boxes(torch.tensor(outside)), scores=torch.linspace(0.9, 0.6, 4))
    instances.pred_classes = torch.arange(4)
    instances.mask_coefficients = torch.randn(4, 8)
    with torch.no_grad():
        predictions = model.predict(torch.zeros(1, 3, 128, 128))
        found = model.postprocess(instances, predictions, 0, (64, 256))
    assert found.pred_classes.tolist() == [2, 3]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[20.0, 5, 120, 30], [200.0, 50, 256, 64]]))


@pytest.mark.parametrize("value", [1e8, -1e37, 3e38])
def test_boxes_whose_size_in_pixels_overflows_are_dropped(model, value):
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(images((128, 128))).tensor)
        broken = predictions.box_deltas.clone()
        broken[0, :, :2] = value
        predictions = predictions._replace(box_deltas=broken)
        found = model.inference(predictions, [(128, 128)])[0]
        assert len(found) == 0
        assert len(model.postprocess(found, predictions, 0, (2000, 3000))) == 0


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_non_finite_candidates_are_dropped(model, value):
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(images((128, 128))).tensor)
        sure = predictions.class_logits.softmax(2)[0, :, 1:].amax(1).topk(2).indices
        for name in ("class_logits", "box_deltas"):
            broken = getattr(predictions, name).clone()
            broken[0, sure[0]] = value
            candidates = decode_batch(
                *(broken if k == name else getattr(predictions, k) for k in ("class_logits", "box_deltas", "anchors")),
                model.box_transform,
                0.05,
            )[0]
            if name == "class_logits" or value != -torch.inf:
                assert sure[0] not in candidates.anchors
            assert sure[1] in candidates.anchors
            assert candidates.boxes.isfinite().all()
        nothing = predictions._replace(
            class_logits=predictions.class_logits * torch.nan, box_deltas=predictions.box_deltas * torch.nan
        )
        found = model.inference(nothing, [(128, 128)])[0]
        assert len(found) == 0
        assert len(model.postprocess(found, nothing, 0, (50, 60)).pred_masks) == 0


@pytest.mark.parametrize("name", ["FastNMS", "TraditionalNMS", "BatchedNMS", "MatrixNMS", "MaskNMS"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_any_nms_can_be_chosen(name, agnostic):
    nms = [NODE + "NMS.NAME", name, NODE + "NMS.CLASS_AGNOSTIC", agnostic, NODE + "PRE_NMS_TOPK_TEST", 60]
    model = model_for_inference(*nms)
    found = detect(model, images((64, 64)))[0]
    per_class = name in ("FastNMS", "TraditionalNMS") and not agnostic
    assert 0 < len(found) <= (100 if per_class else 60)
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)


def test_the_second_threshold_is_on_the_class_itself():
    unlimited = ("TEST.DETECTIONS_PER_IMAGE", -1)
    published = detect(model_for_inference(*unlimited), images((64, 64)))[0]
    threshold = float(published.scores.median())
    sure = detect(model_for_inference(*unlimited, NODE + "NMS.CLASS_SCORE_THRESH", threshold), images((64, 64)))[0]
    assert len(published) > len(sure)
    assert sure.scores.min() > threshold
    same(sure, published[: len(sure)])


def test_mask_scores_rescale_without_reordering():
    model = model_for_inference(NODE + "MASK_IOU.ENABLED", True, NODE + "INPUT_SIZE", 256)
    with torch.no_grad():
        model.mask_iou_head.predictor.bias += 0.5
    inputs = images((90, 120))
    found = detect(model, inputs)[0]
    assert torch.equal(found.scores, found.scores.sort(descending=True).values)
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(inputs).tensor)
        kept = model.inference(predictions, [(256, 256)])[0]
        masks = mask_probabilities(kept.mask_coefficients, predictions.prototypes[0], kept.pred_boxes.tensor / 256)
        expected = kept.scores * model.mask_iou_head(masks, kept.pred_classes)
        torch.testing.assert_close(kept.mask_scores, expected)
        assert (expected != kept.scores).any()
        predictions.class_logits[:, :, 0] = 100
        nothing = model.postprocess(model.inference(predictions, [(256, 256)])[0], predictions, 0, (90, 120))
    assert nothing.mask_scores.shape == (0,)


def test_predictions_do_not_depend_on_the_mode():
    model = tiny_model()
    image = model.preprocess_image(images((128, 128))).tensor
    with torch.no_grad():
        training, evaluation = model.predict(image), model.eval().predict(image)
        for_training = model.predict_for_training(image)
    assert training.sem_seg_logits is evaluation.sem_seg_logits is None
    assert for_training.sem_seg_logits.shape == (1, 3, 16, 16)
    for a, b, c in zip(training[:5], evaluation[:5], for_training[:5], strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_anchors_follow_from_the_sizes_of_the_levels(model):
    with torch.no_grad():
        anchors = model.predict(torch.zeros(1, 3, 128, 128)).anchors
    shapes = level_shapes([[16], [24], [48], [96], [128]], RATIOS, 5, square=False) / 128
    expected = grid_anchors([(n, n) for n in (16, 8, 4, 2, 1)], shapes.float())
    assert torch.equal(anchors, expected)
    assert not [name for name in model.state_dict() if "anchor" in name or "pixel" in name]


def test_postprocessing_twice_gives_the_same(model):
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(images((70, 90))).tensor)
        kept = model.inference(predictions, [(128, 128)])[0]
        first, second = (model.postprocess(kept, predictions, 0, (70, 90)) for _ in range(2))
    assert torch.equal(first.pred_boxes.tensor, second.pred_boxes.tensor)
    assert torch.equal(first.pred_masks, second.pred_masks)


def test_two_models_do_not_share_settings(model):
    before = detect(model, images((64, 64)))[0]
    other = model_for_inference(NODE + "INPUT_SIZE", 96, NODE + "SQUARE_ANCHORS", True, NODE + "NMS.TOPK", 5)
    assert len(detect(other, images((64, 64)))[0]) <= 15
    same(before, detect(model, images((64, 64)))[0])
