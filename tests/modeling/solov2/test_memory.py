"""What decoding, NMS and masks at image size need beyond the networks' outputs, at 800 x 1333 pixels."""

from __future__ import annotations

import pytest
import torch

from benchmarks.memory import peak_bytes
from benchmarks.postprocessing import MB
from benchmarks.solov2_memory import CASES, build, predictions

LIMIT_MB = 256


def test_every_allocation_counts():
    """Two of three tensors of 4 MB live at once, and sorting needs more than its two results."""

    def function():
        first = torch.zeros(MB)
        second = first + 1
        del first
        return second * 2

    assert peak_bytes(function) == pytest.approx(8 * MB, rel=1e-4)
    assert peak_bytes(lambda: torch.arange(MB).sort(stable=True, descending=True)) >= 3 * 8 * MB


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "all_pass" in name])
def test_memory_is_bounded_however_many_cells_pass(name):
    case = CASES[name]
    model, outputs = build(case), predictions(case)
    results = []

    def infer():
        found = model.inference(outputs, [case.image_size])[0]
        results.append(model.postprocess(found, outputs, 0, case.output_size))

    peak_mb = peak_bytes(infer) / MB
    result_mb = results[0].pred_masks.numel() / MB
    assert len(results[0]) == 100
    assert result_mb < peak_mb < LIMIT_MB
    assert peak_mb - result_mb < 120  # of which 69 MB are mask features widened to float32, where they were not


@pytest.mark.slow
def test_a_batch_needs_no_more_than_its_largest_image():
    """Nothing of the first image's masks remains while the second is decoded."""
    case = CASES["typical"]
    model, one = build(case), predictions(case)
    two = type(one)(
        [x.repeat(2, 1, 1, 1) for x in one[0]], [x.repeat(2, 1, 1, 1) for x in one[1]], one[2].repeat(2, 1, 1, 1)
    )
    single = peak_bytes(lambda: model.inference(one, [case.image_size]))
    assert peak_bytes(lambda: model.inference(two, [case.image_size] * 2)) < single + 2 * MB


@pytest.mark.slow
def test_fixed_shapes_need_the_same_memory_for_any_number_of_objects():
    peaks = []
    for name in ("typical", "all_pass"):
        case = CASES[name]
        model, outputs = build(case), predictions(case)

        def infer(model=model, outputs=outputs, case=case):
            found = model.detect(outputs, torch.tensor([case.image_size]), 100)
            return found, model.mask_probabilities(found, outputs)

        peaks.append(peak_bytes(infer) / MB)
    assert peaks[0] == pytest.approx(peaks[1], rel=0.01)
    assert max(peaks) < 200
