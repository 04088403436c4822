import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.structures import ImageList

from centermask_solo.modeling.fcos import DecodeLimits, FCOSProposalGenerator
from centermask_solo.modeling.fcos import losses as source
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.centermask.helpers import BOXES, SIZE, K, make_cfg, make_gt

STRIDES = {"p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


def shapes(channels=32):
    return {name: ShapeSpec(channels=channels, stride=stride) for name, stride in STRIDES.items()}


def fcos(*overrides, seed=0):
    torch.manual_seed(seed)
    module = build_proposal_generator(make_cfg(*overrides), shapes())
    torch.nn.init.constant_(module.fcos_head.bbox_pred.bias, 2.0)
    return module


def features(num_images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(num_images, 32, -(-SIZE[0] // s), -(-SIZE[1] // s), generator=generator)
        for name, s in STRIDES.items()
    }


def images(num_images=2):
    return ImageList(torch.zeros(num_images, 3, *SIZE), [SIZE] * num_images)


def test_in_inference_it_returns_the_detections():
    module = fcos("MODEL.FCOS.POST_NMS_TOPK_TEST", 7).eval()
    results, losses = module(images(), features())
    assert losses == {}
    for x in results:
        assert set(x.get_fields()) == {"pred_boxes", "scores", "pred_classes", "locations"}
        assert len(x) == 7 and x.image_size == SIZE
        assert (x.scores.diff() <= 0).all()
        boxes, points = x.pred_boxes.tensor, x.locations
        assert (boxes[:, :2] <= points).all() and (boxes[:, 2:] >= points).all()


def test_in_training_it_returns_proposals_without_gradient_and_three_losses():
    module = fcos("MODEL.FCOS.POST_NMS_TOPK_TRAIN", 9)
    proposals, losses = module(images(), features(), [make_gt(BOXES), make_gt()])
    assert set(losses) == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    for x in proposals:
        assert set(x.get_fields()) == {"proposal_boxes", "objectness_logits"}
        assert len(x) == 9 and not x.proposal_boxes.tensor.requires_grad
        assert (x.objectness_logits.diff() <= 0).all()
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_objectness_is_the_logit_of_the_score():
    module = fcos()
    predictions = module.predict(features())
    scores = module.inference(predictions, [SIZE] * 2, module.train_limits)[0].scores
    proposals, _ = module(images(), features(), [make_gt(BOXES)] * 2)
    assert torch.allclose(proposals[0].objectness_logits.sigmoid(), scores, atol=1e-5)


def test_training_and_inference_have_their_own_limits():
    module = fcos("MODEL.FCOS.SCORE_THRESH_TEST", 0.999, "MODEL.FCOS.POST_NMS_TOPK_TRAIN", 3)
    predictions = module.predict(features())
    assert [len(x) for x in module.propose(predictions, [SIZE] * 2)] == [3, 3]
    assert [len(x) for x in module.inference(predictions, [SIZE] * 2)] == [0, 0]


@pytest.mark.parametrize("mode", [True, False])
def test_the_limits_are_an_argument_independent_of_the_mode(mode):
    module = fcos("MODEL.FCOS.POST_NMS_TOPK_TRAIN", 9, "MODEL.FCOS.POST_NMS_TOPK_TEST", 7).train(mode)
    predictions = module.predict(features())
    count = lambda *limits: [len(x) for x in module.inference(predictions, [SIZE] * 2, *limits)]  # noqa: E731
    assert count() == [7, 7]
    assert count(module.train_limits) == [9, 9]
    assert count(DecodeLimits(0.05, 1, 100)) != count(DecodeLimits(0.05, 1000, 100))
    assert count(DecodeLimits(0.05, 1000, -1)) == count(DecodeLimits(0.05, 1000, 100_000))


def test_nms_is_per_class_unless_class_agnostic():
    logits = [torch.full((1, K, 1, 2), -9.0)]
    logits[0][0, 0, 0, :] = torch.tensor([2.0, 1.0])
    logits[0][0, 1, 0, 0] = 0.0
    part = {"in_features": ["p3"], "strides": [8], "sizes_of_interest": []}
    module = FCOSProposalGenerator(fcos_head=torch.nn.Identity(), nms=fcos().nms, num_classes=K, **part).eval()
    ltrb = torch.tensor([[50.0, 5.0, 50.0, 5.0]] * 2).t().reshape(1, 4, 1, 2)  # nearly the same box twice
    predictions = (logits, [ltrb], [torch.zeros(1, 1, 1, 2)])
    result = module.inference(predictions, [SIZE])[0]
    assert result.pred_classes.tolist() == [0, 1]  # the second of class 0 is suppressed, class 1 is not
    agnostic = fcos("MODEL.FCOS.NMS.CLASS_AGNOSTIC", True).nms
    module = FCOSProposalGenerator(fcos_head=torch.nn.Identity(), nms=agnostic, num_classes=K, **part).eval()
    assert module.inference(predictions, [SIZE])[0].pred_classes.tolist() == [0]


def test_any_nms_rule_for_boxes_works():
    """Matrix NMS lowers scores where greedy NMS drops boxes; it comes from SOLOv2."""
    module = fcos("MODEL.FCOS.NMS.NAME", "MatrixNMS", "MODEL.FCOS.POST_NMS_TOPK_TEST", 1000).eval()
    plain = fcos("MODEL.FCOS.POST_NMS_TOPK_TEST", 1000).eval()
    decayed, kept = module(images(), features())[0][0], plain(images(), features())[0][0]
    assert len(decayed) > 0 and (decayed.scores.diff() <= 0).all()
    assert decayed.scores[0] == kept.scores[0] and decayed.scores.sum() != kept.scores.sum()


def test_boxes_beyond_the_top_left_do_not_overlap_the_previous_class():
    """NMS separates classes by shifting coordinates; negative coordinates must not make them overlap."""
    logits = torch.full((1, K, 1, 2), -9.0)
    logits[0, 0, 0, 0], logits[0, 1, 0, 1] = 3.0, 2.0
    ltrb = torch.tensor([[0.0, 0.0, 12.0, 12.0], [13.5, 12.5, 1.0, 1.0]]).t().reshape(1, 4, 1, 2)
    part = {"in_features": ["p3"], "strides": [8], "sizes_of_interest": []}
    module = FCOSProposalGenerator(fcos_head=torch.nn.Identity(), nms=fcos().nms, num_classes=K, **part).eval()
    result = module.inference(([logits], [ltrb], [torch.zeros(1, 1, 1, 2)]), [SIZE])[0]
    assert sorted(result.pred_classes.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["MODEL.FCOS.NORM", "BN"], ["MODEL.FCOS.NORM", "GN, none", "BN"]),
        (["MODEL.FCOS.LOSS.BOX_TYPE", "ciou"], ["LOSS.BOX_TYPE", "ciou", "linear_iou"]),
        (["MODEL.FCOS.SIZES_OF_INTEREST", [64, 128]], ["SIZES_OF_INTEREST", "2"]),
        (["MODEL.FCOS.IN_FEATURES", ["p2", "p3"]], ["MODEL.FCOS.IN_FEATURES", "p2", "p3, p4"]),
        (["MODEL.FCOS.IN_FEATURES", []], ["MODEL.FCOS.IN_FEATURES is empty"]),
    ],
)
def test_invalid_options_are_named(overrides, words):
    with pytest.raises(ConfigError) as error:
        fcos(*overrides)
    for word in words:
        assert word in str(error.value)


def test_the_strides_are_those_of_the_backbone():
    assert fcos().strides == list(STRIDES.values())
    assert fcos("MODEL.FCOS.IN_FEATURES", ["p4", "p5"], "MODEL.FCOS.SIZES_OF_INTEREST", [64]).strides == [16, 32]


@pytest.mark.parametrize(("number", "expected"), [(0, K), (K, K), (7, 7)])
def test_the_number_of_classes_defaults_to_that_of_the_roi_heads(number, expected):
    module = fcos("MODEL.FCOS.NUM_CLASSES", number)
    assert module.fcos_head.cls_logits.out_channels == module.num_classes == expected


def test_levels_with_different_channels_are_an_error():
    levels = shapes() | {"p5": ShapeSpec(channels=64, stride=32)}
    with pytest.raises(ConfigError, match="same number of channels"):
        build_proposal_generator(make_cfg(), levels)


def nested(key, value):
    """A config of one option, as a file of another project would give it."""
    for name in reversed(key.split(".")):
        value = CfgNode({name: value})
    return value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("MODEL.FCOS.NMS_TH", "MODEL.FCOS.NMS.IOU_THRESH"),
        ("MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION", "MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT"),
        ("MODEL.ROI_KEYPOINT_HEAD.ASSIGN_CRITERION", "MODEL.ROI_KEYPOINT_HEAD.LEVEL_ASSIGNMENT"),
    ],
)
def test_renamed_options_of_old_files_name_the_new_option(old, new):
    with pytest.raises(KeyError, match=new):
        make_cfg().merge_from_other_cfg(nested(old, 0.5))


@pytest.mark.parametrize("old", ["MODEL.FCOS.USE_RELU", "MODEL.FCOS.FPN_STRIDES", "MODEL.MOBILENET"])
def test_redundant_options_of_old_files_are_ignored(old):
    cfg = make_cfg()
    cfg.merge_from_other_cfg(nested(old, True))
    assert cfg == make_cfg()


def test_training_without_ground_truth_is_an_error():
    with pytest.raises(DataError, match='no "instances"'):
        fcos()(images(), features())


@pytest.mark.parametrize("wrong", [-1, K, 80])
@pytest.mark.parametrize(("own", "key"), [(0, "ROI_HEADS"), (K, "FCOS")])
def test_a_class_out_of_range_is_an_error(wrong, own, key):
    gt = [make_gt(BOXES), make_gt(BOXES, [0, wrong, 1])]
    with pytest.raises(DataError, match=rf"class {wrong}, but MODEL\.{key}\.NUM_CLASSES is {K}: .* 0\.\.{K - 1}$"):
        fcos("MODEL.FCOS.NUM_CLASSES", own)(images(), features(), gt)


def test_normalizers_are_averaged_over_processes_in_one_message(monkeypatch):
    """A second process without positives halves the normalizers of its twin."""
    messages, module = [], fcos()
    predictions = module.predict(features())
    targets = module.label(predictions, [make_gt(BOXES)] * 2)
    monkeypatch.setattr(source.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda x: messages.append(x.clone()))
    halved = module.losses(predictions, targets)
    num_positive = (targets.classes < K).sum().item()
    assert [m.tolist() for m in messages] == [pytest.approx([num_positive / 2, targets.centerness.sum().item() / 2])]
    monkeypatch.setattr(source.comm, "get_world_size", lambda: 1)
    alone = module.losses(predictions, targets)
    assert len(messages) == 1 and num_positive > 2
    for name in alone:
        assert halved[name].item() == pytest.approx(2 * alone[name].item(), rel=1e-5)


def test_a_single_process_sends_nothing():
    values = torch.tensor([3.0, 1.5])
    assert source.average_over_processes(values) is values


@pytest.mark.parametrize("kind", ["iou", "linear_iou", "giou"])
@pytest.mark.parametrize("center_sampling", [True, False])
def test_each_box_loss_and_sampling_trains(kind, center_sampling):
    module = fcos("MODEL.FCOS.LOSS.BOX_TYPE", kind, "MODEL.FCOS.CENTER_SAMPLE", center_sampling)
    _, losses = module(images(), features(), [make_gt(BOXES), make_gt(BOXES)])
    assert all(x.isfinite() and x > 0 for x in losses.values())


def test_without_center_sampling_there_are_more_positives():
    counts = []
    for center_sampling in (True, False):
        module = fcos("MODEL.FCOS.CENTER_SAMPLE", center_sampling)
        targets = module.label(module.predict(features()), [make_gt(BOXES)] * 2)
        counts.append((targets.classes < K).sum().item())
    assert 0 < counts[0] < counts[1]
