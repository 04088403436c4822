import pickle

import numpy as np
import pytest
import torch

from centermask_solo.checkpoint import find_source, read_weights
from centermask_solo.checkpoint.sources.detectron2 import CAFFE2, SOURCE
from centermask_solo.checkpoint.sources.source import BGR_CENTERED, RGB_STANDARDIZED
from centermask_solo.checkpoint.sources.torchvision import SOURCE as TORCHVISION
from tests.checkpoint.sources.backbones import caffe2_resnet, in_detectron2_words, tensors, torchvision_shapes


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        (caffe2_resnet(50), "resnet50"),
        (caffe2_resnet(101), "resnet101"),
        (caffe2_resnet(101, groups=32, width=8), "resnext101_32x8d"),
    ],
    ids=["R-50", "R-101", "X-101-32x8d"],
)
def test_caffe2_names_lead_where_torchvision_names_lead(theirs, same):
    found = {key: value.shape for key, value in CAFFE2.translate(tensors(theirs)).weights.items()}
    expected = TORCHVISION.translate(tensors(torchvision_shapes(same))).weights
    assert found == {key: value.shape for key, value in expected.items()}


def test_older_names_of_normalizations():
    translated = CAFFE2.translate(
        dict.fromkeys(
            ("res_conv1_bn_s", "res_conv1_bn_b", "res_conv1_bn_rm", "res_conv1_bn_riv", "res3_0_branch1_gn_s", "lr"),
            torch.zeros(1),
        )
    )
    names = ("weight", "bias", "running_mean", "running_var")
    assert list(translated.weights) == [f"stem.conv1.norm.{name}" for name in names] + ["res3.0.shortcut.norm.weight"]
    assert list(translated.dropped) == ["lr"]


def test_images_that_are_expected():
    resnet, resnext = (CAFFE2.pixel_format(tensors(caffe2_resnet(101, groups=g, width=8))) for g in (1, 32))
    assert resnet == BGR_CENTERED
    assert (resnext.channels, resnext.mean, resnext.std) == ("BGR", BGR_CENTERED.mean, (57.375, 57.12, 58.395))
    converted = tensors(in_detectron2_words(torchvision_shapes("resnet18")))
    assert SOURCE.pixel_format(converted) == RGB_STANDARDIZED
    del converted["stem.fc.weight"]  # then anybody may have made it
    assert SOURCE.pixel_format(converted) is None


def test_a_pkl_is_read_and_known(tmp_path):
    arrays = {key: np.zeros(shape, np.float32) for key, shape in caffe2_resnet(50).items()}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": {**arrays, "conv1_w_momentum": np.zeros(1)}}))
    values, _ = read_weights(str(tmp_path / "R-50.pkl"))
    assert find_source(values) is CAFFE2


def test_a_detector_of_caffe2_is_no_backbone():
    values = tensors({**caffe2_resnet(50), "conv_rpn_fpn2_w": (256, 256, 3, 3), "bbox_pred_w": (324, 1024)})
    assert find_source(values) is None
