"""How often the host waits for the targets of a batch on a GPU, whatever the number of images and objects."""

from __future__ import annotations

import pytest
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.solo import meta_arch as solo
from tests.host_reads import cpu_as_gpu
from tests.modeling.detections import EMPTY, two_objects
from tests.modeling.inputs import input_of
from tests.modeling.models import SYSTEMS

SOLO_READS = ["aten::nonzero", "aten::nonzero", "Tensor.tolist"]
READS = {
    "SOLOv2": ["aten::nonzero", "Tensor.tolist"],
    "SOLO": SOLO_READS,
    "Decoupled SOLO": SOLO_READS,
    "Decoupled SOLO Light": SOLO_READS,
    "FCOS": ["Tensor.tolist"],
    "YOLACT": ["Tensor.tolist"],
    "YOLACT++": ["Tensor.tolist"],
}
BATCHES = {"one": [two_objects()], "three": [two_objects(), two_objects((1, 1)), input_of(EMPTY)]}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", READS)
def test_the_host_waits_for_few_figures_of_the_targets(name, batch, monkeypatch):
    model, inputs = SYSTEMS[name].model(), BATCHES[batch]
    gt_instances = [x["instances"] for x in inputs]
    # SOLO plans its masks on the host, where the loader leaves the ground truth.
    planned = []
    convert = solo.convert_ground_truth
    monkeypatch.setattr(solo, "convert_ground_truth", lambda *args: planned.append(convert(*args)) or planned[-1])
    with EventStorage():
        predictions = model.predict_for_training(model.preprocess_image(inputs).tensor)
        model.label(predictions, gt_instances)
        monkeypatch.setattr(solo, "convert_ground_truth", lambda *args: planned[0])
        with cpu_as_gpu() as reads:
            model.label(predictions, gt_instances)
    assert reads.reads == READS[name]
