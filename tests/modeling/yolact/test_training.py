from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from centermask_solo.ops.masks import reduce_masks
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.inputs import empty_instances, input_of, rectangles
from tests.modeling.models import losses_and_gradients
from tests.modeling.yolact.tiny import batch, ground_truth, tiny_cfg, tiny_model

KEYS = {"loss_box", "loss_class", "loss_mask", "loss_sem_seg"}
NODE = "MODEL.YOLACT."
PLUS = (NODE + "MASK_IOU.ENABLED", True, NODE + "INPUT_SIZE", 256)


EMPTY = empty_instances(64, 64)
CROWD = ground_truth(rectangles(64, 64, (5, 5, 50, 50)), [0], crowd=(0,))
NOTHING_DRAWN = ground_truth(torch.zeros(2, 64, 64, dtype=torch.bool), [0, 1])
ONE_PIXEL = ground_truth(rectangles(64, 64, (7, 9, 8, 10)), [2])
WHOLE_IMAGE = ground_truth(rectangles(64, 64, (0, 0, 64, 64)), [0])


@pytest.mark.parametrize("plus", [False, True], ids=["YOLACT", "YOLACT++"])
@pytest.mark.parametrize(
    "gt_of_images",
    [[EMPTY], [CROWD], [EMPTY, CROWD], [EMPTY, WHOLE_IMAGE], [WHOLE_IMAGE, EMPTY], [NOTHING_DRAWN], [ONE_PIXEL]],
    ids=["empty", "crowd", "empty and crowd", "first empty", "last empty", "no pixels", "one pixel"],
)
def test_every_parameter_learns_from_any_batch(gt_of_images, plus):
    model = tiny_model(*(PLUS if plus else ()))
    losses, gradients = losses_and_gradients(model, [input_of(x, seed=i) for i, x in enumerate(gt_of_images)])
    assert set(losses) == (KEYS | {"loss_mask_iou"} if plus else KEYS)
    assert all(x.isfinite() and x.dtype == torch.float32 and x.shape == () for x in losses.values())
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []
    assert losses["loss_sem_seg"] > 0
    if any(x is ONE_PIXEL or x is WHOLE_IMAGE for x in gt_of_images):
        assert min(losses[k].item() for k in KEYS) > 0
        for name in ("head.box_pred", "head.class_logits", "head.mask_coefficients", "protonet.prototypes"):
            assert gradients[f"{name}.weight"].any()
    else:
        assert [losses[k].item() for k in KEYS - {"loss_sem_seg"}] == [0, 0, 0]


def test_any_size_of_image_trains_on_the_configured_square():
    model, inputs = tiny_model(), batch()
    predictions = model.predict_for_training(model.preprocess_image(inputs).tensor)
    assert predictions.prototypes.shape == (2, 8, 32, 32)
    assert predictions.sem_seg_logits.shape == (2, 3, 16, 16)
    targets = model.label(predictions, [x["instances"] for x in inputs])
    assert targets.masks.shape == (4, 32, 32)  # without the crowd
    expected = [[8 / 96, 4 / 64, 60 / 96, 40 / 64], [50 / 96, 30 / 64, 90 / 96, 60 / 64]]
    torch.testing.assert_close(targets.boxes[:2], torch.tensor(expected))
    assert torch.equal(targets.masks[0], rectangles(32, 32, (2, 3, 20, 20))[0])
    assert torch.equal(targets.sem_seg[1, 1], rectangles(16, 16, (1, 2, 13, 9))[0])


def test_losses_need_the_predictions_for_training():
    model, inputs = tiny_model(), batch()
    predictions = model.predict(model.preprocess_image(inputs).tensor)
    targets = model.label(predictions, [x["instances"] for x in inputs])
    with pytest.raises(ValueError, match="predictions of predict_for_training"):
        model.losses(predictions, targets)


@pytest.mark.parametrize(("size", "stride", "side"), [(550, 8, 69), (400, 8, 50), (255, 16, 16)])
def test_reduced_ground_truth_has_the_size_of_the_predictions(size, stride, side):
    feature = {8: "p3", 16: "p4"}[stride]
    model = tiny_model(NODE + "INPUT_SIZE", size, NODE + "PROTO_FEATURE", feature)
    assert model.input_size == (size, size)
    sizes = {"gt_prototype_masks": (2 * side, 2 * side), "gt_sem_seg_masks": (side, side)}
    assert model.gt_mask_sizes == sizes
    with torch.no_grad():
        predictions = model.predict_for_training(torch.zeros(1, 3, size, size))
    assert predictions.prototypes.shape[2:] == sizes["gt_prototype_masks"]
    assert predictions.sem_seg_logits.shape[2:] == sizes["gt_sem_seg_masks"]


def test_a_crowd_only_makes_anchors_neutral():
    model = tiny_model()
    with_crowd, without = batch()[0], batch()[0]
    without["instances"] = without["instances"][:3]
    predictions = model.predict_for_training(model.preprocess_image([with_crowd]).tensor)
    with_crowd, without = (model.label(predictions, [x["instances"]]) for x in (with_crowd, without))
    assert torch.equal(with_crowd.anchors, without.anchors)
    assert torch.equal(with_crowd.masks, without.masks)
    assert torch.equal(with_crowd.sem_seg, without.sem_seg)
    assert (with_crowd.labels == -1).sum() > (without.labels == -1).sum()


def test_a_class_beyond_the_models_is_an_error():
    with pytest.raises(DataError, match=r"class 3, but MODEL.YOLACT.NUM_CLASSES is 3: .* 0\.\.2"):
        tiny_model()([input_of(ground_truth(rectangles(64, 64, (8, 8, 50, 50)), [3]))])


def test_instances_without_masks_are_an_error():
    instances = ground_truth(rectangles(64, 64, (8, 8, 50, 50)), [1])
    instances.remove("gt_masks")
    with pytest.raises(DataError, match=r"no gt_masks: the model needs MODEL\.MASK_ON"):
        tiny_model()([input_of(instances)])


@pytest.fixture(scope="module")
def labelled():
    model = tiny_model()
    corners = [(4, 8, 40, 60), (30, 50, 60, 90), (2, 70, 12, 82)]
    instances = ground_truth(rectangles(128, 128, *corners), [0, 2, 1])
    predictions = model.predict_for_training(model.preprocess_image([input_of(instances)]).tensor)
    return model, predictions, instances, corners


def test_polygons_bit_masks_and_tensors_are_the_same(labelled):
    model, predictions, instances, corners = labelled
    masks = instances.gt_masks.tensor
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for y0, x0, y1, x1 in corners]
    targets = []
    for form in (BitMasks(masks), PolygonMasks(polygons), masks, masks.to(torch.uint8)):
        copy = instances[torch.arange(3)]
        copy.gt_masks = form
        targets.append(model.label(predictions, [copy]))
    for other in targets[1:]:
        assert torch.equal(targets[0].masks, other.masks)
        assert torch.equal(targets[0].sem_seg, other.sem_seg)


def test_masks_that_the_loader_has_reduced_are_taken_as_they_are(labelled):
    model, predictions, instances, _ = labelled
    expected = model.label(predictions, [instances])
    reduced = instances[torch.arange(3)]
    reduced.remove("gt_masks")
    reduced.gt_prototype_masks = reduce_masks(instances.gt_masks.tensor, (32, 32))
    reduced.gt_sem_seg_masks = reduce_masks(instances.gt_masks.tensor, (16, 16))
    got = model.label(predictions, [reduced])
    assert torch.equal(expected.masks, got.masks)
    assert torch.equal(expected.sem_seg, got.sem_seg)
    reduced.gt_sem_seg_masks = reduced.gt_prototype_masks
    with pytest.raises(DataError, match=r"have sizes .* but the model needs \(\(32, 32\), \(16, 16\)\)"):
        model.label(predictions, [reduced])


def test_masks_are_read_in_chunks(monkeypatch, labelled):
    model, predictions, instances, _ = labelled
    whole = model.label(predictions, [instances])
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 2 * 2 * 128 * 128)
    chunked = model.label(predictions, [instances])
    assert torch.equal(whole.masks, chunked.masks)
    assert torch.equal(whole.sem_seg, chunked.sem_seg)


def test_half_precision_trains_to_nearly_the_same_losses():
    model, inputs = tiny_model(*PLUS), batch()
    exact, _ = losses_and_gradients(model, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(inputs)
    sum(half.values()).backward()
    for name, value in half.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.03)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_loss_weights():
    weights = {"BOX": 3.0, "CLASS": 2.0, "MASK": 12.25, "SEM_SEG": 2.0, "MASK_IOU": 50.0}
    overrides = [x for k, v in weights.items() for x in (f"{NODE}LOSS.{k}_WEIGHT", v)]
    plain, weighted = tiny_model(*PLUS)(batch()), tiny_model(*PLUS, *overrides)(batch())
    assert len(plain) == 5
    for name, value in plain.items():
        assert weighted[name].item() == pytest.approx(2 * value.item())


def test_counts_are_logged():
    model, inputs = tiny_model(), batch()
    with EventStorage() as storage:
        predictions = model.predict_for_training(model.preprocess_image(inputs).tensor)
        targets = model.label(predictions, [x["instances"] for x in inputs])
        model.losses(predictions, targets)
    assert storage.latest()["yolact/num_positive_anchors"][0] == len(targets.anchors) > 3


@pytest.mark.parametrize("gt", [WHOLE_IMAGE, EMPTY], ids=["one object", "empty"])
def test_training_is_shown_in_pictures(gt):
    model, inputs = tiny_model("VIS_PERIOD", 1), [input_of(gt)]
    with EventStorage(0) as storage:
        losses = model(inputs)
    assert all(x.requires_grad for x in losses.values())
    ((_, picture, _),) = storage._vis_data
    assert picture.shape == (3, 128, 64)  # the size of the image, not of the network's input


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["IN_FEATURES", ["p3", "p4", "p8"]], "IN_FEATURES names p8, but the backbone gives p3, p4, p5, p6, p7"),
        (["PROTO_FEATURE", "res3"], "PROTO_FEATURE names res3, but"),
        (["IN_FEATURES", []], "IN_FEATURES is empty"),
        (["NUM_CLASSES", 0], "NUM_CLASSES must be at least 1, not 0"),
        (["INPUT_SIZE", 0], "INPUT_SIZE must be at least 1, not 0"),
        (["MASKS_TO_TRAIN", 0], "MASKS_TO_TRAIN must be at least 1, not 0"),
        (["NEGATIVE_IOU", 0.6], r"NEGATIVE_IOU \(0.6\) must not exceed POSITIVE_IOU \(0.5\)"),
        (
            ["MASK_IOU.ENABLED", True],
            "INPUT_SIZE 128 gives masks of 32 pixels per side, but the mask IoU head needs 63",
        ),
    ],
)
def test_contradictions_in_the_config_are_errors(overrides, message):
    key, value = overrides
    with pytest.raises(ConfigError, match=message) as error:
        build_model(tiny_cfg(NODE + key, value))
    assert "\n" not in str(error.value)


def test_hundreds_of_objects_train():
    """More than the 512 at which the authors' loader stops, and many times MASKS_TO_TRAIN."""
    corners = torch.rand(600, 2) * 90
    boxes = torch.cat([corners, corners + torch.rand(600, 2) * 30 + 4], dim=1).int()
    masks = rectangles(128, 128, *[(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes.tolist()])
    model = tiny_model(NODE + "MASKS_TO_TRAIN", 50)
    instances = Instances((128, 128), gt_boxes=Boxes(boxes.float()), gt_masks=BitMasks(masks))
    instances.gt_classes = torch.arange(600) % 3
    predictions = model.predict_for_training(model.preprocess_image([{"image": torch.rand(3, 128, 128)}]).tensor)
    targets = model.label(predictions, [instances])
    assert len(targets.instances.unique()) == 600
    assert len(targets.mask_terms) == 50
    losses = model.losses(predictions, targets)
    assert all(x.isfinite() for x in losses.values())
