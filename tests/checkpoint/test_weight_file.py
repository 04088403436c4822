"""The content of weight files under the names of this package."""

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.checkpoint import fit_weights, read_weight_file
from centermask_solo.checkpoint.sources.source import BGR_CENTERED
from centermask_solo.utils.errors import WeightsError
from tests.checkpoint.sources.backbones import tensors, torchvision_shapes
from tests.checkpoint.sources.test_yolact import published

CLASSES = {
    "SOLOv2/solov2_R_50_3x.yaml": "MODEL.SOLOV2.NUM_CLASSES",
    "CenterMask/centermask_lite_V_19_eSE_FPN_ms_4x.yaml": "MODEL.ROI_HEADS.NUM_CLASSES",
    "CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml": "MODEL.ROI_HEADS.NUM_CLASSES",
    "FCOS/fcos_R_50_FPN_1x.yaml": "MODEL.FCOS.NUM_CLASSES",
    "YOLACT/yolact_plus_resnet50.yaml": "MODEL.YOLACT.NUM_CLASSES",
    "baselines/mask_rcnn_R_50_FPN_1x.yaml": "MODEL.ROI_HEADS.NUM_CLASSES",
    "baselines/retinanet_R_50_FPN_1x.yaml": "MODEL.RETINANET.NUM_CLASSES",
}


def save(path, content):
    torch.save(content, path)
    return str(path)


@pytest.fixture
def state():
    """The names and shapes of a small SOLOv2 with 5 classes."""
    return empty_state("shapes/solov2_shapes.yaml", "MODEL.SOLOV2.NUM_CLASSES", 5)


def empty_state(config, *options):
    cfg = model_zoo.get_config(config)
    cfg.merge_from_list(list(options))
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).state_dict()


@pytest.mark.parametrize("config", CLASSES)
def test_number_of_classes_and_fit(config, tmp_path):
    """The number of classes is counted whichever program wrote the file."""
    path = save(tmp_path / "x.pth", {"model": empty_state(config, CLASSES[config], 7)})
    file = read_weight_file(path)
    assert file.num_classes == 7
    assert file.system.name == model_zoo.get_config(config).MODEL.META_ARCHITECTURE
    assert file.thing_classes is file.config is None
    fit = fit_weights(file, empty_state(config, CLASSES[config], 7))
    assert not any(fit._replace(weights={}))
    fit = fit_weights(file, empty_state(config))
    assert fit.class_layers and not fit.faults


@pytest.mark.parametrize(
    "metadata",
    [
        {"thing_classes": ["a", "b", "c", "d", "e"]},
        {"meta": {"CLASSES": ("a", "b", "c", "d", "e"), "epoch": 3}},
        {"meta": {"dataset_meta": {"classes": ("a", "b", "c", "d", "e")}}},
    ],
)
def test_class_names_are_found(metadata, state, tmp_path):
    path = save(tmp_path / "x.pth", {"state_dict": state, **metadata})
    assert read_weight_file(path).thing_classes == ["a", "b", "c", "d", "e"]


def test_file_of_this_package(state, tmp_path):
    config = model_zoo.get_config("shapes/solov2_shapes.yaml").dump()
    file = read_weight_file(save(tmp_path / "x.pth", {"model": state, "config": config, "thing_classes": ["a"]}))
    assert file.source.name == "SOLOv2 of this package"
    assert (file.config, file.thing_classes) == (config, ["a"])
    assert file.pixel_format.channels == "RGB" and file.format_is_certain
    assert str(file.backbone) == "MobileNetV2"


def test_file_without_config_is_what_the_names_say(state, tmp_path):
    file = read_weight_file(save(tmp_path / "x.pth", {"model": state, "config": "another project's"}))
    assert file.source.name == "SOLOv2 of AdelaiDet"
    assert file.config is None
    assert file.pixel_format == BGR_CENTERED and not file.format_is_certain


def test_bare_backbone(tmp_path):
    file = read_weight_file(save(tmp_path / "x.pth", tensors(torchvision_shapes("resnet50"))))
    assert (file.system, file.num_classes, file.num_entries, file.is_backbone) == (None, None, 320, True)
    assert len(file.weights) + len(file.dropped) == 320
    assert not fit_weights(file, empty_state("YOLACT/yolact_plus_resnet50.yaml")).faults
    assert fit_weights(file, empty_state("YOLACT/yolact_base.yaml")).faults


def test_what_the_source_does_not_know_is_named(tmp_path):
    path = save(tmp_path / "x.pth", tensors({**published("yolact_resnet50"), "mystery": (1,)}))
    with pytest.raises(WeightsError, match=r"x\.pth: YOLACT of the authors has no place for 1 entry .*: mystery$"):
        read_weight_file(path)


def test_unknown_file(tmp_path):
    path = save(tmp_path / "x.pth", {"somewhere.weight": torch.zeros(1)})
    with pytest.raises(
        ValueError, match=r"x\.pth \(with 'somewhere\.weight'\) is of no known source: give one of SOLOv2"
    ):
        read_weight_file(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_mapped_file_is_the_same(zipped, state, tmp_path):
    values = {key: torch.rand(value.shape) for key, value in state.items()}
    torch.save({"model": values}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    mapped, read = (read_weight_file(str(tmp_path / "x.pth"), mapped=mapped) for mapped in (True, False))
    assert mapped.weights.keys() == read.weights.keys()
    assert all(torch.equal(mapped.weights[key], read.weights[key]) for key in read.weights)
