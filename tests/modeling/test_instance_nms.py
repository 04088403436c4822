"""What holds for every rule of NMS, and how rules are registered and built."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.structures import Instances

from centermask_solo import add_centermask_solo_config
from centermask_solo.modeling.instance_nms import (
    INSTANCE_NMS_REGISTRY,
    InstanceNMS,
    Kept,
    NMSOptions,
    build_instance_nms,
    register_instance_nms,
)
from centermask_solo.modeling.instance_part import detection_limits, instance_part
from centermask_solo.utils.errors import ConfigError
from tests.modeling.models import SYSTEMS
from tests.modeling.nms_candidates import make_nms, random_instances

ALL_FIELDS = ["pred_masks", "pred_boxes"]
RULES = [
    pytest.param(make_nms("BatchedNMS", iou_thresh=0.5), id="BatchedNMS"),
    pytest.param(make_nms("MaskNMS", iou_thresh=0.5), id="MaskNMS"),
    pytest.param(make_nms("MatrixNMS", score_thresh=0.2), id="MatrixNMS"),
    pytest.param(make_nms("FastNMS", iou_thresh=0.5), id="FastNMS"),
    pytest.param(make_nms("TraditionalNMS", iou_thresh=0.5), id="TraditionalNMS"),
]


@pytest.mark.parametrize("nms", RULES)
class TestContract:
    def test_best_first_with_all_other_fields(self, nms):
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

    def test_classes_do_not_compete_unless_the_rule_is_class_agnostic(self, nms):
        instances = random_instances()[torch.tensor([3, 3])]
        instances.scores = torch.tensor([0.9, 0.8])
        instances.pred_classes = torch.tensor([0, 1])
        assert nms(instances).scores.tolist() == pytest.approx([0.9, 0.8])
        agnostic = InstanceNMS(nms.name, replace(nms.options, class_agnostic=True))
        assert agnostic(instances).scores.tolist() == pytest.approx([0.9])

    def test_no_instances_is_a_no_op(self, nms):
        empty = nms(random_instances()[torch.zeros(0, dtype=torch.int64)])
        assert len(empty) == 0
        assert empty.pred_masks.shape == (0, 24, 24)
        assert (empty.pred_boxes.tensor.shape, empty.pred_classes.dtype) == ((0, 4), torch.int64)

    def test_a_missing_field_is_named(self, nms):
        instances = Instances((24, 24), scores=torch.ones(2), pred_classes=torch.zeros(2, dtype=torch.int64))
        inputs = " or ".join(nms.inputs)
        with pytest.raises(ValueError, match=rf"^{nms.name} needs instances with {inputs}, which these lack"):
            nms(instances)
        with pytest.raises(ValueError, match=f"with scores and pred_classes and {inputs}"):
            nms(Instances((24, 24)))


def test_any_rule_is_built_from_the_config():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    node = cfg.MODEL.SOLOV2.NMS
    node.merge_from_list(
        ["IOU_THRESH", 0.4, "SIGMA", 3.0, "KERNEL", "linear", "SCORE_THRESH", 0.1, "CLASS_AGNOSTIC", True]
    )
    node.merge_from_list(["TOPK", 50, "CLASS_SCORE_THRESH", 0.3])
    expected = NMSOptions(
        iou_thresh=0.4,
        sigma=3.0,
        kernel="linear",
        score_thresh=0.1,
        topk=50,
        class_score_thresh=0.3,
        class_agnostic=True,
    )
    assert list(INSTANCE_NMS_REGISTRY) == ["BatchedNMS", "MaskNMS", "MatrixNMS", "FastNMS", "TraditionalNMS"]
    for name in INSTANCE_NMS_REGISTRY:
        node.NAME = name
        nms = build_instance_nms(node, ALL_FIELDS)
        assert (nms.name, nms.options) == (name, expected)


def test_users_can_add_a_rule():
    """One registration: the rule is built from the config, its numbers come from there, and its input is checked."""

    @register_instance_nms("TopOne", inputs=("pred_boxes",))
    def top_one(candidates, options):
        assert candidates.shapes.shape == (40, 4)
        best = candidates.scores.argmax()[None]
        return Kept(best, candidates.scores[best] * options.sigma)

    try:
        cfg = get_cfg()
        add_centermask_solo_config(cfg)
        node = cfg.MODEL.YOLACT.NMS
        node.NAME, node.SIGMA = "TopOne", 0.5
        nms, instances = build_instance_nms(node, ["pred_boxes"]), random_instances()
        kept = nms(instances)
        assert kept.place.tolist() == [instances.scores.argmax().item()]
        assert kept.scores.item() == instances.scores.max().item() / 2
        assert not nms.per_class
        with pytest.raises(ConfigError, match="TopOne needs pred_boxes, but this system has only pred_masks"):
            build_instance_nms(node, ["pred_masks"])
        with pytest.raises(ValueError, match="rule named TopOne is already registered"):
            register_instance_nms("TopOne", inputs=("pred_boxes",))(top_one)
    finally:
        del INSTANCE_NMS_REGISTRY["TopOne"]


def test_unknown_names_are_errors():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    node = cfg.MODEL.SOLOV2.NMS
    node.KERNEL = "gausian"
    with pytest.raises(ConfigError, match="KERNEL must be one of gaussian, linear, not 'gausian'"):
        build_instance_nms(node, ALL_FIELDS)
    node.NAME, node.TOPK = "FastNMS", 0
    with pytest.raises(ConfigError, match="TOPK must be at least 1, not 0"):
        build_instance_nms(node, ALL_FIELDS)
    node.NAME = "SoftNMS"
    with pytest.raises(
        ConfigError, match=r"NAME must be one of BatchedNMS, MaskNMS, MatrixNMS, FastNMS, Tradi.*, not 'SoftNMS'"
    ):
        build_instance_nms(node, ALL_FIELDS)


def test_a_rule_whose_field_a_system_lacks_is_an_error():
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    node = cfg.MODEL.FCOS.NMS
    node.NAME = "MaskNMS"
    with pytest.raises(ConfigError) as error:
        build_instance_nms(node, ["pred_boxes"])
    assert str(error.value) == (
        "NMS.NAME MaskNMS needs pred_masks, but this system has only pred_boxes at that point: "
        "choose one of BatchedNMS, MatrixNMS, FastNMS, TraditionalNMS"
    )


@pytest.mark.parametrize(("name", "expected"), [("MatrixNMS", 0.05), ("FastNMS", 0.1), ("MaskNMS", 0.1)])
def test_the_lowest_score_of_what_is_kept(name, expected):
    assert InstanceNMS(name, NMSOptions(score_thresh=0.05)).least_score(0.1) == expected
    assert InstanceNMS(name, NMSOptions(score_thresh=0.3)).least_score(0.1) == 0.1


@pytest.mark.parametrize(
    ("name", "expected"), [("SOLOv2", (0.1, 0.05)), ("YOLACT", (0.05, 0.05)), ("FCOS", (0.05, 0.05))]
)
def test_the_lowest_score_of_a_system(name, expected):
    limits = detection_limits(instance_part(SYSTEMS[name].model()))
    assert (limits.score_thresh, limits.least_score) == expected
