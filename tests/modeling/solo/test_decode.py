from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.solo import decode
from centermask_solo.modeling.solo.decode import cell_probabilities, decode_batch
from tests.modeling.solo.random_predictions import GRIDS, KINDS, SIZE, STRIDES, random_predictions
from tests.modeling.solo.tiny import tiny_model
from tests.oracles import solo as oracles

PIXELS = SIZE[0] * SIZE[1]


def decoded(predictions, score_thresh=0.1, mask_thresh=0.5, limit=500):
    options = {"score_thresh": score_thresh, "mask_thresh": mask_thresh, "max_candidates": limit}
    return list(decode_batch(predictions, size=SIZE, strides=STRIDES, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_cells_are_those_of_the_method(kind):
    predictions = random_predictions(kind, num_images=2)
    cells = torch.randperm(sum(s * s for s in GRIDS), generator=torch.Generator().manual_seed(0))[:30]
    found, finite = cell_probabilities(predictions, 1, SIZE)(cells)
    expected = oracles.probabilities(predictions, 1, SIZE)[cells]
    torch.testing.assert_close(found.unflatten(1, SIZE), expected, rtol=1e-5, atol=1e-6)
    assert finite.all() and (expected > 0.5).any() and (expected < 0.5).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"score_thresh": 0.0}, {"limit": 7}, {"mask_thresh": 0.7}], ids=str)
@pytest.mark.parametrize("chunk_cells", [1, 4, 1000])
def test_candidates_are_those_of_the_rule(monkeypatch, kind, settings, chunk_cells):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * PIXELS * chunk_cells)
    predictions = random_predictions(kind, seed=3, num_images=2)
    for image, got in enumerate(decoded(predictions, **settings)):
        rule = {"score_thresh": 0.1, "mask_thresh": 0.5, "limit": 500} | settings
        expected = oracles.candidates(predictions, image, SIZE, STRIDES, **rule)
        assert len(expected) >= 7
        assert list(zip(got.pred_classes.tolist(), got.cells.tolist(), strict=True)) == [x[1:] for x in expected]
        torch.testing.assert_close(got.scores, torch.tensor([x[0] for x in expected]))
        masks = oracles.probabilities(predictions, image, SIZE)[got.cells] > rule["mask_thresh"]
        assert torch.equal(got.pred_masks, masks)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_stops_when_nothing_better_can_come(monkeypatch, kind):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * PIXELS * 2)
    predictions, counts = random_predictions(kind), []
    original = decode._level_probabilities
    for x in predictions.class_logits:
        x -= 8
    predictions.class_logits[1][0, :, 2, 1] = torch.tensor([8.0, 7.0, 6.0, 5.0])  # a cell that gives four candidates
    if kind == "plain":
        predictions.biases[1][9] = 20
    else:
        predictions.column_logits[1][0, 1] = predictions.row_logits[1][0, 2] = 20

    def counting(masks, level, cells, size):
        counts.append(len(cells))
        return original(masks, level, cells, size)

    monkeypatch.setattr(decode, "_level_probabilities", counting)
    (got,) = decoded(predictions, score_thresh=0.0, limit=3)
    assert sum(counts) == 2
    assert got.cells.tolist() == [25 + 2 * 4 + 1] * 3 and got.pred_classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_cells_without_finite_masks_are_dropped(kind, value):
    predictions = random_predictions(kind)
    before = set(decoded(predictions, score_thresh=0.0)[0].cells.tolist())
    if kind == "plain":
        predictions.biases[0][7] = value  # row 1, column 2 of the first level
        broken = {7}
    else:
        predictions.row_logits[0][0, 1, 0, 0] = value
        broken = set(range(5, 10))
    assert broken & before
    assert set(decoded(predictions, score_thresh=0.0)[0].cells.tolist()) == before - broken


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_found_has_shapes(kind):
    (nothing,) = decoded(random_predictions(kind), score_thresh=0.9999)
    assert nothing.pred_masks.shape == (0, *SIZE) and nothing.pred_masks.dtype == torch.bool
    assert [len(x) for x in nothing] == [0, 0, 0, 0]


@pytest.mark.parametrize("head", ["plain", "decoupled", "decoupled_light"])
def test_masks_at_the_size_of_the_output_are_interpolated_twice(head):
    """By 4, cropped to the image, then to the output; as the authors', from probabilities."""
    model = tiny_model("MODEL.SOLO.HEAD", head, "MODEL.SOLO.PRIOR_PROB", 0.75).eval()
    images = model.preprocess_image([{"image": torch.rand(3, 90, 120) * 255}])
    with torch.no_grad():
        predictions = model.predict(images.tensor)
        kept = model.inference(predictions, images.image_sizes)[0]
        found = model.postprocess(kept, predictions, 0, (77, 200))
    assert len(found) == len(kept) > 3
    assert kept.get_fields().keys() == {"scores", "pred_classes", "cells"}
    size = (96 // 4, 128 // 4)
    masks = oracles.probabilities(predictions, 0, size)[kept.cells]
    expected = oracles.enlarged(oracles.enlarged(masks, (96, 128))[:, :90, :120], (77, 200))
    certain = (expected - 0.5).abs() > 1e-4
    assert torch.equal(found.pred_masks[certain], expected[certain] > 0.5)
    assert certain.float().mean() > 0.9
