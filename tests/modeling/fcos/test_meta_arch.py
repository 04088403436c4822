import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils.events import EventStorage

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.modeling.fcos import FCOS, FCOSPredictions
from centermask_solo.utils.errors import DataError
from tests.modeling.centermask import helpers as centermask
from tests.modeling.centermask.helpers import BOXES, SIZE, make_gt, make_input
from tests.modeling.fcos.tiny import K, tiny_cfg, tiny_model

LOSSES = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}


def test_it_is_registered_under_its_name():
    assert META_ARCH_REGISTRY.get("FCOS") is FCOS


def test_the_verbs():
    model, inputs = tiny_model(), [make_input(make_gt(BOXES)), make_input(make_gt())]
    images, gt = model.preprocess_image(inputs), [x["instances"] for x in inputs]
    predictions = model.predict(images.tensor)
    assert isinstance(predictions, FCOSPredictions)
    losses = model.losses(predictions, model.label(predictions, gt))
    assert losses.keys() == model(inputs).keys() == LOSSES
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    found = model.inference(predictions, images.image_sizes)
    model.eval()
    with torch.no_grad():
        again = model.predict(images.tensor)
        assert all(
            torch.equal(x, y) for a, b in zip(predictions, again, strict=True) for x, y in zip(a, b, strict=True)
        )
        results = [x["instances"] for x in model(inputs)]
    for x, result in zip(found, results, strict=True):
        assert torch.equal(x.scores, result.scores) and len(result) > 0 and result.image_size == SIZE
        assert set(result.get_fields()) == {"pred_boxes", "scores", "pred_classes", "locations"}
        clipped = x.pred_boxes.clone()
        clipped.clip(SIZE)
        assert torch.equal(clipped.tensor, result.pred_boxes.tensor)


def test_the_limits_are_those_of_inference():
    model = tiny_model("MODEL.FCOS.POST_NMS_TOPK_TEST", 3, "MODEL.FCOS.POST_NMS_TOPK_TRAIN", 9)
    for mode in (True, False):
        model.train(mode)
        predictions = model.predict(torch.zeros(1, 3, *SIZE))
        assert len(model.inference(predictions, [SIZE])[0]) == 3
    model.test_max_detections = 5
    assert len(model.inference(predictions, [SIZE])[0]) == 5


def test_it_equals_the_fcos_of_a_centermask_whose_weights_it_loads(tmp_path):
    source = centermask.make_model("MODEL.MASK_ON", True).eval()
    torch.save({"model": source.state_dict()}, tmp_path / "centermask.pth")
    overrides = ["MODEL.FCOS.POST_NMS_TOPK_TEST", 50, "MODEL.FCOS.NUM_CLASSES", centermask.K]
    model = build_model(tiny_cfg(*overrides)).eval()
    assert {k for k in source.state_dict() if not k.startswith("roi_heads")} == set(model.state_dict())
    Checkpointer(model, complete=True).load(str(tmp_path / "centermask.pth"))
    x = make_input(height=200, width=300)
    with torch.no_grad():
        expected, found = source([x])[0]["instances"], model([x])[0]["instances"]
    assert len(found) == len(expected) > 0
    for name in ("scores", "pred_classes", "locations"):
        assert torch.equal(found.get(name), expected.get(name))
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


def test_a_centermask_starts_from_its_weights(tmp_path, caplog):
    torch.save({"model": tiny_model("MODEL.FCOS.NUM_CLASSES", centermask.K).state_dict()}, tmp_path / "fcos.pth")
    model = centermask.make_model()
    with caplog.at_level("WARNING"):
        Checkpointer(model).load(str(tmp_path / "fcos.pth"))
    assert model.proposal_generator.fcos_head.bbox_pred.bias.unique().tolist() == [2.0]


@pytest.mark.parametrize("wrong", [-1, K])
def test_a_class_out_of_range_is_an_error(wrong):
    with pytest.raises(DataError, match=rf"class {wrong}, but MODEL\.FCOS\.NUM_CLASSES is {K}"):
        tiny_model()([make_input(make_gt(BOXES, [0, wrong, 1]))])


def test_training_visualizes_boxes():
    with EventStorage() as storage:
        tiny_model("VIS_PERIOD", 1)([make_input(make_gt(BOXES))])
        assert [name for name, *_ in storage._vis_data] == ["Top: GT boxes; Bottom: 20 Highest Scoring Results"]


def test_double_precision_trains_and_predicts():
    model, inputs = tiny_model().double(), [make_input(make_gt(BOXES))]
    losses = model(inputs)
    sum(losses.values()).backward()
    assert all(x.isfinite() for x in losses.values())
    with torch.no_grad():
        assert len(model.eval()(inputs)[0]["instances"]) > 0
