"""What decoding and the mask loss need beyond the networks' outputs, at 800 x 1333 pixels, where a map has 0.27 MB."""

from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks

from benchmarks.memory import peak_bytes
from benchmarks.postprocessing import MB
from benchmarks.solo_memory import CASES, IMAGE_SIZE, build, predictions

LIMIT_MB = 256


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "all_pass" in name])
def test_memory_is_bounded_however_many_cells_pass(name):
    """All maps would take 1,040 MB, and the decoupled products as much."""
    model, outputs = build(CASES[name]), predictions(CASES[name])
    results = []

    def infer():
        found = model.inference(outputs, [IMAGE_SIZE])[0]
        results.append(model.postprocess(found, outputs, 0, IMAGE_SIZE))

    peak_mb = peak_bytes(infer) / MB
    result_mb = results[0].pred_masks.numel() / MB
    assert len(results[0]) == 100
    assert result_mb < peak_mb < LIMIT_MB
    # of which up to 69 MB are outputs widened to float32, where they were not
    assert peak_mb - result_mb < (130 if "bfloat16" in name else 70)


def crowd(num_objects):
    """Ground truth of rectangles all over the image, of 8 to 300 pixels a side."""
    rng = torch.Generator().manual_seed(0)
    height, width = IMAGE_SIZE
    corners = torch.rand(num_objects, 2, generator=rng) * torch.tensor([width - 310.0, height - 310.0])
    boxes = torch.cat((corners, corners + torch.rand(num_objects, 2, generator=rng) * 292 + 8), dim=1)
    polygons = [[box[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for box in boxes]
    gt = Instances(IMAGE_SIZE, gt_boxes=Boxes(boxes), gt_masks=PolygonMasks(polygons))
    gt.gt_classes = torch.arange(num_objects) % 80
    return gt


@pytest.mark.slow
@pytest.mark.parametrize("name", ["typical", "decoupled_typical"])
def test_memory_of_the_mask_loss_does_not_grow_with_the_cells(name):
    """Every cell's map of the first level alone would take 430 MB, and as much again for its gradient."""
    model, peaks, terms = build(CASES[name]).train(), [], []
    for num_objects in (20, 400):
        outputs = predictions(CASES[name])
        inputs = [x.requires_grad_() for maps in outputs for x in maps]
        targets = model.label(outputs, [crowd(num_objects)])
        terms.append(targets.num_positive)

        def train(outputs=outputs, targets=targets):
            model.losses(outputs, targets)["loss_ins"].backward()

        peaks.append(peak_bytes(train) / MB)
        assert all(x.grad is not None for x in inputs[len(targets.masks) :])
    assert terms[1] > 1000 > 5 * terms[0]
    gradients_mb = sum(4 * x.numel() for x in inputs) / MB
    assert peaks[0] < peaks[1] < gradients_mb + 60  # a chunk of maps


@pytest.mark.slow
def test_memory_of_the_targets_is_that_of_the_reduced_masks():
    model, outputs, gt, results = build(CASES["typical"]), predictions(CASES["typical"]), crowd(400), []
    peak_mb = peak_bytes(lambda: results.append(model.label(outputs, [gt]))) / MB
    stacks = {id(x): x.numel() / MB for x in results[0].masks}
    assert len(stacks) == 3
    assert sum(stacks.values()) < 400 * 67200 * 1.2 / MB
    assert peak_mb < sum(stacks.values()) + 120  # full-size masks, 2**24 pixels at a time
