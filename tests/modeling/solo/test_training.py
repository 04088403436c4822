from __future__ import annotations

import pytest
import torch
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.utils.events import EventStorage

from tests.modeling.inputs import empty_instances, input_of, instances_of, rectangles
from tests.modeling.models import losses_and_gradients
from tests.modeling.solo.tiny import LIGHT_DCN, tiny_model

HEADS = ["plain", "decoupled", "decoupled_light"]
CORNERS = [(4, 8, 40, 60), (30, 50, 60, 90), (2, 70, 12, 82)]


def batch():
    """Two images of different sizes with three objects and one."""
    first = instances_of(rectangles(64, 96, *CORNERS), [0, 2, 1])
    second = instances_of(rectangles(50, 70, (5, 5, 45, 65)), [1])
    return [input_of(first), input_of(second, seed=1)]


@pytest.mark.parametrize(("head", "mask_loss"), [("plain", 2.94), ("decoupled", 2.9994), ("decoupled_light", 2.9994)])
def test_losses_start_where_the_method_says(head, mask_loss):
    """Probabilities of masks start at 0.01 or, as a product, at 0.0001; the Dice of a large object is twice that."""
    model = tiny_model("MODEL.SOLO.HEAD", head)
    losses, _ = losses_and_gradients(model, [input_of(instances_of(torch.ones(1, 96, 128, dtype=torch.bool), [1]))])
    assert losses["loss_ins"].item() == pytest.approx(mask_loss, abs=0.01 if head == "plain" else 1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_levels_without_objects_are_connected(head):
    """One object of 30 pixels is on the first two of five levels only, and each has convolutions of its own."""
    model = tiny_model("MODEL.SOLO.HEAD", head)
    _, gradients = losses_and_gradients(model, [input_of(instances_of(rectangles(64, 64, (20, 20, 50, 50)), [1]))])
    outputs = {k: g for k, g in gradients.items() if "mask_pred" in k and k.endswith("weight")}
    assert len(outputs) == (5 if head == "plain" else 10)
    assert all(g.any().item() is (".0." in k or ".1." in k) for k, g in outputs.items())


def test_a_batch_pads_each_image_to_the_largest():
    model, inputs = tiny_model(), batch()
    inputs[1] = input_of(instances_of(torch.ones(1, 50, 70, dtype=torch.bool), [1]))
    predictions = model.predict(model.preprocess_image(inputs).tensor)
    targets = model.label(predictions, [x["instances"] for x in inputs])
    sizes = [(16, 24), (16, 24), (8, 12), (4, 6), (4, 6)]
    assert [predictions.map_size(i) for i in range(5)] == sizes == [tuple(x.shape[1:]) for x in targets.masks]
    assert targets.masks[2].shape[0] == 1  # only the whole image is so large
    expected = rectangles(8, 12, (0, 0, 6, 9))[0]  # rows 3 and 4 of each eight: the last ones within 50 are 43 and 44
    assert torch.equal(targets.masks[2][0], expected)
    # Grids span the padded input: of the 8 x 8 cells on 64 x 96, the center (34.5, 24.5) is in row 3 and column 2.
    assert targets.classes[1][1, 3, 2] == 1
    assert (targets.classes[1][1, :, 4:] == 3).all()


def test_polygons_bit_masks_and_tensors_are_the_same():
    masks = rectangles(64, 96, *CORNERS)
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for y0, x0, y1, x1 in CORNERS]
    model, x = tiny_model(), input_of(instances_of(masks, [0, 2, 1]))
    predictions = model.predict(model.preprocess_image([x]).tensor)
    targets = []
    for form in (BitMasks(masks), PolygonMasks(polygons), masks, masks.to(torch.uint8)):
        x["instances"].gt_masks = form
        targets.append(model.label(predictions, [x["instances"]]))
    for other in targets[1:]:
        assert torch.equal(targets[0].cells, other.cells) and torch.equal(targets[0].mask_rows, other.mask_rows)
        assert all(torch.equal(a, b) for a, b in zip(targets[0].masks, other.masks, strict=True))


@pytest.mark.parametrize("head", HEADS)
def test_chunks_do_not_change_the_losses(monkeypatch, head):
    model, inputs = tiny_model("MODEL.SOLO.HEAD", head), batch()
    losses, gradients = losses_and_gradients(model, inputs)
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 2 * 2 * 64 * 96)
    chunked_losses, chunked_gradients = losses_and_gradients(model, inputs)
    for name, value in losses.items():
        assert chunked_losses[name].item() == pytest.approx(value.item(), rel=1e-6)
    for name, value in gradients.items():
        torch.testing.assert_close(chunked_gradients[name], value, rtol=1e-3, atol=1e-6)


def test_deformable_towers_train():
    _, gradients = losses_and_gradients(tiny_model(*LIGHT_DCN), batch())
    offsets = [name for name in gradients if "conv_offset.weight" in name]
    assert len(offsets) == 2 and all(gradients[name].any() for name in offsets)


def test_loss_weights():
    plain = tiny_model()(batch())
    weighted = tiny_model("MODEL.SOLO.LOSS.MASK_WEIGHT", 1.5, "MODEL.SOLO.LOSS.CLASS_WEIGHT", 4.0)(batch())
    assert weighted["loss_ins"].item() == pytest.approx(plain["loss_ins"].item() / 2)
    assert weighted["loss_cate"].item() == pytest.approx(plain["loss_cate"].item() * 4)


def test_the_number_of_positive_cells_is_logged():
    with EventStorage() as storage:
        tiny_model()(batch())
    assert storage.latest()["solo/num_positive_cells"][0] > 3


def test_small_boxes_and_large_ones_beyond_all_ranges_claim_nothing():
    model = tiny_model("MODEL.SOLO.SCALE_RANGES", ((60, 70),) * 5)
    losses, _ = losses_and_gradients(model, [*batch(), input_of(empty_instances(64, 64))])
    assert losses["loss_ins"].item() == 0
