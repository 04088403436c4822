"""Batches of mixed sizes in inference."""

import pytest
import torch
from torch import nn

from centermask_solo.modeling.batches import run_by_padded_size
from tests.modeling.detections import assert_same, inference_inputs
from tests.modeling.models import SYSTEMS

SIZES = [(64, 64), (33, 40), (64, 65), (40, 33), (64, 64), (10, 64)]


def calls_for(model):
    calls = []

    def run(indices):
        calls.append(indices)
        return [SIZES[i] for i in indices]

    assert run_by_padded_size(run, [{"image": torch.zeros(3, *size)} for size in SIZES], model) == SIZES
    return calls


@pytest.mark.parametrize(
    "constraints, calls",
    [
        ({}, [[0, 1, 3, 4], [2], [5]]),
        ({"size_divisibility": 8}, [[0, 4], [1, 3], [2], [5]]),
        ({"square_size": 96}, [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_images_of_one_padded_size_run_together(monkeypatch, constraints, calls):
    model = SYSTEMS["FCOS"].model()
    monkeypatch.setattr(type(model.backbone), "padding_constraints", constraints)
    assert model.backbone.size_divisibility == 32
    assert calls_for(model) == calls


def test_a_model_that_resizes_runs_once_and_one_that_does_not_pad_once_per_size():
    assert calls_for(SYSTEMS["YOLACT"].model()) == [[0, 1, 2, 3, 4, 5]]
    assert calls_for(nn.Linear(1, 1)) == [[0, 4], [1], [2], [3], [5]]


def test_nothing_runs_without_images():
    assert run_by_padded_size(lambda indices: pytest.fail("called"), [], nn.Linear(1, 1)) == []


def test_known_boxes_are_completed_alike_in_a_batch():
    """As test-time augmentation does: masks of boxes found before, from images of several sizes."""
    model = SYSTEMS["CenterMask"].model("MODEL.FCOS.SCORE_THRESH_TEST", 0.01).eval()
    inputs = inference_inputs(*(input_of_noise(size) for size in [(96, 128), (40, 70), (60, 50)]))
    with torch.no_grad():
        given = [x[:10] for x in model.inference(inputs, do_postprocess=False)]
        together = model.inference(inputs, given)
        for x, boxes, expected in zip(inputs, given, together, strict=True):
            assert len(expected["instances"]) > 1
            assert_same(model.inference([x], [boxes])[0]["instances"], expected["instances"], scores=2e-5, ious=0.999)


def input_of_noise(size):
    return {"image": torch.rand(3, *size, generator=torch.Generator().manual_seed(size[0])) * 255}
