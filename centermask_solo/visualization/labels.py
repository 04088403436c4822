"""Names of objects in a picture: their font, where they go, and drawing them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .colors import Color
from .fonts import REGULAR, draw_text, load_font, text_length

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

MIN_FONT, MAX_FONT = 10, 60  # height of the letters' line in pixels
FONT_OF_SIDE = 1 / 45  # the same as a fraction of the side of a square that is as large as the picture
PADDING = 1  # pixels around a name
BACKGROUND = 0.8  # how black it is behind a name
MAX_HIDDEN = 0.25  # of a name that others may cover; a name that has no better place is left out
MAX_COVERED = 0.15  # of a picture that all names together may cover


def font_size(height: int, width: int) -> int:
    """Return the size in pixels of names in a picture of this size."""
    return round(min(max(math.sqrt(height * width) * FONT_OF_SIDE, MIN_FONT), MAX_FONT))


def label_size(label: str, shape: tuple[int, int]) -> tuple[float, float]:
    """Return (width, height) of a name in a picture of (H, W), in pixels."""
    size = font_size(*shape)
    return text_length(label, size) + 2 * PADDING, sum(load_font(REGULAR, size).getmetrics()) + PADDING


def choose_labeled(labels: Sequence[str], areas: Sequence[int], shape: tuple[int, int]) -> list[int]:
    """Return the indices of the objects, from small to large, whose names may cover a picture of (H, W).

    These are the largest, as many as ``MAX_COVERED`` allows, but at least one.
    """
    room = MAX_COVERED * shape[0] * shape[1]
    chosen: list[int] = []
    for i in sorted((i for i, area in enumerate(areas) if area), key=lambda i: -areas[i]):
        room -= math.prod(label_size(labels[i], shape))
        if room < 0 and chosen:
            break
        chosen.append(i)
    return chosen[::-1]


def place_label(
    label: str, box: Rectangle, center: tuple[float, float], taken: Sequence[Rectangle], shape: tuple[int, int]
) -> Rectangle | None:
    """Return where the name of an object goes: on it, or else above or below it, where no other name is yet.

    Args:
        label: The name.
        box: Box of the object.
        center: (x, y) inside the object.
        taken: Where other names are.
        shape: (H, W) of the picture.

    Returns:
        The place, inside the picture; None if every place is covered or the picture is too small.
    """
    height, width = shape
    text_width, text_height = label_size(label, shape)
    if text_width > width or text_height > height:
        return None
    # Candidates in order of preference. A name on a low object would hide it.
    x, y = center
    on, above, below = y - text_height / 2, box[1] - text_height - 2, box[3] + 3
    tops = [above, below, on] if box[3] - box[1] < 2.5 * text_height else [on, above, below]
    tops += [y + sign * k * text_height for k in range(1, 7) for sign in (-1, 1)]
    # The first of those that overlap other names least.
    left = min(max(x - text_width / 2, 0.0), width - text_width)
    best, least = None, MAX_HIDDEN * text_width * text_height
    for top in (min(max(float(top), 0.0), height - text_height) for top in tops):
        place = (left, top, left + text_width, top + text_height)
        hidden = sum(overlap(place, other) for other in taken)
        if hidden < least or (best is None and hidden <= least):
            best, least = place, hidden
        if not hidden:
            break
    return best


def overlap(a: Rectangle, b: Rectangle) -> float:
    """Return the area that two rectangles share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def draw_label(picture: Picture, label: str, place: Rectangle, color: Color) -> None:
    """Draw a name in a lighter tone of ``color`` on black, in place, where :func:`place_label` put it."""
    size = font_size(*picture.shape[:2])
    left, top = round(place[0]), round(place[1])
    patch = picture[top : top + round(place[3] - place[1]), left : left + round(place[2] - place[0])]
    ink = Image.new("L", (patch.shape[1], patch.shape[0]))
    draw_text(ImageDraw.Draw(ink), (PADDING, 0), label, size, fill=255)
    opacity = np.asarray(ink, dtype=np.float32)[..., None] / 255
    light = 255 * (0.55 + 0.45 * np.asarray(color, dtype=np.float32))
    patch[:] = np.rint((1 - opacity) * (1 - BACKGROUND) * patch + opacity * light)
