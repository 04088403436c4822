import torch
import torchvision

from centermask_solo.checkpoint.sources.mobilenetv2 import LAST_LAYER, SOURCE, TORCHVISION
from centermask_solo.modeling.backbone.mobilenet import MobileNetV2
from tests.checkpoint.sources.backbones import mobilenetv2, tensors

OUTPUTS = {"res2": 3, "res3": 6, "res4": 13, "res5": 17}


def test_names_and_shapes_are_those_of_the_model():
    with torch.device("meta"):
        ours = MobileNetV2(out_features=["res5"]).state_dict()
    assert mobilenetv2() == {key: tuple(value.shape) for key, value in ours.items()}


def test_layers_behind_the_last_block_are_dropped():
    values = tensors(mobilenetv2())
    behind = {"features.18.0.weight", "features.18.1.bias", "conv.0.weight", "conv.1.running_var"}
    classifier = {"classifier.weight", "classifier.1.bias"}
    weights, dropped = SOURCE.translate({**values, **dict.fromkeys(behind | classifier, torch.zeros(1))})
    assert weights.keys() == values.keys()
    assert {key for key, reason in dropped.items() if reason == LAST_LAYER.reason} == behind
    assert dropped.keys() == behind | classifier


def test_features_are_those_of_torchvision():
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    ours = MobileNetV2(out_features=list(OUTPUTS)).eval()
    ours.load_state_dict(TORCHVISION.translate(theirs.state_dict()).weights, strict=True)
    x = torch.randn(1, 3, 97, 130)
    with torch.no_grad():
        found = ours(x)
        for name, last in OUTPUTS.items():
            expected = theirs.features[: last + 1](x)
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5 * expected.std().item())
