"""The five rules of NMS on Instances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torchvision.ops import box_iou

from centermask_solo.modeling.instance_nms import NMSCandidates
from centermask_solo.ops.masks import mask_iou
from tests import parity
from tests.host_reads import HostReads
from tests.modeling.nms_candidates import boxes_with_class_scores, make_nms, order_of, random_instances
from tests.oracles import ops as oracles

CASE = Path(__file__).parents[1] / "goldens" / "fast_nms.json"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [0.0, -500.0], ids=["within the image", "negative coordinates"])
def test_batched_nms_is_greedy_within_each_class(seed, shift):
    instances = random_instances(seed, count=60)
    instances.pred_boxes = Boxes(instances.pred_boxes.tensor + shift)
    order = order_of(instances)
    ious = box_iou(*[instances.pred_boxes.tensor[order]] * 2)
    expected = oracles.greedy_nms(ious, instances.pred_classes[order].tolist(), 0.29)
    assert make_nms("BatchedNMS", iou_thresh=0.29)(instances).place.tolist() == [order[i] for i in expected]


def test_batched_nms_does_not_depend_on_the_number_of_boxes():
    """Many classes and large boxes, whose offsets would cost float32 its last bits; few boxes and more than 1000."""
    rng = torch.Generator().manual_seed(0)
    corners = torch.rand(600, 2, generator=rng) * 1300
    boxes = torch.cat((corners, corners + 0.5 + torch.rand(600, 2, generator=rng)), dim=1)
    few = Instances((1333, 1333), pred_boxes=Boxes(torch.cat((boxes, boxes + 0.25))))
    few.scores = torch.rand(1200, generator=rng)
    few.pred_classes = torch.randint(1100, 1200, (600,), generator=rng).repeat(2)
    few.place = torch.arange(1200)
    many = Instances.cat([few, few[torch.arange(600)]])
    many.scores[1200:] = 0.001
    kept = set(make_nms("BatchedNMS", iou_thresh=0.29)(few).place.tolist())
    assert kept == set(make_nms("BatchedNMS", iou_thresh=0.29)(many).place.tolist())
    order = order_of(few)
    ious = box_iou(*[few.pred_boxes.tensor[order].double()] * 2)
    assert kept == {order[i] for i in oracles.greedy_nms(ious, few.pred_classes[order].tolist(), 0.29)}


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("field", ["pred_masks", "pred_boxes"])
def test_matrix_nms_in_fixed_shapes(kernel, class_agnostic, field):
    """The same detections; the last rows of the second image are empty, and what they hold changes nothing."""
    rule = make_nms("MatrixNMS", kernel=kernel, class_agnostic=class_agnostic, score_thresh=0.2)
    first, second = random_instances(0), random_instances(1)
    second.scores[25:] = 0.0

    def batch(name):
        return torch.stack([getattr(x.get(name), "tensor", x.get(name)) for x in (first, second)])

    candidates = NMSCandidates(batch(field), batch("scores"), batch("pred_classes"), None)
    for max_kept in (8, 40):
        with HostReads(limit=0):
            kept = rule.fixed(candidates, max_kept)
        for i, instances in enumerate((first, second[:25])):
            fields = {
                k: v for k, v in instances.get_fields().items() if k not in {"pred_masks", "pred_boxes"} - {field}
            }
            expected = rule(Instances((24, 24), **fields))[:max_kept]
            count = len(expected)
            assert 5 < count <= max_kept
            assert kept.rows[i, :count].tolist() == expected.place.tolist()
            torch.testing.assert_close(kept.scores[i, :count], expected.scores)
            assert not kept.scores[i, count:].any()


@pytest.mark.parametrize("seed", range(3))
def test_mask_nms_is_greedy_within_each_class(seed):
    instances = random_instances(seed)
    order = order_of(instances)
    ious = mask_iou(instances.pred_masks)[order][:, order]
    expected = oracles.greedy_nms(ious, instances.pred_classes[order].tolist(), 0.29)
    kept = make_nms("MaskNMS", iou_thresh=0.29)(instances)
    assert kept.place.tolist() == [order[i] for i in expected]
    assert torch.equal(kept.scores, instances.scores[kept.place])


def test_of_empty_masks_mask_nms_keeps_one():
    instances = random_instances(count=4, num_classes=1)
    instances.pred_masks[1:] = False
    assert len(make_nms("MaskNMS", iou_thresh=0.9)(instances)) == 2


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("field", ["pred_masks", "pred_boxes"])
def test_matrix_nms_rescores_and_sorts_again(kernel, field):
    instances = random_instances(4)
    order = order_of(instances)
    ious = mask_iou(instances.pred_masks)  # rectangles: the same as their boxes'
    instances.remove({"pred_masks": "pred_boxes", "pred_boxes": "pred_masks"}[field])
    scores, classes = instances.scores[order].tolist(), instances.pred_classes[order].tolist()
    decayed = oracles.matrix_nms(ious[order][:, order], classes, scores, kernel, 1.5)
    rows = [i for i in sorted(range(len(order)), key=lambda i: -round(decayed[i], 6)) if decayed[i] >= 0.2]
    kept = make_nms("MatrixNMS", kernel=kernel, sigma=1.5, score_thresh=0.2)(instances)
    assert kept.place.tolist() == [order[i] for i in rows]
    torch.testing.assert_close(kept.scores, torch.tensor([decayed[i] for i in rows]))
    assert rows != sorted(rows)  # the decay changed the order


def test_matrix_nms_keeps_scores_of_exactly_the_threshold():
    instances = random_instances(count=1)
    instances.scores[:] = 0.25
    assert len(make_nms("MatrixNMS", score_thresh=0.25)(instances)) == 1
    assert len(make_nms("MatrixNMS", score_thresh=0.2500001)(instances)) == 0


def test_per_class_rules_keep_an_instance_for_several():
    instances = boxes_with_class_scores()
    fields = (instances.pred_boxes.tensor.tolist(), instances.class_scores.tolist())
    for thresh in (0.0, 0.6):
        kept = make_nms("FastNMS", iou_thresh=0.3, topk=12, class_score_thresh=thresh)(instances)
        expected = oracles.fast_nms(*fields, 0.3, 12, thresh)
        assert [(x[1], x[2]) for x in expected] == list(
            zip(kept.pred_classes.tolist(), kept.place.tolist(), strict=True)
        )
        assert kept.scores.tolist() == [x[0] for x in expected]
        assert not kept.has("class_scores")
    assert len(kept.place.unique()) < len(kept)  # one of them twice
    assert instances.has("class_scores")


@pytest.mark.parametrize(
    "nms", [make_nms("FastNMS", iou_thresh=0.3, class_agnostic=True), make_nms("BatchedNMS", iou_thresh=0.3)]
)
def test_other_rules_take_the_best_class_of_each(nms):
    instances = boxes_with_class_scores()
    kept = nms(instances)
    assert not nms.per_class
    assert len(kept.place.unique()) == len(kept)
    assert torch.equal(kept.pred_classes, instances.pred_classes[kept.place])


def test_cross_class_fast_nms_lets_all_compete():
    instances = random_instances()
    order = order_of(instances)
    boxes, scores = instances.pred_boxes.tensor[order].tolist(), instances.scores[order].tolist()
    expected = [order[row] for _, _, row in oracles.fast_nms(boxes, [[x] for x in scores], 0.3, 200, 0.0)]
    assert make_nms("FastNMS", iou_thresh=0.3, class_agnostic=True)(instances).place.tolist() == expected


def test_fast_nms_drops_what_a_dropped_one_overlaps():
    """Unlike greedy NMS: the third overlaps the second alone."""
    instances = random_instances(count=3, num_classes=1)
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 10, 10], [4.0, 0, 14, 10], [8.0, 0, 18, 10]]))
    instances.scores = torch.tensor([0.9, 0.8, 0.7])
    assert make_nms("FastNMS", iou_thresh=0.4)(instances).place.tolist() == [0]
    assert make_nms("BatchedNMS", iou_thresh=0.4)(instances).place.tolist() == [0, 2]


@pytest.mark.parametrize(("iou_thresh", "places"), [(0.5, [0]), (0.5001, [0, 1])])
def test_traditional_nms_adds_a_pixel_and_drops_at_the_threshold(iou_thresh, places):
    """Of 10 x 10 pixels, five columns are outside of the other box: 10 x 5 shared of 10 x 10."""
    instances = random_instances(count=2, num_classes=1)
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 4, 9]]))
    instances.scores = torch.tensor([0.9, 0.8])
    assert make_nms("TraditionalNMS", iou_thresh=iou_thresh)(instances).place.tolist() == places


def test_traditional_nms_needs_a_score_in_each_class():
    instances = boxes_with_class_scores()
    kept = make_nms("TraditionalNMS", iou_thresh=0.5, score_thresh=0.6)(instances)
    assert kept.scores.min() > 0.6
    assert len(kept) > 3


def test_per_class_rules_take_no_instances():
    nothing = boxes_with_class_scores()[:0]
    for nms in (
        make_nms("FastNMS", iou_thresh=0.5),
        make_nms("TraditionalNMS", iou_thresh=0.5),
        make_nms("BatchedNMS", iou_thresh=0.5),
    ):
        kept = nms(nothing)
        assert len(kept) == 0
        assert kept.has("pred_boxes")
    low = boxes_with_class_scores()
    low.class_scores *= 0.01
    assert len(make_nms("TraditionalNMS", iou_thresh=0.5)(low)) == 0


@pytest.mark.parametrize("kind", ["fast", "cross_class", "second_threshold", "traditional"])
@pytest.mark.parametrize("name", ["clusters", "top_k"])
def test_yolacts_rules_equal_the_published_code(name, kind):
    case = json.loads(CASE.read_text())
    with np.load(CASE.with_suffix(".npz")) as arrays:
        settings = case["sets"][name]["settings"]
        boxes, class_scores = (torch.from_numpy(arrays[f"{name}/input/{key}"]) for key in ("boxes", "scores"))
        passing = (class_scores.amax(dim=1) > settings["conf_thresh"]).nonzero()[:, 0]
        instances = Instances((550, 550), pred_boxes=Boxes(boxes[passing] * 550), class_scores=class_scores[passing])
        instances.scores, instances.pred_classes = instances.class_scores.max(dim=1)
        instances.anchors = passing
        thresh = settings["conf_thresh"]
        numbers = {"iou_thresh": settings["nms_thresh"], "topk": settings["top_k"]}
        rules = {
            "fast": make_nms("FastNMS", **numbers),
            "cross_class": make_nms("FastNMS", **numbers, class_agnostic=True),
            "second_threshold": make_nms("FastNMS", **numbers, class_score_thresh=thresh),
            "traditional": make_nms("TraditionalNMS", iou_thresh=settings["nms_thresh"], score_thresh=thresh),
        }
        kept = rules[kind](instances)
        if kind == "cross_class":
            assert len(kept) == case["sets"][name]["detections"][kind]  # which its limit of detections does not touch
        kept = kept[: settings["max_num_detections"]]
        values = {
            "boxes": kept.pred_boxes.tensor / 550,
            "scores": kept.scores,
            "classes": kept.pred_classes,
            "anchors": kept.anchors,
        }
        for key, value in values.items():
            full = f"{name}/{kind}/{key}"
            assert parity.compare(arrays, full, value.numpy()) <= case["arrays"][full]["tolerance"], full
