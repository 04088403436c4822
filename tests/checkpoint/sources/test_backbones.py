"""ImageNet files: known by one source each, every entry used or named, and filling what starts from them."""

from pathlib import Path, PurePosixPath

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.checkpoint import SOURCES, Checkpointer
from centermask_solo.checkpoint.backbones import OFFSETS
from centermask_solo.checkpoint.sources import detectron2, mobilenetv2, source, timm, torchvision, vovnet, yolact
from centermask_solo.config import config_dir
from centermask_solo.utils.errors import WeightsError
from tests.checkpoint.sources import backbones
from tests.checkpoint.sources.backbones import (
    caffe2_resnet,
    in_detectron2_words,
    tensors,
    timm_vovnet,
    torchvision_shapes,
)
from tests.checkpoint.sources.test_yolact import darknet_entries

X101 = {"depth": 101, "groups": 32, "width": 8}
PREFIX = "backbone.bottom_up."
PUBLISHED = {
    "resnet50d": (torchvision.SOURCE_D, backbones.resnet_d_shapes),
    "resnet18": (torchvision.SOURCE, lambda: torchvision_shapes("resnet18")),
    "resnet34": (torchvision.SOURCE, lambda: torchvision_shapes("resnet34")),
    "resnet50": (torchvision.SOURCE, lambda: torchvision_shapes("resnet50")),
    "resnet101": (torchvision.SOURCE, lambda: torchvision_shapes("resnet101")),
    "resnet152": (torchvision.SOURCE, lambda: torchvision_shapes("resnet152")),
    "resnext50_32x4d": (torchvision.SOURCE, lambda: torchvision_shapes("resnext50_32x4d")),
    "resnext101_32x8d": (torchvision.SOURCE, lambda: torchvision_shapes("resnext101_32x8d")),
    "resnext101_64x4d": (torchvision.SOURCE, lambda: torchvision_shapes("resnext101_64x4d")),
    "MSRA R-50": (detectron2.CAFFE2, lambda: caffe2_resnet(50)),
    "MSRA R-101": (detectron2.CAFFE2, lambda: caffe2_resnet(101)),
    "FAIR X-101": (detectron2.CAFFE2, lambda: caffe2_resnet(**X101, classifier="pred")),
    "torchvision R-50.pkl": (detectron2.SOURCE, lambda: in_detectron2_words(torchvision_shapes("resnet50"))),
    **{body: (vovnet.SOURCE, lambda body=body: backbones.vovnet(body)) for body in backbones.VOVNETS},
    "V-39 without prefix": (vovnet.SOURCE, lambda: backbones.vovnet("V-39-eSE", "")),
    "MobileNetV2": (mobilenetv2.SOURCE, lambda: backbones.mobilenetv2(PREFIX)),
    "MobileNetV2 without prefix": (mobilenetv2.SOURCE, backbones.mobilenetv2),
    "mobilenet_v2": (mobilenetv2.TORCHVISION, lambda: torchvision_shapes("mobilenet_v2")),
    "ese_vovnet19b_dw": (timm.SOURCE, lambda: timm_vovnet("V-19-dw-eSE")),
    "ese_vovnet39b": (timm.SOURCE, lambda: timm_vovnet("V-39-eSE")),
    "ese_vovnet99b": (timm.SOURCE, lambda: timm_vovnet("V-99-eSE")),
    "darknet53": (yolact.DARKNET, darknet_entries),
}
# What MODEL.WEIGHTS of the configs names.
FILES = {
    "resnet50d_ra2-464e36ba.pth": "resnet50d",
    "MSRA/R-50.pkl": "MSRA R-50",
    "MSRA/R-101.pkl": "MSRA R-101",
    "FAIR/X-101-32x8d.pkl": "FAIR X-101",
    "resnet18-f37072fd.pth": "resnet18",
    "resnet34-b627a593.pth": "resnet34",
    "resnet50-0676ba61.pth": "resnet50",
    "resnet101-63fe2227.pth": "resnet101",
    "resnext101_64x4d-173b62eb.pth": "resnext101_64x4d",
    "vovnet19_ese_slim_dw_detectron2.pth": "V-19-slim-dw-eSE",
    "vovnet19_ese_slim_detectron2.pth": "V-19-slim-eSE",
    "vovnet19_ese_detectron2.pth": "V-19-eSE",
    "vovnet39_ese_detectron2.pth": "V-39-eSE",
    "vovnet57_ese_detectron2.pth": "V-57-eSE",
    "vovnet99_ese_detectron2.pth": "V-99-eSE",
    "mobilenet_v2_detectron2.pth": "MobileNetV2",
    "mobilenet_v2_imagenet.pth": "MobileNetV2",
}
CONFIGS = sorted(
    str(path.relative_to(config_dir())) for path in config_dir().rglob("*.yaml") if not path.name.startswith("Base")
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_source_knows_it_and_has_a_place_for_every_entry(name):
    expected, shapes = PUBLISHED[name]
    values = tensors(shapes())
    assert [found.name for found in SOURCES if found.recognizes(values)] == [expected.name]
    weights, dropped = expected.translate(values)
    added = sum(not value.is_meta for value in weights.values())
    assert len(weights) - added + len(dropped) == len(values)
    assert not any(key.startswith("backbone.") for key in weights)
    reasons = {source.BATCH_COUNTER.reason, source.CLASSIFIER.reason}
    assert set(dropped.values()) <= reasons | {detectron2.STEM_BIAS.reason, mobilenetv2.LAST_LAYER.reason}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_has_no_place_is_named(name):
    found, shapes = PUBLISHED[name]
    with pytest.raises(WeightsError, match=r"no place for 2 entries of the file: mystery, stage9\.weight$"):
        found.translate({**tensors(shapes()), "mystery": torch.zeros(1), "stage9.weight": torch.zeros(1)})


@pytest.mark.parametrize(
    ("body", "millions"),
    [
        ("V-19-slim-dw-eSE", 1.390),
        ("V-19-slim-eSE", 2.658),
        ("V-19-eSE", 10.190),
        ("V-39-eSE", 25.205),
        ("V-57-eSE", 41.487),
        ("V-99-eSE", 69.578),
    ],
)
def test_description_of_vovnets_agrees_with_the_published_sizes(body, millions):
    assert round(sum(v.numel() for v in tensors(backbones.vovnet(body)).values()) / 1e6, 3) == millions


def published_file(weights):
    """The name in ``PUBLISHED`` of what a config starts from; None if from nothing, or from the authors' DarkNet."""
    path = PurePosixPath(weights)
    if weights.startswith("timm://"):
        return weights.removeprefix("timm://")
    return FILES.get(path.name) or FILES.get("/".join(path.parts[-2:])) if weights else None


def of_timm(name):
    """Names and shapes of a model of timm, which is on the meta device."""
    state = pytest.importorskip("timm").create_model(name).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.filterwarnings("ignore:.*meta parameter.*:UserWarning")
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_is_filled_by_what_it_starts_from(config, tmp_path, caplog):
    if config.startswith("timm/"):
        pytest.importorskip("timm")
    cfg = model_zoo.get_config(config)
    name = "darknet53" if config == "YOLACT/yolact_darknet53.yaml" else published_file(cfg.MODEL.WEIGHTS)
    if name is None:
        assert not cfg.MODEL.WEIGHTS
        pytest.skip("starts from nothing")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
        shapes = of_timm(name) if "timm" in cfg.MODEL.BACKBONE.NAME else PUBLISHED[name][1]()
    for name_here, numbers in (("pixel_mean", cfg.MODEL.PIXEL_MEAN), ("pixel_std", cfg.MODEL.PIXEL_STD)):
        setattr(model, name_here, torch.tensor(numbers).view(-1, 1, 1))  # what is not compared by shape alone
    path = Path(tmp_path, "weights.pth")
    torch.save(tensors(shapes), path)
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(path))
    keys = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    body = [key for key in keys if key.startswith(PREFIX)]
    body = body or [key for key in keys if key.startswith("backbone.")]  # R-CNN has no pyramid on top of it
    filled = [key for key in body if not OFFSETS.fullmatch(key)]
    assert filled and f"fills {len(filled)} parameters of the backbone" in caplog.text
    assert "other images" not in caplog.text
