"""The positions of resized pixels are those of PyTorch in a file of OpenVINO that has been saved and read."""

import numpy as np
import pytest
import torch
from torch import nn

from centermask_solo.ops.resize import resize_bilinear

openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

STEP = 255  # between neighboring pixels


class Resized(nn.Module):
    def forward(self, images):
        return resize_bilinear(images.permute(0, 3, 1, 2).float(), (550, 550))


def test_a_saved_file_divides_as_pytorch_does(tmp_path):
    sizes = {0: torch.export.Dim("N", min=1), 1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    sample = torch.zeros(2, 40, 50, 3, dtype=torch.uint8)
    program = torch.export.export(Resized(), (sample,), dynamic_shapes=(sizes,), strict=False)
    openvino.save_model(openvino.convert_model(program), tmp_path / "model.xml", compress_to_fp16=False)
    model = openvino.Core().compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in ((197, 131), (320, 427), (87, 113)):
        images = STEP * (np.indices((1, height, width, 3)).sum(axis=0) % 2).astype(np.uint8)
        found = torch.from_numpy(model(images)[0])
        # A position that is off by its last bit would change pixels by more than 1e-3.
        torch.testing.assert_close(found, Resized()(torch.from_numpy(images)), rtol=0, atol=1e-4)
