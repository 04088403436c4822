"""Videos of predictions, with the times and the sound of the videos that they are of."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from ..data.frames import Frame
from ..data.pixels import Pixels
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.text import first_line
from .streams import import_av

logger = logging.getLogger(__name__)

CODECS = ("libx264", "h264_videotoolbox", "mpeg4")  # the first that this FFmpeg has and that opens
TIME_BASE = Fraction(1, 60_000)  # seconds; as fine as MPEG-4 allows, and the times of all common rates
LIVE_RATE = Fraction(30)  # frames a second that encoders expect of a source that does not state its rate
BITS_PER_PIXEL = 0.2  # of a frame, for codecs without a constant quality
CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}  # in FFmpeg's words
SUFFIXES = tuple(CONTAINERS)


class VideoFile:
    """Writes the pictures of a video's frames, at the frames' times, with a copy of its sound if it is a file.

    It is an MP4 file, or a Matroska file (.mkv) if only that can hold the sound. It appears when the ``with`` block
    ends, also because of an error or Ctrl-C, and then plays up to there.
    """

    def __init__(self, path: str, frame: Frame, size: tuple[int, int]) -> None:
        """
        Args:
            path: Where it will be, without the suffix.
            frame: The first frame.
            size: (H, W) of its picture; later pictures are resized to it.

        Raises:
            ConfigError: No codec works, or it cannot be created.
            MissingPackageError: PyAV is not installed.
        """
        self._av = import_av()
        self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)  # encoders take even numbers only
        self._start, self._last = frame.time, -1
        self._source = self._av.open(frame.video) if os.path.isfile(frame.video) else None
        sound: Any = self._source.streams.audio[0] if self._source and self._source.streams.audio else None
        fitting = [suffix for suffix in SUFFIXES if sound is None or self._holds(CONTAINERS[suffix], sound)]
        if not fitting:
            logger.warning("%s: its sound (%s) cannot be copied", frame.video, sound.codec_context.name)
            sound = None
        suffix = (*fitting, *SUFFIXES)[0]
        self._target = atomic_write(path + suffix, "wb", durable=False)
        self._file = self._av.open(self._target.__enter__(), "w", format=CONTAINERS[suffix])
        self._rate = frame.rate or LIVE_RATE
        self._video = self._add_video(self._rate)
        self._sound = None if sound is None else self._file.add_stream_from_template(sound)
        self._packets: Iterator[Any] = sound.container.demux(sound) if sound is not None else iter(())
        self._packet = next(self._packets, None)

    def _holds(self, container: str, sound: Any) -> bool:
        with self._av.open(io.BytesIO(), "w", format=container) as file:
            return sound.codec_context.name in file.supported_codecs

    def _add_video(self, rate: Fraction) -> Any:
        """Return a stream of the first codec that works."""
        failures = []
        for name in CODECS:
            try:
                self._set_up(self._av.CodecContext.create(name, "w"), name, rate).open()
            except (self._av.error.FFmpegError, ValueError) as error:  # the latter of a codec that is unknown
                failures.append(f"{name}: {first_line(error)}")
                continue
            stream = self._file.add_stream(name, rate=rate)
            self._set_up(stream.codec_context, name, rate)
            return stream
        raise ConfigError(f"this FFmpeg can encode no video ({'; '.join(failures)}): install PyAV from PyPI")

    def _set_up(self, context: Any, name: str, rate: Fraction) -> Any:
        context.height, context.width = self._size
        context.pix_fmt, context.time_base, context.framerate = "yuv420p", TIME_BASE, rate
        if name != CODECS[0]:
            context.bit_rate = int(context.height * context.width * rate * BITS_PER_PIXEL)
        return context

    def add(self, frame: Frame, picture: Pixels) -> None:
        """Write the picture of a frame, (H, W, 3) uint8 in BGR order."""
        height, width = self._size
        if abs(picture.shape[0] - height) > 1 or abs(picture.shape[1] - width) > 1:
            picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        missing = ((0, height - picture.shape[0]), (0, width - picture.shape[1]), (0, 0))
        even = np.ascontiguousarray(np.pad(picture, missing, mode="edge"))
        image = self._av.VideoFrame.from_ndarray(even, format="bgr24")
        seconds = frame.time - self._start
        self._last = max(round(seconds / TIME_BASE), self._last + 1)
        image.pts, image.time_base = self._last, TIME_BASE
        self._file.mux(self._video.encode(image))
        self._copy_sound(until=seconds)

    def _copy_sound(self, until: float) -> None:
        """Copy the sound up to a time, so that pictures and sound that belong together are close in the file."""
        while self._packet is not None:
            if self._packet.dts is not None:  # else it is the mark of the end
                if self._packet.dts * self._packet.time_base > until:
                    return
                self._packet.stream = self._sound
                self._file.mux(self._packet)
            self._packet = next(self._packets, None)

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            stack.push(lambda *failure: self._target.__exit__(*failure))
            if self._source is not None:
                stack.callback(self._source.close)
            stack.callback(self._file.close)
            self._file.mux(self._video.encode())
            self._copy_sound(until=float(self._last * TIME_BASE + 1 / self._rate))
