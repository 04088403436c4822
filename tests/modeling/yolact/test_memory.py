"""What NMS and masks at image size need beyond the networks' outputs, for 100 detections at 1920 x 1080 pixels.

LVIS: for 300 at 640 x 480, of which each anchor's 1,203 probabilities alone take 93 MB.
"""

from __future__ import annotations

import pytest

from benchmarks.memory import peak_bytes
from benchmarks.postprocessing import MB
from benchmarks.yolact_memory import CASES, build, predictions

LIMIT_MB = 256


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "all_pass" in name])
def test_memory_is_bounded_however_many_anchors_pass(name):
    case = CASES[name]
    model, outputs = build(case), predictions(case)
    assert outputs.anchors.shape == (57_744 if case.plus else 19_248, 4)
    results = []

    def infer():
        found = model.inference(outputs, [model.input_size])[0]
        results.append(model.postprocess(found, outputs, 0, case.output_size))

    peak_mb = peak_bytes(infer) / MB
    found = results[0]
    assert len(found) == case.max_detections and found.has("mask_scores") is case.plus
    assert found.pred_masks.all() if case.whole_image else found.pred_masks.flatten(1).any(1).float().mean() > 0.9
    result_mb = found.pred_masks.numel() / MB
    assert result_mb < peak_mb < LIMIT_MB and (190 if case.max_detections == 100 else 90) < result_mb
