"""Selective search, which only OpenCV's contrib build has."""

import cv2
import numpy as np
import pytest

from centermask_solo.data import selective_search as module
from centermask_solo.data.selective_search import selective_search
from centermask_solo.utils.errors import DataError, UserError


def test_selective_search_needs_the_contrib_build(monkeypatch):
    monkeypatch.setattr(module, "ximgproc", None)
    with pytest.raises(UserError, match=r"install opencv-contrib-python-headless .* or name a trained RPN with --rpn"):
        selective_search([])


@pytest.mark.skipif(module.ximgproc is None, reason="needs OpenCV's contrib build")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_selective_search_finds_a_square(tmp_path, num_workers):
    image = np.full((90, 120, 3), 30, np.uint8)
    image[20:60, 30:80] = (40, 200, 90)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path in paths:
        cv2.imwrite(path, image)
    results = list(selective_search([{"file_name": path} for path in paths], num_workers))
    assert len(results) == 3
    for boxes, logits in results:
        assert boxes.shape == (len(logits), 4) and (np.diff(logits) < 0).all()
        assert np.abs(boxes - [30, 20, 80, 60]).max(axis=1).min() <= 2
        assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes <= [120, 90, 120, 90]).all()


@pytest.mark.skipif(module.ximgproc is None, reason="needs OpenCV's contrib build")
def test_selective_search_names_a_missing_image():
    with pytest.raises(DataError, match=r"the image nowhere\.png is missing"):
        list(selective_search([{"file_name": "nowhere.png"}]))
