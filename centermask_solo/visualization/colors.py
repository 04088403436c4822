"""Colors of classes, and of instances that neighbors do not share."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]  # RGB in 0..1
CROWD_COLOR = (0.75, 0.75, 0.75)
NUM_COLORS = 12  # of instances: few enough to be told apart


def class_color(class_index: int) -> Color:
    """Return a bright color for a class; those of neighboring indices differ most."""
    hue = (class_index * 0.381966) % 1.0  # the golden angle
    return colorsys.hsv_to_rgb(hue, 0.9, 1.0 if (class_index // 5) % 2 == 0 else 0.8)


def stuff_color(class_index: int) -> Color:
    """Return a pale color for a class of stuff, behind the bright ones of instances."""
    return colorsys.hsv_to_rgb((class_index * 0.381966) % 1.0, 0.35, 0.75)


def instance_colors(boxes: Sequence[tuple[float, float, float, float]]) -> list[Color]:
    """Return one of ``NUM_COLORS`` colors for each instance, so that those close to each other differ.

    Args:
        boxes: (left, top, right, bottom) of each instance.
    """
    palette = [class_color(i) for i in range(NUM_COLORS)]
    rgb = np.asarray(palette)
    similarity = np.exp(-4 * np.abs(rgb[:, None] - rgb[None]).sum(axis=2))
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    size = np.sqrt(np.prod(corners[:, 2:] - corners[:, :2], axis=1).clip(1))
    chosen: NDArray[np.int64] = np.zeros(len(corners), dtype=np.int64)
    for i, box in enumerate(corners):
        others = corners[:i]
        gap = np.maximum(others[:, :2] - box[2:], box[:2] - others[:, 2:]).clip(0).max(axis=1)
        closeness = np.exp(-2 * gap / size[i])
        costs = similarity[:, chosen[:i]] @ closeness
        order = (np.arange(NUM_COLORS) + i) % NUM_COLORS  # equal costs: each its own
        chosen[i] = order[costs[order].argmin()]
    return [palette[i] for i in chosen]
