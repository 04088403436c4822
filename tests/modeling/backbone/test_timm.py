import sys

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.file_io import PathManager
from torch import nn

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.config import default_config, merge_config
from centermask_solo.model_zoo.timm_weights import find_timm_weights
from centermask_solo.modeling.backbone.timm import TimmBackbone
from centermask_solo.modeling.channels_last import to_channels_last
from centermask_solo.modeling.fusion import _is_norm, fuse_norms
from centermask_solo.utils.errors import ConfigError, MissingPackageError, WeightsError

timm = pytest.importorskip("timm")

ALL = ["res2", "res3", "res4", "res5"]
SYSTEMS = ["solov2_convnext_tiny_3x", "solo_resnet50_3x", "centermask_resnet50_3x", "fcos_mobilenetv3_large_3x"]
SYSTEMS += ["yolact_resnet50"]


def shake(model: nn.Module) -> int:
    """Give every norm statistics and parameters of its own; count them."""
    norms = [module for module in model.modules() if _is_norm(module)]
    for norm in norms:
        norm.running_mean.uniform_(-0.2, 0.2), norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5), norm.bias.data.uniform_(-0.2, 0.2)
    return len(norms)


def tiny(name: str = "timm/solov2_convnext_tiny_3x.yaml", model: str = "test_resnet", *overrides: object) -> CfgNode:
    cfg = default_config()
    merge_config(cfg, name, ["MODEL.TIMM.NAME", model, "MODEL.TIMM.ARGUMENTS", [], *overrides])
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    return cfg


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("test_resnet", {}),
        ("test_efficientnet", {}),
        ("convnext_atto", {}),
        ("regnetx_002", {}),
        ("swin_tiny_patch4_window7_224", {"strict_img_size": False, "embed_dim": 24, "num_heads": (1, 2, 4, 8)}),
    ],
)
def test_features_are_timms_own(name, arguments):
    """With strides, channels and layout as stated, also where timm's are (N, H, W, C)."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name, out_features=["res5", "res3"], norm="BN", arguments=arguments).eval()
    extractor = timm.create_model(name, features_only=True, **arguments).eval()
    extractor.load_state_dict(backbone.body.state_dict())
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        theirs, ours = dict(zip(extractor.feature_info.reduction(), extractor(x), strict=True)), backbone(x)
    assert list(ours) == ["res3", "res5"]
    for key, value in ours.items():
        shape = backbone.output_shape()[key]
        assert value.shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
        expected = theirs[shape.stride]
        assert torch.equal(value, expected.permute(0, 3, 1, 2) if name.startswith("swin") else expected)


def test_models_that_compute_with_values_are_built_without_the_meta_device(monkeypatch):
    """As RegNets do in some versions of timm; the random numbers are the same."""

    def build():
        torch.manual_seed(0)
        return TimmBackbone("test_resnet", out_features=["res3"])

    def create(name, **options):
        if torch.empty(()).device.type == "meta":
            raise NotImplementedError("aten::_unique2: no meta kernel")
        return create_model(name, **options)

    expected, create_model = build(), timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    found = build()
    assert found.output_shape() == expected.output_shape() and found.published_names == expected.published_names
    for name, value in found.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.parametrize("size", [(70, 100), (64, 96), (33, 31)])
def test_any_size_gives_maps_that_are_rounded_up(size):
    backbone = TimmBackbone("test_resnet", out_features=ALL).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, *size))
    for name, stride in zip(ALL, (4, 8, 16, 32), strict=True):
        assert maps[name].shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize(("name", "expected"), [("test_resnet", 15), ("test_efficientnet", 12), ("convnext_atto", 0)])
@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "SyncBN"])
def test_fused_norms_compute_the_same(name, expected, norm):
    """In float64, where rounding cannot hide a wrong formula, and with activations inside of norms."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name, out_features=ALL, norm=norm).double().eval()
    kinds = {type(module).__name__ for module in backbone.modules() if _is_norm(module)}
    assert all(("Frozen" in kind) is (norm == "FrozenBN") and ("Sync" in kind) is (norm == "SyncBN") for kind in kinds)
    assert shake(backbone) == expected
    x = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        before = backbone(x)
        assert fuse_norms(backbone) == expected
        assert not [module for module in backbone.modules() if _is_norm(module)]
        for key, value in backbone(x).items():
            assert (value - before[key]).abs().max() < 1e-10 * before[key].std()


def test_norms_ahead_of_convolutions_stay():
    torch.manual_seed(0)
    backbone = TimmBackbone("resnetv2_50", out_features=["res3"], norm="BN").double().eval()
    count = shake(backbone)
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        before = backbone(x)["res3"]
        assert 0 < fuse_norms(backbone) < count
        torch.testing.assert_close(backbone(x)["res3"], before, rtol=1e-9, atol=1e-9)


def test_channels_last_computes_the_same_in_training():
    torch.manual_seed(0)
    backbone = TimmBackbone("test_resnet", out_features=["res4"], norm="BN").train()
    x = torch.randn(2, 3, 64, 64)
    before = backbone(x)["res4"]
    after = to_channels_last(backbone)(x)["res4"]
    assert backbone.body.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "freeze_at", "last", "first"),
    [
        ("test_resnet", 1, "conv1.6", "layer1.0.conv1"),
        ("test_resnet", 2, "layer1.0.conv2", "layer2.0.conv1"),
        ("test_efficientnet", 2, "blocks.1.0.conv_pwl", "blocks.2.0.conv_exp"),
        ("convnext_atto", 1, "stem_1", "stages_0.blocks.0.conv_dw"),
        ("convnext_atto", 3, "stages_1.blocks.1.mlp.fc2", "stages_2.downsample.0"),
    ],
)
def test_freezing(name, freeze_at, last, first):
    backbone = TimmBackbone(name, out_features=ALL, norm="BN", freeze_at=freeze_at)
    trained = {key.removeprefix("body.").rpartition(".")[0]: p.requires_grad for key, p in backbone.named_parameters()}
    order = list(trained)
    assert trained[last] is False and trained[first] is True
    assert [trained[x] for x in order] == sorted(trained.values())
    norms = {name: module for name, module in backbone.body.named_modules() if _is_norm(module)}
    frozen = [isinstance(module, nn.BatchNorm2d) for module in norms.values()]
    assert frozen == sorted(frozen) and (not frozen or not frozen[0])


@pytest.mark.parametrize(
    ("builder", "levels"),
    [
        ("build_timm_backbone", ALL),
        ("build_timm_fpn_backbone", ["p2", "p3", "p4", "p5", "p6"]),
        ("build_fcos_timm_fpn_backbone", ["p2", "p3", "p4", "p5", "p6", "p7"]),
        ("build_timm_yolact_fpn_backbone", ["p2", "p3", "p4", "p5", "p6", "p7"]),
    ],
)
def test_builders(builder, levels):
    backbone = build_backbone(tiny("timm/solov2_convnext_tiny_3x.yaml", "test_resnet", "MODEL.BACKBONE.NAME", builder))
    assert list(backbone.train()(torch.randn(1, 3, 64, 64))) == levels == list(backbone.output_shape())
    shapes = backbone.output_shape()
    assert all(shapes[name].stride == 2 ** int(name[-1]) for name in levels)


def test_options_name_the_outputs_the_norms_and_further_arguments():
    options = (
        "MODEL.TIMM.OUT_FEATURES",
        ["res3"],
        "MODEL.TIMM.NORM",
        "BN",
        "MODEL.BACKBONE.NAME",
        "build_timm_backbone",
    )
    cfg = tiny("timm/solov2_convnext_tiny_3x.yaml", "test_resnet", *options)
    cfg.MODEL.TIMM.ARGUMENTS = [["stem_width", 24], ["stem_type", ""]]
    backbone = build_backbone(cfg)
    assert list(backbone.output_shape()) == ["res3"] and not hasattr(backbone.body, "layer3")
    assert isinstance(backbone.body.bn1, nn.BatchNorm2d) and backbone.body.conv1.kernel_size == (7, 7)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_detects_on_a_model_of_timm(system):
    model = build_model(tiny(f"timm/{system}.yaml")).eval()
    with torch.no_grad():
        (result,) = model([{"image": torch.randint(0, 256, (3, 64, 96)).float()}])
    assert result["instances"].image_size == (64, 96)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "convnext_atto"])
def test_weights_in_timms_names_fill_the_body(tmp_path, caplog, name):
    """Classifier and all; convnext_atto's stages have other names in the extractor."""
    torch.manual_seed(1)
    theirs = timm.create_model(name)
    shake(theirs)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = build_model(tiny("timm/solov2_convnext_tiny_3x.yaml", name, "MODEL.TIMM.NORM", "FrozenBN"))
    with caplog.at_level("INFO"):
        Checkpointer(model).load(str(tmp_path / "weights.pth"))
    assert f"weights.pth is {name} of timm" in caplog.text
    body, extractor = model.backbone.bottom_up.eval(), timm.create_model(name, features_only=True)
    names = dict(zip(extractor.state_dict(), theirs.state_dict(), strict=False))  # in the same order
    extractor.load_state_dict({here: theirs.state_dict()[there] for here, there in names.items()})
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(body(x)["res5"], extractor.eval()(x)[-1], rtol=1e-3, atol=1e-3)


def test_weights_that_do_not_fit_and_other_images_are_reported(tmp_path, caplog):
    state = timm.create_model("test_resnet").state_dict()
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "weights.pth")
    model = build_model(tiny())
    with pytest.raises(WeightsError, match=r"test_resnet of timm\) does not fit SOLOv2: it lacks .*layer2\.0\.conv1"):
        Checkpointer(model).load(str(tmp_path / "weights.pth"))
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    Checkpointer(model).load(str(tmp_path / "weights.pth"))
    assert "was trained on other images" in caplog.text and "MODEL.PIXEL_MEAN '[127.5, 127.5, 127.5]'" in caplog.text


def test_impossible_options_are_one_line():
    for options, message in (
        ({"name": "resnet5O"}, r"'resnet5O' is no model of timm .*the nearest one is resnet50"),
        ({"name": "test_resnet", "out_features": ["res6"]}, r"test_resnet gives res1, .*, res5, not res6"),
        ({"name": "test_resnet", "out_features": []}, "not nothing"),
        ({"name": "test_resnet", "arguments": {"no_such": 1}}, "cannot build test_resnet with these options.*no_such"),
        ({"name": "test_resnet", "norm": "GN"}, r"MODEL\.TIMM\.NORM must be one of"),
        ({"name": "hrnet_w18_small", "freeze_at": 1}, r"FREEZE_AT: the stages of hrnet_w18_small"),
    ):
        with pytest.raises(ConfigError, match=message):
            TimmBackbone(**{"out_features": ["res4"], **options})
    cfg = tiny("timm/solov2_convnext_tiny_3x.yaml", "test_resnet", "MODEL.FPN.IN_FEATURES", ["res2", "res4"])
    with pytest.raises(ConfigError, match="strides 4, 16: each must be twice"):
        build_backbone(cfg, ShapeSpec(channels=3))


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackageError, match="run 'pip install timm'"):
        build_backbone(tiny())


def test_an_address_stands_for_timms_weights(monkeypatch, tmp_path):
    asked = []

    class Hub:
        @staticmethod
        def hf_hub_download(repo_id, filename):
            asked.append((repo_id, filename))
            return str(tmp_path / "x")

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    assert PathManager.get_local_path("timm://convnext_tiny.fb_in22k") == str(tmp_path / "x")
    assert asked == [("timm/convnext_tiny.fb_in22k", "model.safetensors")]
    with pytest.raises(WeightsError, match=r"no such model; the nearest one is convnext_tiny"):
        find_timm_weights("convnext_tinny")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="pip install huggingface_hub"):
        find_timm_weights("convnext_tiny.fb_in22k")
