"""Pasting without reads on the host."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import paste_masks_in_image

from centermask_solo.ops.paste import paste_masks
from tests.host_reads import HostReads


@pytest.mark.parametrize("chunk_bytes", [2**25, 1])
def test_pixels_are_those_of_detectron2(chunk_bytes, monkeypatch):
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", chunk_bytes)
    masks = torch.rand(40, 28, 28)
    masks[:3] = 1.0
    corners = torch.rand(40, 2) * torch.tensor([130.0, 90.0])
    boxes = torch.cat([corners, corners + 0.3 + torch.rand(40, 2) ** 3 * 120], dim=1)
    boxes[0] = torch.tensor([10.0, 20.0, 50.0, 60.0])  # edges between pixels
    boxes[1] = torch.tensor([10.5, 20.5, 50.5, 60.5])  # and on pixel centers, where a mask of ones is 1/2
    boxes[2:4] = torch.tensor([[-20.0, -10, 30, 40], [100, 60, 200, 180]])  # beyond the image
    with HostReads(0):
        pasted = paste_masks(masks, boxes, (100, 140))
    assert torch.equal(pasted, paste_masks_in_image(masks, boxes, (100, 140)))
    assert pasted[0].sum() == 1600 and pasted.flatten(1).any(dim=1).sum() > 30


def test_no_masks():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 20)).shape == (0, 10, 20)
