from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.solov2 import decode
from centermask_solo.modeling.solov2.decode import decode_batch, point_nms
from centermask_solo.modeling.solov2.full_masks import decode_full_masks
from tests.oracles import solov2 as oracles

GRIDS = [6, 4, 3]
STRIDES = [8, 16, 32]


def random_outputs(seed, num_classes=4, length=5, size=(9, 11), grids=GRIDS):
    """Class logits around -1, kernels and non-negative mask features whose masks are of all sizes."""
    rng = torch.Generator().manual_seed(seed)
    logits = [torch.randn(num_classes, s, s, generator=rng) - 1 for s in grids]
    kernels = [torch.randn(length, s, s, generator=rng) for s in grids]
    return logits, kernels, torch.rand(length, *size, generator=rng) * 3


def decoded(outputs, score_thresh=0.1, mask_thresh=0.5, limit=500, strides=STRIDES):
    logits, kernels, features = outputs
    (candidates,) = decode_batch(
        [x[None] for x in logits],
        [x[None] for x in kernels],
        features[None],
        strides=strides[: len(logits)],
        score_thresh=score_thresh,
        mask_thresh=mask_thresh,
        max_candidates=limit,
    )
    return candidates


def assert_equals_oracle(got, outputs, score_thresh=0.1, mask_thresh=0.5, limit=500):
    expected = oracles.candidates(*outputs, STRIDES, score_thresh, mask_thresh, limit)
    assert got.pred_classes.tolist() == [k for _, k, _, _ in expected]
    torch.testing.assert_close(got.scores, torch.tensor([s for s, _, _, _ in expected]))
    assert torch.equal(got.pred_masks, torch.stack([m for _, _, m, _ in expected]))
    assert torch.equal(got.kernels, torch.stack([k for _, _, _, k in expected]))
    return expected


def count_decoded_cells(monkeypatch):
    """A list that grows by the number of cells of each chunk that is decoded."""
    counts, original = [], decode.mask_probabilities

    def counting(kernels, features):
        counts.append(len(kernels))
        return original(kernels, features)

    monkeypatch.setattr(decode, "mask_probabilities", counting)
    return counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("settings", [{}, {"score_thresh": 0.0}, {"limit": 7}, {"mask_thresh": 0.7}], ids=str)
@pytest.mark.parametrize("chunk_cells", [1, 4, 1000])
def test_candidates_are_those_of_the_rule(monkeypatch, seed, settings, chunk_cells):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * 99 * chunk_cells)
    outputs = random_outputs(seed)
    expected = assert_equals_oracle(decoded(outputs, **settings), outputs, **settings)
    assert len(expected) >= 7


def test_decoding_stops_when_nothing_better_can_come(monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * 99 * 2)
    logits, kernels, features = random_outputs(0)
    for x in logits:
        x -= 3
    logits[0][:, 2, 3] = torch.tensor([3.0, 2.0, 1.0, 0.0])  # one cell that gives four candidates
    kernels[0][:, 2, 3] = 2.0
    outputs = (logits, kernels, features)
    counts = count_decoded_cells(monkeypatch)
    got = decoded(outputs, score_thresh=0.0, limit=3)
    assert counts == [2]
    assert_equals_oracle(got, outputs, score_thresh=0.0, limit=3)


@pytest.mark.parametrize("chunk_cells", [1, 3, 1000])
def test_among_equal_scores_the_first_cells_come_first(monkeypatch, chunk_cells):
    """All scores and masks are alike, and masks so certain that no score decreases: stopping early would lose some."""
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * 99 * chunk_cells)
    logits, kernels, features = random_outputs(0)
    outputs = ([x.fill_(1.0) for x in logits], [x.fill_(50.0) for x in kernels], features + 1)
    outputs[0][0][:, 0] = 0.9  # the first row is the worst, so its cells are decoded last
    got = decoded(outputs, limit=10)
    assert_equals_oracle(got, outputs, limit=10)
    assert got.pred_classes.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_point_nms_looks_left_and_up_only():
    scores = torch.tensor([[[3.0, 4.0, 1.0], [4.0, 4.0, 0.0], [1.0, 2.0, 5.0]]])
    assert point_nms(scores).tolist() == [[[3, 4, 0], [4, 4, 0], [0, 0, 5]]]
    # 3 survives beside 4; the 4 in the center equals its neighbors; the 0 is below all of them


def test_a_mask_needs_more_pixels_than_its_stride():
    features = torch.zeros(2, 3, 16)
    features[0].view(-1)[:9] = 1.0
    features[1].view(-1)[:8] = 1.0
    kernels = torch.full((2, 2, 1), 0.0)
    kernels[0, 0], kernels[1, 1] = 5.0, 5.0
    logits = torch.tensor([0.0, 1.0]).view(1, 2, 1)
    logits, kernels = logits.expand(1, 2, 2).clone(), kernels.expand(2, 2, 2).clone()
    got = decoded(([logits], [kernels], features), strides=[8])
    assert got.pred_masks.flatten(1).sum(1).tolist() == [9, 9]  # equal neighbors both stay
    assert not len(decoded(([logits], [kernels], features), strides=[9]).scores)


def test_thresholds_are_strict():
    logits, kernels, features = torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 4, 4)
    assert not len(decoded(([logits], [kernels + 1], features), score_thresh=0.5).scores)
    assert len(decoded(([logits], [kernels + 1], features), score_thresh=0.49).scores)
    assert not len(decoded(([logits], [kernels], features), score_thresh=0.49).scores)  # probability 0.5 everywhere


def test_no_candidate():
    logits, kernels, features = random_outputs(0)
    got = decoded(([x - 100 for x in logits], kernels, features))
    assert [tuple(x.shape) for x in got] == [(0,), (0,), (0, 9, 11), (0, 5)]
    assert [x.dtype for x in got] == [torch.float32, torch.int64, torch.bool, torch.float32]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_cells_are_dropped_and_affect_no_others(bad):
    logits, kernels, features = random_outputs(1)
    logits[1][:, 1, 1] = 3.0
    clean = ([x.clone() for x in logits], [x.clone() for x in kernels], features)
    logits[0][1, 2, 3] = bad
    clean[0][0][1, 2, 3] = -100.0  # as if the class were not there
    kernels[1][2, 1, 1] = bad
    got, expected = decoded((logits, kernels, features)), decoded(clean)
    of_bad_kernel = (expected.kernels == clean[1][1][:, 1, 1]).all(1)
    assert of_bad_kernel.sum() == 4
    assert all(torch.equal(a, b[~of_bad_kernel]) for a, b in zip(got, expected, strict=True))
    for broken in (
        ([torch.full_like(x, bad) for x in logits], clean[1], features),
        (clean[0], [torch.full_like(x, bad) for x in kernels], features),
        (clean[0], clean[1], torch.full_like(features, bad)),
        (clean[0], [x.abs() for x in clean[1]], torch.full_like(features, bad)),
    ):
        assert not len(decoded(broken).scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_decoded_in_float32(dtype):
    outputs = tuple([y.to(dtype) for y in x] if isinstance(x, list) else x.to(dtype) for x in random_outputs(2))
    exact = tuple([y.float() for y in x] if isinstance(x, list) else x.float() for x in outputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = decoded(outputs)
        masks = full_masks(got.kernels, outputs[2])
    expected = decoded(exact)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    assert torch.equal(masks, full_masks(expected.kernels, exact[2]))


def full_masks(kernels, features, image_size=(33, 41), output_size=(50, 90), mask_thresh=0.5):
    return decode_full_masks(
        kernels, features, stride=4, image_size=image_size, output_size=output_size, mask_thresh=mask_thresh
    )


@pytest.mark.parametrize("chunk_masks", [1, 3, 1000])
@pytest.mark.parametrize(
    ("image_size", "output_size"), [((36, 44), (36, 44)), ((33, 41), (33, 41)), ((33, 41), (90, 20))]
)
def test_full_masks_are_those_of_whole_images(monkeypatch, chunk_masks, image_size, output_size):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 4 * 99 * chunk_masks)
    _, kernels, features = random_outputs(5)
    kernels = kernels[0].flatten(1).T
    expected = oracles.full_mask_probabilities(kernels, features, 4, image_size, output_size)
    for thresh in (0.5, 0.8):
        masks = full_masks(kernels, features, image_size, output_size, thresh)
        clear = (expected - thresh).abs() > 1e-5
        assert torch.equal(masks[clear], (expected > thresh)[clear])
        assert clear.float().mean() > 0.999
        assert masks.any()
    assert full_masks(kernels[:0], features, image_size, output_size).shape == (0, *output_size)


def test_masks_of_a_small_image_in_a_large_batch_are_enlarged_by_the_stride():
    """An image a quarter as large as the padded input: AdelaiDet's ceil(h / Hf) would enlarge by 1."""
    features = torch.zeros(1, 32, 32)
    features[0, 2:6, 1:7] = 8.0
    masks = full_masks(torch.tensor([[1.0]]), features - 4, (32, 32), (32, 32))
    assert masks[0].nonzero().amin(0).tolist() == [8, 4]
    assert masks[0].nonzero().amax(0).tolist() == [23, 27]
