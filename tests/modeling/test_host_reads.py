"""Prediction, from images in the memory of the host on, lets a GPU wait once for all images of one padded size."""

import functools

import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import ImageList

from tests.host_reads import fake_gpu
from tests.modeling.models import SYSTEMS

SIZES = [(96, 128), (90, 100), (70, 128)]
PADDED = 96, 128


@functools.cache
def original(name):
    return SYSTEMS[name].model().eval()


def pad(images, *args, **kwargs):
    """What ``ImageList.from_tensors`` does with tensors on the host, which have no values here."""
    sizes = [tuple(x.shape[-2:]) for x in images]
    padded = [F.pad(x, (0, PADDED[1] - w, 0, PADDED[0] - h)) for x, (h, w) in zip(images, sizes, strict=True)]
    return ImageList(torch.stack(padded), sizes)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("count", [1, 3])
def test_a_gpu_waits_once_for_a_batch(name, count, monkeypatch):
    monkeypatch.setattr(ImageList, "from_tensors", pad)
    inputs = [{"image": torch.zeros(3, *x, dtype=torch.uint8), "height": 50, "width": 70} for x in SIZES[:count]]
    with fake_gpu(original(name), limit=1) as (model, reads), torch.no_grad():
        found = model(inputs)
    assert len(found) == count and len(reads.reads) == 1
