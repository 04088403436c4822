"""What of a file and of a model has no counterpart in the other: what is forgiven, what is named, what is an error."""

import re
import shlex

import pytest
import torch
from detectron2.config import CfgNode

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.utils.errors import WeightsError
from tests.checkpoint.sources import detectors
from tests.checkpoint.sources.backbones import tensors
from tests.checkpoint.sources.detectors import CenterMask, SOLOv2
from tests.checkpoint.sources.test_detectors import build
from tests.checkpoint.sources.test_yolact import published as yolact
from tests.modeling.models import SYSTEMS

pytestmark = pytest.mark.filterwarnings("ignore:.*meta parameter.*:UserWarning")
CLASS_LAYERS = {
    "FCOS": ["proposal_generator.fcos_head.cls_logits"],
    **{name: ["ins_head.cate_pred"] for name in ("SOLOv2", "Panoptic SOLOv2", "SOLO")},
    **{name: ["ins_head.cate_pred"] for name in ("Decoupled SOLO", "Decoupled SOLO Light")},
    "CenterMask": [
        "proposal_generator.fcos_head.cls_logits",
        "roi_heads.mask_head.predictor",
        "roi_heads.maskiou_head.maskiou",
    ],
    "YOLACT": ["head.class_logits", "sem_seg_head.predictor"],
    "YOLACT++": ["head.class_logits", "sem_seg_head.predictor", "mask_iou_head.predictor"],
}
# Of each source: its R-50 model as published, with any number of classes, and its config.
R50 = {
    "AdelaiDet": (lambda classes: detectors.adelaidet(classes=classes), "SOLOv2/solov2_R_50_3x"),
    "SOLO": (lambda classes: detectors.solo(SOLOv2(), classes), "SOLOv2/solov2_R_50_rgb_3x"),
    "mmdet": (lambda classes: detectors.mmdet(SOLOv2(), classes), "SOLOv2/solov2_R_50_rgb_3x"),
    "CenterMask2": (
        lambda classes: detectors.centermask(CenterMask("resnet50"), classes),
        "CenterMask/centermask_R_50_FPN_ms_3x",
    ),
    "YOLACT": (
        lambda classes: yolact("yolact_resnet50" if classes == 80 else "yolact_resnet50_pascal"),
        "YOLACT/yolact_resnet50",
    ),
}
LAYERS = dict.fromkeys(("AdelaiDet", "SOLO", "mmdet"), CLASS_LAYERS["SOLOv2"])
LAYERS |= {"CenterMask2": CLASS_LAYERS["CenterMask"], "YOLACT": CLASS_LAYERS["YOLACT"]}


def save(tmp_path, values, **metadata):
    path = str(tmp_path / "x.pth")
    torch.save({"model": values, **metadata}, path)
    return path


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def r50(name, classes=80):
    make, config = R50[name]
    return tensors(make(classes)), build(config)


@pytest.mark.parametrize("name", SYSTEMS)
def test_another_number_of_classes_starts_those_layers_anew(name, tmp_path, caplog):
    system = SYSTEMS[name]
    theirs = {key: torch.rand_like(value.float()) for key, value in system.model(num_classes=5).state_dict().items()}
    path = save(tmp_path, theirs, thing_classes=list("abcde"))
    model = system.model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Checkpointer(model).load(path)
    changed = [f"{layer}.{kind}" for layer in CLASS_LAYERS[name] for kind in ("weight", "bias")]
    for key, value in model.state_dict().items():
        expected = before[key] if key in changed else theirs[key].to(value.dtype)
        assert torch.equal(value, expected), key
    (line,) = warnings_of(caplog)
    named = line.partition(" was trained on another number of classes: ")[2].partition(" start from their init")[0]
    assert sorted(named.split(", ")) == sorted(CLASS_LAYERS[name])


@pytest.mark.parametrize("name", R50)
def test_another_number_of_classes_in_every_layout(name, tmp_path, caplog):
    values, model = r50(name, classes=20)
    path = save(tmp_path, values)
    Checkpointer(model).load(path)
    (line,) = warnings_of(caplog)
    assert all(layer in line for layer in LAYERS[name])
    with pytest.raises(WeightsError, match=r"x\.pth was trained on another number of classes than \w+ has here; '"):
        Checkpointer(model, complete=True).load(path)


@pytest.mark.parametrize("name", ["SOLO", "YOLACT"])
def test_other_images_are_an_error_where_the_layout_fixes_them(name, tmp_path, caplog):
    values, _ = r50(name)
    config = R50[name][1]
    model = build(config, "INPUT.FORMAT", "BGR")
    path = save(tmp_path, values)
    with pytest.raises(
        WeightsError, match=r"trained on other images than the config gives \(INPUT\.FORMAT BGR .*: give"
    ):
        Checkpointer(model, complete=True).load(path)
    Checkpointer(model).load(path)
    (line,) = warnings_of(caplog)
    caplog.clear()
    model = build(config, *shlex.split(line.split(": give ")[1]))  # as it says
    Checkpointer(model, complete=True).load(path)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("name", "published"), [("AdelaiDet", "1, 1, 1"), ("CenterMask2", "1, 1, 1"), ("mmdet", "58.3")]
)
@pytest.mark.parametrize("complete", [False, True])
def test_other_images_are_a_warning_where_people_train_on_them(name, published, complete, tmp_path, caplog):
    values, _ = r50(name)
    model = build(R50[name][1], "MODEL.PIXEL_STD", (57.375, 57.12, 48.395))
    Checkpointer(model, complete=complete).load(save(tmp_path, values))
    (line,) = warnings_of(caplog)
    assert f"MODEL.PIXEL_STD '[{published}" in line
    assert line.endswith("; unless these weights are not the published ones")


@pytest.mark.parametrize("kind", ["MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"])
def test_other_statistics_than_those_of_the_config_inside_the_file(kind, tmp_path):
    values, model = r50("AdelaiDet")
    recorded = CfgNode({"INPUT": {"FORMAT": "BGR"}, "MODEL": {"PIXEL_MEAN": [103.53, 116.28, 123.675]}})
    recorded.MODEL.PIXEL_STD = [1.0, 1.0, 1.0]
    Checkpointer(model, complete=True).load(save(tmp_path, values, config=recorded.dump()))
    recorded.merge_from_list([kind, [50.0, 60.0, 70.0]])
    with pytest.raises(WeightsError, match=rf"other images than the config gives .*: give .*{kind} '\[50, 60, 70\]'"):
        Checkpointer(model, complete=True).load(save(tmp_path, values, config=recorded.dump()))


@pytest.mark.parametrize("name", R50)
@pytest.mark.parametrize("extra", ["mystery.weight", "backbone.mystery.bias", "mask_head.mystery.weight"])
def test_an_unknown_entry_is_named(name, extra, tmp_path):
    values, model = r50(name)
    with pytest.raises(WeightsError, match=rf"x\.pth.* no place for .*{extra}"):
        Checkpointer(model).load(save(tmp_path, values | tensors({extra: (1,)})))


@pytest.mark.parametrize("name", R50)
def test_missing_entries_are_named(name, tmp_path):
    values, model = r50(name)
    outputs = re.compile(r"backbone\.fpn_output|neck\.fpn_convs|fpn\.pred_layers")  # here; there
    ours = sorted(key for key in model.state_dict() if outputs.match(key))
    values = {key: value for key, value in values.items() if not outputs.match(key)}
    named = f"{', '.join(ours[:2])} and {len(ours) - 2} more"
    with pytest.raises(WeightsError, match=rf"x\.pth \(.*\) does not fit \w+: it lacks {named}; give weights"):
        Checkpointer(model).load(save(tmp_path, values))


def test_other_shapes_are_named(tmp_path):
    values = tensors(detectors.mmdet(SOLOv2(convs=3, width=256)))
    there, here = r"\(256, 256, 3, 3\)", r"\(512, 256, 3, 3\)"
    message = rf"cate_tower\.0\.weight' is {there} in the file but {here} in the model, and \d+ other shapes differ; it"
    with pytest.raises(WeightsError, match=message):
        Checkpointer(build("SOLOv2/solov2_R_50_rgb_3x")).load(save(tmp_path, values))
    values = tensors(detectors.adelaidet() | {"ins_head.cate_pred.weight": (80, 256, 3, 3)})
    with pytest.raises(WeightsError, match=r"'ins_head\.cate_pred\.weight' is \(80, 256, 3, 3\) in the file"):
        Checkpointer(build("SOLOv2/solov2_R_50_3x")).load(save(tmp_path, values))


@pytest.mark.parametrize(("theirs", "ours"), [("YOLACT", "SOLO"), ("SOLO", "YOLACT"), ("AdelaiDet", "CenterMask2")])
def test_weights_of_another_system(theirs, ours, tmp_path):
    values, _ = r50(theirs)
    _, model = r50(ours)
    message = r"x\.pth \(.*\) does not fit \w+: it lacks .* there is no place for .* a config"
    with pytest.raises(WeightsError, match=message) as caught:
        Checkpointer(model).load(save(tmp_path, values))
    assert len(str(caught.value).replace(str(tmp_path), "")) < 500


def test_heads_that_only_one_has(tmp_path, caplog):
    heads = "roi_heads.mask_head, roi_heads.maskiou_head"
    options = ("MODEL.MASK_ON", False, "MODEL.CENTERMASK.MASK_IOU.ENABLED", False)
    values, model = r50("CenterMask2")
    boxes_only = build("CenterMask/centermask_R_50_FPN_ms_3x", *options)
    Checkpointer(boxes_only, complete=True).load(save(tmp_path, values))
    assert [f"does not build it: {heads}." in line for line in warnings_of(caplog)] == [True]
    caplog.clear()
    path = save(tmp_path, boxes_only.state_dict())
    Checkpointer(model).load(path)
    assert [f"lacks {heads}, which start from" in line for line in warnings_of(caplog)] == [True]
    with pytest.raises(WeightsError, match=r"lacks 27 of the 351 parameters of CenterMask .* meaningless"):
        Checkpointer(model, complete=True).load(path)
