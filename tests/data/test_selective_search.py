"""Selective search on the images of a dataset, also in several processes."""

import sys

import cv2
import numpy as np
import pytest

from centermask_solo.data.selective_search import search_dataset
from centermask_solo.ops import selective_search as module
from centermask_solo.utils.errors import DataError, MissingPackageError


def test_it_fails_before_it_begins_if_nothing_can_search(monkeypatch):
    monkeypatch.setattr(module, "uses_opencv", lambda: False)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackageError, match="selective search needs the package scikit-image"):
        search_dataset([{"file_name": "nowhere.png"}])


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_square_is_found_in_every_image(tmp_path, num_workers):
    pytest.importorskip("skimage")
    image = np.full((90, 120, 3), 30, np.uint8)
    image[20:60, 30:80] = (40, 200, 90)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path in paths:
        cv2.imwrite(path, image)
    results = list(search_dataset([{"file_name": path} for path in paths], num_workers, "single"))
    assert len(results) == 3
    for boxes, logits in results:
        assert boxes.shape == (len(logits), 4) and (np.diff(logits) < 0).all()
        assert np.abs(boxes - [30, 20, 80, 60]).max(axis=1).min() <= 2


def test_a_missing_image_is_named():
    pytest.importorskip("skimage")
    with pytest.raises(DataError, match=r"the image nowhere\.png is missing"):
        list(search_dataset([{"file_name": "nowhere.png"}]))
