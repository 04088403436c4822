from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import Boxes, Instances
from torchvision.ops import box_iou

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.instance_nms import INSTANCE_NMS, BatchedNMS, MaskNMS, MatrixNMS, build_instance_nms
from centermask_solo.ops.masks import mask_iou, masks_to_boxes
from tests import oracles

RULES = [
    pytest.param(BatchedNMS(iou_thresh=0.5), id="BatchedNMS"),
    pytest.param(MaskNMS(iou_thresh=0.5), id="MaskNMS"),
    pytest.param(MatrixNMS(score_thresh=0.2), id="MatrixNMS"),
]


def random_instances(seed=0, count=40, num_classes=3):
    """Rectangles with their boxes; scores with ties, in no order; ``place`` says where each was."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 24, 24, dtype=torch.bool)
    for mask in masks:
        y, x = torch.randint(0, 12, (2,), generator=rng).tolist()
        h, w = torch.randint(4, 12, (2,), generator=rng).tolist()
        mask[y : y + h, x : x + w] = True
    instances = Instances((24, 24))
    instances.pred_masks, instances.pred_boxes = masks, Boxes(masks_to_boxes(masks))
    instances.scores = torch.randint(1, 16, (count,), generator=rng) / 16
    instances.pred_classes = torch.randint(0, num_classes, (count,), generator=rng)
    instances.place = torch.arange(count)
    return instances


def order_of(instances):
    return sorted(range(len(instances)), key=lambda i: -instances.scores[i])


@pytest.mark.parametrize("nms", RULES)
class TestContract:
    def test_best_first_and_all_fields_ride_along(self, nms):
        instances = random_instances()
        given = instances[torch.arange(len(instances))]
        kept = nms(instances)
        assert 0 < len(kept) < len(instances)
        assert torch.equal(kept.scores, kept.scores.sort(descending=True).values)
        for name in ("pred_masks", "pred_classes"):
            assert torch.equal(kept.get(name), instances.get(name)[kept.place])
        assert torch.equal(kept.pred_boxes.tensor, instances.pred_boxes.tensor[kept.place])
        assert all(torch.equal(given.get(k), instances.get(k)) for k in ("scores", "place", "pred_masks"))

    def test_of_equal_scores_the_earlier_wins(self, nms):
        instances = random_instances()[torch.tensor([3, 3, 3])]
        instances.place = torch.arange(3)
        assert nms(instances).place[0] == 0
        apart = random_instances(count=3)
        apart.scores[:] = 0.5
        apart.pred_classes = torch.arange(3)
        assert nms(apart).place.tolist() == [0, 1, 2]

    def test_classes_do_not_compete_unless_told_to(self, nms):
        instances = random_instances()[torch.tensor([3, 3])]
        instances.scores = torch.tensor([0.9, 0.8])
        instances.pred_classes = torch.tensor([0, 1])
        assert nms(instances).scores.tolist() == pytest.approx([0.9, 0.8])
        agnostic = type(nms)(**{**vars(nms), "class_agnostic": True})
        assert agnostic(instances).scores.tolist() == pytest.approx([0.9])

    def test_without_instances_nothing_happens(self, nms):
        empty = nms(random_instances()[torch.zeros(0, dtype=torch.int64)])
        assert len(empty) == 0
        assert empty.pred_masks.shape == (0, 24, 24)
        assert (empty.pred_boxes.tensor.shape, empty.pred_classes.dtype) == ((0, 4), torch.int64)

    def test_a_missing_field_is_named(self, nms):
        instances = Instances((24, 24), scores=torch.ones(2), pred_classes=torch.zeros(2, dtype=torch.int64))
        wanted = " or ".join(nms.inputs)
        with pytest.raises(ValueError, match=rf"^{type(nms).__name__} needs instances with {wanted}, which these lack"):
            nms(instances)
        with pytest.raises(ValueError, match=f"with scores and pred_classes and {wanted}"):
            nms(Instances((24, 24)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shift", [0.0, -500.0], ids=["within the image", "negative coordinates"])
def test_batched_nms_is_greedy_within_each_class(seed, shift):
    instances = random_instances(seed, count=60)
    instances.pred_boxes = Boxes(instances.pred_boxes.tensor + shift)
    order = order_of(instances)
    ious = box_iou(*[instances.pred_boxes.tensor[order]] * 2)
    expected = oracles.greedy_nms(ious, instances.pred_classes[order].tolist(), 0.29)
    assert BatchedNMS(iou_thresh=0.29)(instances).place.tolist() == [order[i] for i in expected]


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
    kept = set(BatchedNMS(iou_thresh=0.29)(few).place.tolist())
    assert kept == set(BatchedNMS(iou_thresh=0.29)(many).place.tolist())
    order = order_of(few)
    ious = box_iou(*[few.pred_boxes.tensor[order].double()] * 2)
    assert kept == {order[i] for i in oracles.greedy_nms(ious, few.pred_classes[order].tolist(), 0.29)}


@pytest.mark.parametrize("seed", range(3))
def test_mask_nms_is_greedy_within_each_class(seed):
    instances = random_instances(seed)
    order = order_of(instances)
    ious = mask_iou(instances.pred_masks)[order][:, order]
    expected = oracles.greedy_nms(ious, instances.pred_classes[order].tolist(), 0.29)
    kept = MaskNMS(iou_thresh=0.29)(instances)
    assert kept.place.tolist() == [order[i] for i in expected]
    assert torch.equal(kept.scores, instances.scores[kept.place])


def test_of_empty_masks_mask_nms_keeps_one():
    instances = random_instances(count=4, num_classes=1)
    instances.pred_masks[1:] = False
    assert len(MaskNMS(iou_thresh=0.9)(instances)) == 2


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
    kept = MatrixNMS(kernel=kernel, sigma=1.5, score_thresh=0.2)(instances)
    assert kept.place.tolist() == [order[i] for i in rows]
    torch.testing.assert_close(kept.scores, torch.tensor([decayed[i] for i in rows]))
    assert rows != sorted(rows)  # the decay changed the order


def test_matrix_nms_keeps_scores_of_exactly_the_threshold():
    instances = random_instances(count=1)
    instances.scores[:] = 0.25
    assert len(MatrixNMS(score_thresh=0.25)(instances)) == 1
    assert len(MatrixNMS(score_thresh=0.2500001)(instances)) == 0


def test_any_rule_is_built_from_the_config():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    node = cfg.MODEL.SOLOV2.NMS
    node.merge_from_list(
        ["IOU_THRESH", 0.4, "SIGMA", 3.0, "KERNEL", "linear", "SCORE_THRESH", 0.1, "CLASS_AGNOSTIC", True]
    )
    expected = {
        "BatchedNMS": {"iou_thresh": 0.4},
        "MaskNMS": {"iou_thresh": 0.4},
        "MatrixNMS": {"kernel": "linear", "sigma": 3.0, "score_thresh": 0.1},
    }
    assert set(INSTANCE_NMS) == set(expected)
    for name, numbers in expected.items():
        node.NAME = name
        nms = build_instance_nms(node)
        assert type(nms).__name__ == name
        assert vars(nms) == {**numbers, "class_agnostic": True}


def test_unknown_names_are_errors():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    node = cfg.MODEL.SOLOV2.NMS
    node.KERNEL = "gausian"
    with pytest.raises(ValueError, match="KERNEL must be one of gaussian, linear, not 'gausian'"):
        build_instance_nms(node)
    node.NAME = "SoftNMS"
    with pytest.raises(ValueError, match="NAME must be one of BatchedNMS, MaskNMS, MatrixNMS, not 'SoftNMS'"):
        build_instance_nms(node)
