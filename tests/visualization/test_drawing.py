"""Instances drawn over an image."""

import numpy as np

from centermask_solo.visualization import drawing
from centermask_solo.visualization.drawing import class_color


def test_names_do_not_cover_each_other():
    mask = np.zeros((300, 400), dtype=bool)
    mask[140:160, 190:210] = True
    taken = []
    for _ in range(10):
        taken.append(drawing._free_place(mask, "polygon 0.95", taken))
    for i, a in enumerate(taken):
        assert a[0] >= 0
        assert a[1] >= 0
        assert a[2] <= 400
        assert a[3] <= 300
        assert not any(drawing._overlap(a, b) for b in taken[:i])


def test_colors_of_classes_differ():
    colors = np.array([class_color(i) for i in range(10)])
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + np.eye(10) * 9
    assert distance.min() > 0.2
