"""Every system on a GPU, whose driver notices when the host waits for it; ``test_host_reads`` needs no GPU."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from detectron2.utils.events import EventStorage

from centermask_solo.modeling import slots
from centermask_solo.modeling.slots import Output, detect_in_slots
from tests.modeling.detections import EMPTY, assert_same, assert_same_segments, two_objects
from tests.modeling.gpu_waits import counted_waits, waits_refused
from tests.modeling.inputs import input_of
from tests.modeling.models import SYSTEMS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZES = [(96, 128), (90, 100), (70, 128)]  # all padded to the first one


@functools.cache
def original(name):
    return SYSTEMS[name].model().eval()


@pytest.fixture(params=SYSTEMS)
def model(request):
    return copy.deepcopy(original(request.param)).to("cuda")


@pytest.fixture(params=[1, 3])
def inputs(request):
    """Images on the host."""
    rng = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=rng) for size in SIZES]
    return [{"image": x} for x in images[: request.param]]


class Read(Exception):
    """The host is about to read."""


def test_the_host_waits_once_for_a_batch(model, inputs):
    with torch.no_grad():
        model(inputs)  # the first run initializes libraries
        with counted_waits() as waits:
            found = model(inputs)
    assert len(waits) == 1
    assert len(found) == len(inputs) and any(len(x["instances"]) for x in found)


def test_nothing_waits_before_the_one_read(model, inputs, monkeypatch):
    """If something does, its stack is in the error."""

    def read(*args):
        raise Read

    with torch.no_grad():
        model(inputs)
        monkeypatch.setattr(slots, "read_slots", read)
        with waits_refused(), pytest.raises(Read):
            model(inputs)


def test_detections_are_those_of_unlimited_shape(model, inputs):
    outputs = [Output.of(x) for x in inputs]
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        predictions = model.predict(images.tensor)
        given = (inputs, predictions, images.image_sizes)
        results = model.inference(predictions, images.image_sizes)
        expected = [model.postprocess(x, predictions, i, outputs[i].size) for i, x in enumerate(results)]
        if hasattr(model, "outputs_of_slots"):
            found, expected = model.outputs_of_slots(*given, outputs), model.outputs(expected, *given)
        else:
            found = detect_in_slots(model, predictions, images.image_sizes, outputs, model.device)
            found, expected = ([{"instances": y} for y in x] for x in (found, expected))
    for x, y in zip(found, expected, strict=True):
        assert x["instances"].scores.device.type == "cuda"
        assert_same(x["instances"].to("cpu"), y["instances"].to("cpu"))
        if "panoptic_seg" in y:
            assert_same_segments(x, y)


@pytest.mark.parametrize("name", ["FCOS", "CenterMask", "YOLACT", "YOLACT++"])
def test_a_training_step_waits_as_often_for_three_images_as_for_one(name):
    model = SYSTEMS[name].model().to("cuda")
    numbers = []
    for inputs in ([two_objects()], [two_objects(), two_objects((1, 1)), input_of(EMPTY)]):
        for _ in range(2):  # the first run initializes libraries
            with EventStorage(), counted_waits() as waits:
                sum(model(inputs).values()).backward()
        numbers.append(len(waits))
    assert numbers[0] == numbers[1] <= 6
