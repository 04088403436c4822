import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.memory import peak_bytes
from centermask_solo.modeling.fcos import decode as decode_module
from centermask_solo.modeling.fcos.decode import decode_batch
from tests.modeling.gpu_waits import counted_waits
from tests.oracles import fcos as oracles

STRIDES = [8, 16]


def predictions(num_images=2, num_classes=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(5, 6), (3, 3)]
    classes = [torch.randn(num_images, num_classes, *s, generator=generator) * 2 - 1 for s in sizes]
    ltrb = [torch.randn(num_images, 4, *s, generator=generator).relu() * 3 for s in sizes]
    centerness = [torch.randn(num_images, 1, *s, generator=generator) for s in sizes]
    return [[x.to(dtype) for x in part] for part in (classes, ltrb, centerness)]


def decode(parts, **options):
    defaults = {"score_thresh": 0.3, "thresh_with_centerness": False, "pre_nms_topk": 1000}
    return decode_batch(*parts, strides=STRIDES, **(defaults | options))


@pytest.mark.parametrize("topk", [7, 1000])
@pytest.mark.parametrize("with_centerness", [False, True])
def test_decoding_equals_the_literal_version(topk, with_centerness):
    parts = predictions()
    got = decode(parts, thresh_with_centerness=with_centerness, pre_nms_topk=topk)
    for n in range(2):
        expected = oracles.decode(*[[x[n] for x in p] for p in parts], STRIDES, 0.3, topk, with_centerness)
        assert len(got[n].scores) == len(expected) > 4
        assert got[n].scores.tolist() == pytest.approx([e[0] for e in expected], abs=1e-6)
        assert got[n].pred_classes.tolist() == [e[1] for e in expected]
        assert torch.allclose(got[n].boxes, torch.tensor([e[2] for e in expected]), atol=1e-4)
        assert got[n].locations.tolist() == [list(e[3]) for e in expected]


def test_top_k_applies_per_level_and_image():
    got = decode(predictions(num_images=3), pre_nms_topk=2, score_thresh=0.0)
    assert [len(x.scores) for x in got] == [4, 4, 4]


SPOILED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": 3e38}


@pytest.mark.parametrize("topk", [1, 7, 30, 1000])
@pytest.mark.parametrize("spoiled", [None, *SPOILED])
@pytest.mark.parametrize("score_thresh", [0.0, 0.3])
def test_sorting_pairs_out_first_changes_nothing(topk, spoiled, score_thresh, monkeypatch):
    """Also with certain and equal classes, with values that are no candidates, and centerness that is 0 in float32."""
    parts = predictions(num_classes=37)
    for classes, ltrb, centerness in zip(*parts, strict=True):
        classes[0, 5:9, 1] = 30.0
        classes[1, :, 0, :2] = 2.0
        centerness[1, 0, 1, 1] = -200.0
        if spoiled:
            classes[0, 3, 2, 1] = ltrb[1, 2, 2, 2] = centerness[0, 0, 1, 2] = SPOILED[spoiled]
    expected = decode(parts, pre_nms_topk=topk, score_thresh=score_thresh)
    calls = []
    find = decode_module._lowest_of_best
    monkeypatch.setattr(decode_module, "_lowest_of_best", lambda *x: calls.append(x) or find(*x))
    monkeypatch.setattr(decode_module, "MANY_PAIRS", 0)
    for a, b in zip(decode(parts, pre_nms_topk=topk, score_thresh=score_thresh), expected, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert len(calls) == 2 and len(expected[0].scores) > 0


def test_memory_is_bounded_where_everything_passes():
    """1,203 classes at the stride-8 level of 800 x 1216 pixels: 73 MB of logits, of which bytes say what may pass."""
    sizes = [(100, 152), (50, 76)]
    rng = torch.Generator().manual_seed(0)
    parts = [[torch.randn(1, k, *s, generator=rng) for s in sizes] for k in (1203, 4, 1)]
    peak = peak_bytes(lambda: decode(parts, score_thresh=0.0001))
    assert peak < 1.9 * sum(4 * x.numel() for x in parts[0])


def test_the_threshold_is_exclusive():
    parts = predictions(num_images=1)
    for x in parts[0]:
        x.fill_(-5.0)
    parts[0][0][0, 1, 2, 3] = 0.0  # probability 0.5
    assert len(decode(parts, score_thresh=0.5)[0].scores) == 0
    assert decode(parts, score_thresh=0.4999)[0].pred_classes.tolist() == [1]


@pytest.mark.parametrize(("threshold", "count"), [(0.0, (30 + 9) * 4), (-1.0, (30 + 9) * 4), (1.0, 0)])
def test_extreme_thresholds(threshold, count):
    assert len(decode(predictions(), score_thresh=threshold)[0].scores) == count


def test_one_location_can_predict_several_classes():
    parts = predictions(num_images=1, num_classes=3)
    for x in parts[0]:
        x.fill_(-5.0)
    parts[0][0][0, [0, 2], 1, 1] = 3.0
    got = decode(parts)[0]
    assert sorted(got.pred_classes.tolist()) == [0, 2]
    assert got.locations.tolist() == [[12, 12], [12, 12]]


def test_images_without_candidates_are_empty_with_the_right_types():
    parts = predictions()
    for x in parts[0]:
        x[0] = -20
    got = decode(parts)
    assert got[0].boxes.shape == (0, 4) and got[0].pred_classes.dtype == torch.int64
    assert len(got[1].boxes) > 0
    for x in parts[0]:
        x.fill_(-20)
    assert [len(x.scores) for x in decode(parts)] == [0, 0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_non_finite_candidates_are_dropped(value, part):
    parts = predictions()
    parts[part][0][0] = value
    got = decode(parts)
    for image in got:
        assert image.boxes.isfinite().all() and image.scores.isfinite().all()
    if math.isnan(value):
        assert (got[0].locations % 16 == 8).all()  # only the second level
    assert len(got[1].scores) == len(decode(predictions())[1].scores)


def test_half_precision_is_decoded_in_float32():
    halves = predictions(dtype=torch.bfloat16)
    exact = decode([[x.float() for x in part] for part in halves])
    for got, expected in zip(decode(halves), exact, strict=True):
        assert got.boxes.dtype == got.scores.dtype == torch.float32
        assert torch.equal(got.boxes, expected.boxes) and torch.equal(got.scores, expected.scores)


def test_no_gradient_is_recorded():
    parts = [[x.requires_grad_() for x in part] for part in predictions()]
    assert not any(y.requires_grad for x in decode(parts) for y in x)


class CountSyncs(TorchDispatchMode):
    """Count the operations that synchronize with the host."""

    syncing = ("aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::_unique2", "aten::bincount")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in self.syncing:
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("num_images", [1, 5])
def test_decoding_synchronizes_once_besides_reading_its_final_sizes(num_images):
    with CountSyncs() as syncs:
        decode(predictions(num_images=num_images))
    assert syncs.seen == ["aten::nonzero"]  # the second one is the tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="counts the synchronizations of a GPU")
def test_decoding_synchronizes_twice_on_a_gpu():
    parts = [[x.cuda() for x in part] for part in predictions(num_images=4)]
    decode(parts)
    with counted_waits() as waits:
        decode(parts)
    assert len(waits) == 2
