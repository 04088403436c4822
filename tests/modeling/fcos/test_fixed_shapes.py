"""Detections of FCOS in fixed shapes: the same, without waiting for the host."""

from __future__ import annotations

import pytest
import torch

from centermask_solo.modeling.fcos import FCOSPredictions
from centermask_solo.modeling.fixed_nms import FIXED_RULES
from centermask_solo.modeling.instance_nms import INSTANCE_NMS_REGISTRY, InstanceNMS, NMSOptions
from centermask_solo.modeling.slots import Output, detect_in_slots, paste_all
from centermask_solo.ops.fixed_nms import FIXPOINT, GreedyNMS, greedy_nms_as_operator, keep_by_fixpoint
from centermask_solo.utils.errors import ConfigError
from tests.host_reads import HostReads, cpu_as_gpu, fake_gpu
from tests.modeling.centermask.helpers import make_input
from tests.modeling.fcos.tiny import K, tiny_model

LEVELS = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
SIZES = [(96, 128), (90, 120)]


@pytest.fixture(scope="module")
def model():
    return tiny_model().eval()


@pytest.fixture(autouse=True)
def options(model, monkeypatch):
    """The options of the model, as functions that set them for one test."""
    monkeypatch.setattr(model, "test_score_thresh", 0.05)
    monkeypatch.setattr(model, "test_max_candidates", 100)

    def set_nms(name, **numbers):
        monkeypatch.setattr(model, "test_nms", InstanceNMS(name, NMSOptions(**numbers)))
        monkeypatch.setattr(model.proposal_generator, "nms", model.test_nms)

    set_nms("BatchedNMS", iou_thresh=0.6)
    return set_nms


@pytest.fixture(autouse=True)
def sigmoid_of_the_same_bits_everywhere(monkeypatch):
    """On a CPU, the last bit of PyTorch's depends on where in memory a number is."""
    sigmoid = torch.Tensor.sigmoid
    monkeypatch.setattr(torch.Tensor, "sigmoid", lambda x: sigmoid(x.double()).to(x.dtype))


def predictions(seed=0, step=None):
    """Outputs of the head with many overlapping candidates; rounded to multiples of ``step`` there are many ties."""
    rng = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, K + 5, *size, generator=rng) for size in LEVELS]
    maps = maps if step is None else [(x / step).round() * step for x in maps]
    parts = [x.split([K, 4, 1], dim=1) for x in maps]
    return FCOSPredictions([x - 1 for x, _, _ in parts], [3 + x.abs() for _, x, _ in parts], [x for _, _, x in parts])


def assert_same(found, expected):
    """Assert that fixed shapes hold the expected instances, and nothing else."""
    assert found.num_detections.tolist() == [len(x) for x in expected]
    filled = found.filled()
    for i, instances in enumerate(expected):
        assert torch.equal(found.scores[i, filled[i]], instances.scores)
        assert torch.equal(found.classes[i, filled[i]], instances.pred_classes)
        assert torch.equal(found.boxes[i, filled[i]], instances.pred_boxes.tensor)
        assert torch.equal(found.fields["locations"][i, filled[i]], instances.locations)
    for x in (found.boxes, found.scores, found.classes, found.fields["locations"]):
        assert not x[~filled].any()


def detect(model, outputs, max_detections=None, greedy=FIXPOINT):
    with HostReads(0):
        return model.detect(outputs, torch.tensor(SIZES), max_detections or model.test_max_detections, greedy)


@pytest.mark.parametrize("step", [None, 1.0], ids=["", "ties"])
@pytest.mark.parametrize("topk", [5, 500])
@pytest.mark.parametrize("thresh", [0.05, 0.5, 0.999])
def test_they_are_those_of_inference(model, monkeypatch, thresh, topk, step):
    monkeypatch.setattr(model, "test_score_thresh", thresh)
    monkeypatch.setattr(model, "test_max_candidates", topk)
    monkeypatch.setattr(model, "test_max_detections", 1000)
    outputs = predictions(step=step)
    expected = model.inference(outputs, SIZES)
    assert (sum(map(len, expected)) == 0) is (thresh > 0.99)
    found = detect(model, outputs)
    assert_same(found, expected)
    assert found.exact.all()


def test_the_best_fill_the_slots(model, monkeypatch):
    monkeypatch.setattr(model, "test_max_detections", 7)
    outputs = predictions()
    assert_same(detect(model, outputs), model.inference(outputs, SIZES))


def test_centerness_may_count_for_the_threshold(model, monkeypatch):
    outputs = predictions()
    monkeypatch.setattr(model, "test_score_thresh", 0.3)
    monkeypatch.setattr(model, "test_max_detections", 1000)
    without = detect(model, outputs).num_detections
    monkeypatch.setattr(model.proposal_generator, "thresh_with_centerness", True)
    found = detect(model, outputs)
    assert (found.num_detections < without).all()
    assert_same(found, model.inference(outputs, SIZES))


def test_what_is_not_finite_is_dropped(model):
    outputs = predictions()
    outputs.class_logits[0][0, 0], outputs.ltrb[1][0, 2] = torch.nan, torch.inf
    outputs.centerness_logits[2][1] = torch.nan
    expected = model.inference(outputs, SIZES)
    assert all(x.pred_boxes.tensor.isfinite().all() for x in expected)
    assert_same(detect(model, outputs), expected)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("name", FIXED_RULES)
def test_every_rule_for_boxes(model, options, monkeypatch, name, agnostic):
    options(name, iou_thresh=0.4, score_thresh=0.3, topk=60, class_score_thresh=0.2, class_agnostic=agnostic)
    monkeypatch.setattr(model, "test_max_detections", 1000)
    outputs = predictions()
    expected = model.inference(outputs, SIZES)
    assert model.has_fixed_shapes and min(map(len, expected)) > 5
    assert_same(detect(model, outputs), expected)


def test_another_rule_is_refused(model, options, monkeypatch):
    monkeypatch.setitem(INSTANCE_NMS_REGISTRY, "Mine", INSTANCE_NMS_REGISTRY["BatchedNMS"])
    options("Mine")
    assert not model.has_fixed_shapes
    with pytest.raises(ConfigError, match=r"NMS.NAME Mine of boxes has no fixed shape.* one of BatchedNMS, "):
        detect(model, predictions())
    with torch.no_grad(), cpu_as_gpu():
        assert len(model([make_input()])[0]["instances"]) > 0  # as without a GPU


def test_no_limit_of_detections_has_no_fixed_shape(model, monkeypatch):
    monkeypatch.setattr(model, "test_max_detections", -1)
    assert not model.has_fixed_shapes


@pytest.mark.parametrize("with_classes", [True, False])
def test_the_operator_of_exported_programs_finds_the_same(model, options, with_classes):
    options("BatchedNMS", iou_thresh=0.5, class_agnostic=not with_classes)
    outputs = predictions()
    found = model.detect(outputs, torch.tensor(SIZES), 50, greedy_nms_as_operator(K))
    expected = model.inference(outputs, SIZES)
    assert_same(found, [x[:50] for x in expected])


def test_exact_is_whether_the_limits_changed_nothing(model):
    outputs = predictions()
    few, short = GreedyNMS(keep_by_fixpoint, 60), GreedyNMS(lambda *x: keep_by_fixpoint(*x, max_steps=1), 2048)
    assert detect(model, outputs, 100, few).exact.tolist() == [False, False]  # fewer than 100 of 60 are kept
    assert detect(model, outputs, 100, short).exact.tolist() == [False, False]
    found = detect(model, outputs, 10, few)
    assert found.exact.all()
    assert_same(found, [x[:10] for x in model.inference(outputs, SIZES)])


OUTPUTS = [Output((200, 300), {}), Output((45, 60), {})]


@pytest.mark.parametrize("thresh", [0.05, 0.999])
def test_a_batch_is_read_once(model, monkeypatch, thresh):
    monkeypatch.setattr(model, "test_score_thresh", thresh)
    outputs = predictions()
    expected = [paste_all(model, x, outputs, i, OUTPUTS[i]) for i, x in enumerate(model.inference(outputs, SIZES))]
    with cpu_as_gpu(limit=1) as reads:
        found = detect_in_slots(model, outputs, SIZES, OUTPUTS, model.device)
    assert len(reads.reads) == 1
    for a, b in zip(expected, found, strict=True):
        assert (len(a) > 0) is (thresh < 0.5) and a.image_size == b.image_size
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor) and torch.equal(a.scores, b.scores)
        assert torch.equal(a.pred_classes, b.pred_classes) and torch.equal(a.locations, b.locations)


def test_what_is_not_exact_is_decoded_without_limits(model, monkeypatch):
    monkeypatch.setattr(FIXPOINT.function, "__defaults__", (1,))  # one step does not converge
    outputs = predictions()
    found = detect_in_slots(model, outputs, SIZES, OUTPUTS, model.device)
    for x, y in zip(found, model.inference(outputs, SIZES), strict=True):
        assert torch.equal(x.scores, y.scores) and len(x) > 0


def test_a_gpu_waits_once(model):
    with torch.no_grad(), fake_gpu(model, limit=1) as (on_gpu, reads):
        outputs = on_gpu.predict(torch.randn(2, 3, 96, 128, device="cuda"))
        found = detect_in_slots(on_gpu, outputs, SIZES, OUTPUTS, on_gpu.device)
    assert len(reads.reads) == 1 and found[0].scores.device.type == "cuda"


def test_a_model_reads_as_little_as_it_can_where_reads_wait(model):
    x = make_input(height=200, width=300)
    with torch.no_grad():
        expected = model([x])[0]["instances"]
        with cpu_as_gpu() as reads:
            found = model([x])[0]["instances"]
    assert "torchvision::nms" not in reads.reads and torch.equal(found.scores, expected.scores)


@pytest.mark.slow
def test_it_compiles_as_one_graph(model):
    images = torch.randn(2, 3, 96, 128)

    def found(x):
        return model.detect(model.predict(x), torch.tensor(SIZES), 50)

    with torch.no_grad():
        expected, compiled = found(images), torch.compile(found, fullgraph=True, backend="eager")(images)
    assert expected.num_detections.min() > 0
    assert torch.equal(expected.boxes, compiled.boxes) and torch.equal(expected.scores, compiled.scores)
