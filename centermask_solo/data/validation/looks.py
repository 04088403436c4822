"""Which images look alike, though their files differ: copies in another size, format or quality, and video frames."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 32  # pixels of the thumbnail that is hashed
KEPT = 16  # pixels of the one that is compared
BANDS = 4  # of 16 bits; two hashes that differ in fewer bits than there are bands have a band in common
MAX_BITS = 3  # in which the hashes of images that look alike differ at most
MAX_DIFFERENCE = 6.0  # of their thumbnails, root mean square in levels of gray
MIN_CONTRAST = 6.0  # of an image whose look says anything, standard deviation in levels of gray


class Look(NamedTuple):
    """The look of an image.

    Attributes:
        code: 64 bits, a perceptual hash: the signs of low frequencies of the image.
        thumbnail: (KEPT, KEPT) uint8, the image in gray.
    """

    code: int
    thumbnail: NDArray[np.uint8]


def look_of(pixels: NDArray[Any]) -> Look | None:
    """Return the look of an image, (H, W, 3) uint8 RGB; None if it is so plain that many images look like it."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(np.ascontiguousarray(small), cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(gray, (KEPT, KEPT), interpolation=cv2.INTER_AREA)
    if thumbnail.std() < MIN_CONTRAST:
        return None
    low = cv2.dct(gray.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return Look(int.from_bytes(np.packbits(bits).tobytes(), "big"), np.asarray(thumbnail, dtype=np.uint8))


class LookIndex:
    """Finds the image that looks like a given one among those that were added, without comparing it with all."""

    def __init__(self) -> None:
        self._looks: list[tuple[Look, str]] = []
        self._bands: list[dict[int, list[int]]] = [defaultdict(list) for _ in range(BANDS)]

    def find(self, look: Look | None) -> str | None:
        """Return the name of the first image that looks like this; None if there is none."""
        if look is None:
            return None
        parts = zip(self._bands, _parts(look.code), strict=True)
        for i in sorted({i for band, part in parts for i in band.get(part, ())}):
            other, name = self._looks[i]
            if (look.code ^ other.code).bit_count() <= MAX_BITS and _are_close(look, other):
                return name
        return None

    def add(self, look: Look | None, name: str) -> str | None:
        """Add an image unless one that looks like it is there already; return the name of that one, else None."""
        found = self.find(look)
        if look is not None and found is None:
            for band, part in zip(self._bands, _parts(look.code), strict=True):
                band[part].append(len(self._looks))
            self._looks.append((look, name))
        return found


def _parts(code: int) -> list[int]:
    return [code >> (16 * i) & 0xFFFF for i in range(BANDS)]


def _are_close(a: Look, b: Look) -> bool:
    difference = a.thumbnail.astype(np.float32) - b.thumbnail
    return float(np.sqrt(np.mean(difference**2))) <= MAX_DIFFERENCE
