"""What NMS and masks at image size need beyond the networks' outputs, for 100 detections at 1920 x 1080 pixels."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from benchmarks.memory import peak_bytes
from centermask_solo.modeling.yolact.meta_arch import YOLACTPredictions
from tests.modeling.yolact.tiny import yolact_cfg

MB = 10**6
LIMIT_MB = 256
SIZES = tuple((n, n) for n in (69, 35, 18, 9, 5))


@pytest.mark.slow
@pytest.mark.parametrize("plus", [False, True], ids=["YOLACT", "YOLACT++"])
def test_memory_is_bounded_however_many_anchors_pass(plus):
    ratio = 2 ** (1 / 3)
    sizes = [[s * ratio**i for i in range(3 if plus else 1)] for s in (24, 48, 96, 192, 384)]
    overrides = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32]
    overrides += ["MODEL.ANCHOR_GENERATOR.SIZES", sizes, "MODEL.YOLACT.MASK_IOU_ON", plus]
    model = build_model(yolact_cfg(*overrides)).eval()
    rng = torch.Generator().manual_seed(0)
    anchors = model._anchors_of(SIZES, torch.device("cpu"))
    assert len(anchors) == (57_744 if plus else 19_248)
    logits = torch.randn(1, len(anchors), 81, generator=rng)
    logits[:, :, 0] -= 100  # every anchor passes, with all its classes
    deltas = torch.randn(1, len(anchors), 4, generator=rng)
    coefficients = torch.rand(1, len(anchors), 32, generator=rng)
    predictions = YOLACTPredictions(
        logits, deltas, coefficients, torch.rand(1, 32, 138, 138, generator=rng), anchors, torch.zeros(1, 80, 0, 0)
    )
    results = []

    def infer():
        found = model.inference(predictions, [(550, 550)])[0]
        results.append(model.postprocess(found, predictions, 0, (1080, 1920)))

    peak_mb = peak_bytes(infer) / MB
    assert len(results[0]) == 100
    result_mb = results[0].pred_masks.numel() / MB
    assert result_mb > 190
    assert results[0].pred_masks.any()
    assert result_mb < peak_mb < LIMIT_MB
