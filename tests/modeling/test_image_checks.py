"""Every system refuses, in one line, what cannot be an image, also from Detectron2's own predictor."""

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from centermask_solo.utils.errors import DataError
from tests.modeling.models import SYSTEMS

RGB = torch.full((3, 32, 40), 100.0)
NAMES = [x for x in SYSTEMS if x in ("SOLOv2", "CenterMask", "YOLACT", "FCOS")]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return SYSTEMS[request.param].model().eval()


FAULTS = [
    (None, r"is a NoneType: give a tensor \(3, H, W\)"),
    (np.zeros((3, 32, 40)), r"is a ndarray: give a tensor"),
    (RGB[:1], r"is a tensor of \(1, 32, 40\): give \(3, H, W\), to a predictor an array \(H, W, 3\)"),
    (torch.cat([RGB, RGB[:1]]), r"is a tensor of \(4, 32, 40\)"),
    (RGB[0], r"is a tensor of \(32, 40\)"),
    (RGB[None], r"is a tensor of \(1, 3, 32, 40\)"),
    (RGB[:, :0], r"\(3, 0, 40\), which has no pixels"),
    (RGB * 257, r"has values from 2.57e\+04 to 2.57e\+04: scale them to 0 to 255"),
    (RGB - 200, r"has values from -100 to -100: scale"),
    (RGB / 255, r"has values from 0.3922 to 0.3922: scale"),
]


@pytest.mark.parametrize("image, message", FAULTS)
def test_faults(model, image, message):
    with pytest.raises(DataError, match=message) as caught:
        model([{"image": RGB, "file_name": "a.png"}, {"image": image, "file_name": "b.png"}])
    assert str(caught.value).startswith("b.png ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image", [RGB, RGB.byte(), RGB.byte() // 100, RGB * 0, (RGB > 1).float(), RGB * 2.55, RGB * torch.nan]
)
def test_images(model, image):
    with torch.no_grad():
        (output,) = model([{"image": image}])
    assert output["instances"].image_size == (32, 40)


def test_values_from_0_to_1_are_right_for_a_model_that_subtracts_less():
    model = SYSTEMS["SOLOv2"].model("MODEL.PIXEL_MEAN", [0.5] * 3, "MODEL.PIXEL_STD", [0.2] * 3).eval()
    with torch.no_grad():
        assert len(model([{"image": RGB / 255}])) == 1


@pytest.fixture(scope="module")
def predictor():
    return DefaultPredictor(SYSTEMS["SOLOv2"].cfg("MODEL.WEIGHTS", "", "INPUT.FORMAT", "BGR"))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((20, 30, 1), np.float32),
        np.full((20, 30, 3), 0.5, np.float32),
        np.full((20, 30, 3), 4000.0),
        np.zeros((3, 20, 30), np.float32),
    ],
)
def test_default_predictor(predictor, image):
    with pytest.raises(ValueError, match=r"^the image (is a tensor of|has values from) ") as caught:
        predictor(image)
    assert "\n" not in str(caught.value)
