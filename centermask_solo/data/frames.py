"""Images of a video, a camera or a stream."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .pixels import Pixels


@dataclass(frozen=True)
class Frame:
    """An image with its place in a video.

    Attributes:
        name: Name of the image: that of the video and the index.
        image: (H, W, 3) uint8 in BGR order.
        video: Name of the video, camera or stream that it is from; an address without its user and password.
        index: Its number there, from 0; a live source skips those that were dropped.
        time: When it is shown, in seconds from the first frame.
        rate: Frames per second of the video; None if that is unknown.
    """

    name: str
    image: Pixels
    video: str
    index: int
    time: float
    rate: Fraction | None
