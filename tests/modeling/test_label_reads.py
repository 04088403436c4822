"""How often the host waits in a training step on a GPU, whatever the number of images and objects."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.solo import meta_arch as solo
from tests.host_reads import cpu_as_gpu, fake_gpu
from tests.modeling.detections import EMPTY, two_objects
from tests.modeling.inputs import input_of
from tests.modeling.models import SYSTEMS

SOLO_READS = ["aten::nonzero", "aten::nonzero", "Tensor.tolist"]
READS = {
    "SOLOv2": ["aten::nonzero", "Tensor.tolist"],
    "Panoptic SOLOv2": ["aten::nonzero", "Tensor.tolist"],
    "SOLO": SOLO_READS,
    "Decoupled SOLO": SOLO_READS,
    "Decoupled SOLO Light": SOLO_READS,
    "FCOS": ["Tensor.tolist"],
    # Classes, proposals, matches, and objects of the RoIs; a GPU waits for the second and the third only, because the
    # others are on the host.
    "CenterMask": ["Tensor.tolist"] * 4,
    "YOLACT": ["Tensor.tolist"],
    "YOLACT++": ["Tensor.tolist"],
}
# Of the losses. The accuracy of CenterMask's masks is logged; YOLACT's masks are compared inside boxes, their IoU is
# learned from large ones.
READS_OF_LOSSES = {
    "FCOS": ["aten::nonzero"],
    "CenterMask": ["Tensor.tolist", "aten::nonzero"],
    "YOLACT": ["Tensor.tolist"],
    "YOLACT++": ["Tensor.tolist"] * 2,
}
BATCHES = {"one": [two_objects()], "three": [two_objects(), two_objects((1, 1)), input_of(EMPTY)]}


@pytest.fixture
def plan_on_the_host(monkeypatch):
    """A function that lets a step find what it has made of inputs before, on the host: padded images, masks of SOLO."""

    def plan(model, inputs):
        planned = []
        convert = solo.convert_ground_truth
        monkeypatch.setattr(solo, "convert_ground_truth", lambda *args: planned.append(convert(*args)) or planned[-1])
        images = model.preprocess_image(inputs)
        given = model.ground_truth(inputs) if hasattr(model, "ground_truth") else ([x["instances"] for x in inputs],)
        predictions = getattr(model, "predict_for_training", model.predict)(images.tensor)
        model.label(predictions, *given)
        monkeypatch.setattr(model, "preprocess_image", lambda _: images)
        monkeypatch.setattr(model, "ground_truth", lambda _: given, raising=False)
        monkeypatch.setattr(solo, "convert_ground_truth", lambda *args: planned[0])
        return predictions, given

    return plan


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", READS)
def test_the_host_waits_for_few_figures_of_the_targets(name, batch, plan_on_the_host):
    model = SYSTEMS[name].model()
    with EventStorage():
        predictions, given = plan_on_the_host(model, BATCHES[batch])
        with cpu_as_gpu() as reads:
            model.label(predictions, *given)
    assert reads.reads == READS[name]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", READS)
def test_the_host_waits_for_few_figures_of_a_step(name, batch, plan_on_the_host):
    model, inputs = SYSTEMS[name].model(), BATCHES[batch]
    with EventStorage():
        plan_on_the_host(model, inputs)
        with cpu_as_gpu() as reads:
            losses = model(inputs)
            sum(losses.values()).backward()
    assert reads.reads == READS[name] + READS_OF_LOSSES.get(name, [])


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", ["YOLACT", "YOLACT++"])
def test_the_host_does_not_wait_for_copies_of_the_ground_truth(name, batch):
    """Of images whose pixels are on the device; without gradients, which need a GPU."""
    original, inputs = SYSTEMS[name].model(), BATCHES[batch]
    images = original.preprocess_image(inputs)
    with fake_gpu(original) as (model, reads), EventStorage():
        images.tensor = torch.empty(images.tensor.shape, device="cuda")
        model.preprocess_image = lambda _: images
        model(inputs)
    assert reads.reads == READS[name] + READS_OF_LOSSES[name]
