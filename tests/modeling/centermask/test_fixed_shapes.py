"""Detections of CenterMask in fixed shapes: the same, without waiting for the host."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from centermask_solo.modeling.centermask.pooler import AdaptiveROIPooler, pool
from centermask_solo.modeling.slots import Output, detect_in_slots, paste_all
from centermask_solo.ops.fixed_nms import greedy_nms_as_operator
from centermask_solo.utils.errors import ConfigError
from tests.host_reads import HostReads, cpu_as_gpu, fake_gpu
from tests.modeling.centermask.helpers import K, make_input, make_model

SIZES = [(96, 128), (90, 120), (80, 100)]
OUTPUTS = [Output((200, 300), {}), Output((45, 60), {}), None]
TENSOR_FIELDS = ("scores", "pred_classes", "locations", "pred_masks", "mask_scores")


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


@pytest.fixture(scope="module")
def predictions(model):
    images = torch.randn(3, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        return model.predict(images)


@pytest.fixture
def set_limits(model, monkeypatch):
    """A function that sets the limits of detections for one test."""
    generator = model.proposal_generator

    def set_to(**limits):
        monkeypatch.setattr(generator, "test_limits", generator.test_limits._replace(pre_nms_topk=100, **limits))

    set_to()
    return set_to


def assert_same(found, expected):
    """Assert the same instances; scores to the last bit of a sigmoid, which on a CPU depends on its place in memory."""
    assert found.image_size == expected.image_size and set(found.get_fields()) == set(expected.get_fields())
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    for name in TENSOR_FIELDS:
        torch.testing.assert_close(found.get(name), expected.get(name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("thresh", [0.05, 0.999])
def test_a_batch_is_read_once(model, predictions, set_limits, thresh):
    set_limits(score_thresh=thresh)
    with torch.no_grad():
        results = model.inference(predictions, SIZES)
        expected = [paste_all(model, x, predictions, i, OUTPUTS[i]) for i, x in enumerate(results)]
        with cpu_as_gpu(limit=1) as reads:
            found = detect_in_slots(model, predictions, SIZES, OUTPUTS, model.device)
    assert len(reads.reads) == 1
    for a, b in zip(expected, found, strict=True):
        assert (len(a) > 0) is (thresh < 0.5)
        assert_same(b, a)


def test_masks_of_slots(model, predictions, set_limits):
    set_limits(score_thresh=0.3)
    with HostReads(0):
        found = model.detect(predictions, torch.tensor(SIZES), 600)
        masks = model.mask_probabilities(found, predictions)
    assert masks.shape == (3, 600, 28, 28) and found.fields["mask_scores"].shape == (3, 600)
    filled = found.filled()
    assert 0 < filled.sum() < filled.numel() and not masks[~filled].any()
    assert ((masks[filled] > 0) & (masks[filled] < 1)).all()


@pytest.mark.parametrize("overrides", [("MODEL.CENTERMASK.PASTE_UNCLIPPED", True), ("MODEL.MASK_ON", False)])
def test_options_of_masks(overrides):
    model, x = make_model(*overrides).eval(), make_input(height=150, width=200)
    with torch.no_grad():
        expected = model([x])[0]["instances"]
        with cpu_as_gpu():
            found = model([x])[0]["instances"]
            raw = model.inference([x], do_postprocess=False)[0]
    assert set(found.get_fields()) == set(expected.get_fields()) and len(found) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor) and len(raw) == len(found)
    if found.has("pred_masks"):
        assert torch.equal(found.pred_masks, expected.pred_masks) and found.pred_masks.any()


def test_keypoints_have_no_fixed_shape(model, predictions, monkeypatch):
    monkeypatch.setattr(model.roi_heads, "keypoint_on", True)
    assert not model.has_fixed_shapes
    with pytest.raises(ConfigError, match=r"set MODEL\.KEYPOINT_ON to False"):
        model.detect(predictions, torch.tensor(SIZES), 10)


def test_a_gpu_waits_once(model):
    with torch.no_grad(), fake_gpu(model, limit=1) as (on_gpu, reads):
        outputs = on_gpu.predict(torch.randn(3, 3, 96, 128, device="cuda"))
        found = detect_in_slots(on_gpu, outputs, SIZES, OUTPUTS, on_gpu.device)
    assert len(reads.reads) == 1 and found[0].pred_masks.device.type == "cuda"


@pytest.mark.parametrize("kind", [AdaptiveROIPooler, ROIPooler])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("scales", [(1 / 8, 1 / 16, 1 / 32), (1 / 8,)])
def test_pooling_does_not_depend_on_who_counts_the_boxes(kind, sampling_ratio, scales):
    rng = torch.Generator().manual_seed(0)
    features = {
        f"p{i}": torch.randn(3, 4, 12 // s, 16 // s, generator=rng) for i, s in enumerate((1, 2, 4)[: len(scales)])
    }
    corners = torch.rand(3, 20, 2, generator=rng) * 90 - 10
    boxes = torch.cat([corners, corners + torch.rand(3, 20, 2, generator=rng) ** 2 * 120], dim=2)
    boxes[:, 17:] = 0.0  # unused
    pooler = kind(7, scales, sampling_ratio, "ROIAlignV2", canonical_box_size=60)
    with HostReads(0):
        found = pool(pooler, list(features), features, boxes, torch.tensor(SIZES))
    lists = [Boxes(boxes[0]), Boxes(boxes[1, :5]), Boxes(boxes[2, :0])]
    with cpu_as_gpu(0):
        found_of_lists = pool(pooler, list(features), features, lists, SIZES)
    expected = pool(pooler, list(features), features, [Boxes(x) for x in boxes], SIZES)
    assert found.shape == (60, 4, 7, 7) and torch.equal(found, expected)
    assert torch.equal(found_of_lists, expected[:25])


class Exported(nn.Module):
    """What an exported program computes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, image_sizes):
        predictions = self.model.predict(images)
        found = self.model.detect(predictions, image_sizes, 20, greedy_nms_as_operator(K))
        return found.with_fields({**found.fields, "masks": self.model.mask_probabilities(found, predictions)})


@pytest.mark.slow
def test_it_compiles_as_one_graph(model):
    images = torch.randn(2, 3, 96, 128) * 50
    with torch.no_grad():
        expected = Exported(model)(images, torch.tensor(SIZES[:2]))
        compiled = torch.compile(Exported(model), fullgraph=True, backend="eager")(images, torch.tensor(SIZES[:2]))
    assert expected.num_detections.min() > 0
    torch.testing.assert_close(tuple(compiled), tuple(expected))


@pytest.mark.slow
def test_it_is_exported_for_any_batch_and_size(model):
    dims = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC), {0: torch.export.Dim.DYNAMIC})
    images = torch.randn(2, 3, 288, 352) * 50
    with torch.no_grad():
        program = torch.export.export(Exported(model), (images, torch.tensor([(288, 352)] * 2)), dynamic_shapes=dims)
        for size in ((2, 288, 352), (3, 160, 192)):
            images, sizes = torch.randn(size[0], 3, *size[1:]) * 50, torch.tensor([size[1:]] * size[0])
            torch.testing.assert_close(program.module()(images, sizes), Exported(model)(images, sizes))
    topk = [node.args[1] for node in program.graph.nodes if node.target == torch.ops.aten.topk.default]
    assert len(topk) == 7 and all(isinstance(k, int) and k <= 3840 for k in topk)
    sorts = [node for node in program.graph.nodes if "sort" in str(node.target)]
    assert not sorts
