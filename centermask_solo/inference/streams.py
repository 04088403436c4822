"""Frames of videos, cameras and network streams."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from ..data.frames import Frame
from ..utils.errors import DataError
from ..utils.packages import require_av
from ..utils.text import first_line
from ..utils.threads import read_ahead

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".m3u8")
AHEAD = 4  # decoded frames of a video that wait for the model
WHOLE, HALF = 0.9, 0.5  # of the frames and seconds that a video states; one with less has lost its end
TIMEOUT = 8.0  # seconds without an answer from the network, or without a beginning in a file


def is_stream(name: str) -> bool:
    """Return whether a name is that of a video file, of a camera (such as "0" or "/dev/video0"), or an address."""
    if os.path.isdir(name):
        return False
    if os.path.lexists(name) and not name.startswith("/dev/video"):
        return is_video(name)
    return bool(ADDRESS.match(name)) or is_camera(name)


def is_video(name: str) -> bool:
    """Return whether a file is a video by its name."""
    return name.lower().endswith(VIDEO_SUFFIXES)


def is_camera(name: str) -> bool:
    """Return whether a name is that of a camera, unless there is such a file."""
    return not os.path.isfile(name) and (name.isdecimal() or name.startswith("/dev/video"))


def import_av() -> Any:
    """Return the package ``av``.

    Raises:
        MissingPackageError: It is not installed.
    """
    require_av("a video")
    import av

    return av


def count_frames(name: str) -> int | None:
    """Return the number of frames of a video file, as it states it or by its duration; None if it is unknown.

    Raises:
        DataError: It cannot be read.
        MissingPackageError: PyAV is not installed.
    """
    with open_container(name) as container:
        video = container.streams.video[0]
        seconds = video.duration * video.time_base if video.duration else (container.duration or 0) / 1_000_000
        rate = video.average_rate or 0
        return video.frames or round(seconds * rate) or None


def open_container(name: str) -> Any:
    """Return PyAV's container of a video or an address, which has a video stream.

    Raises:
        DataError: It cannot be opened, or has no pictures.
        MissingPackageError: PyAV is not installed.
    """
    av, start = import_av(), time.monotonic()
    options = {"rtsp_transport": "tcp"} if name.lower().startswith("rtsp") else {}
    try:
        container = av.open(name, options=options, timeout=TIMEOUT)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        if isinstance(error, av.error.ExitError) or time.monotonic() - start >= TIMEOUT:  # FFmpeg may name another
            reason = f"no answer for {TIMEOUT:.0f} s"
        fix = "check the address, and that it is served" if ADDRESS.match(name) else "give a video that FFmpeg reads"
        raise DataError(f"{shown(name)} cannot be opened ({reason}): {fix}") from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{shown(name)} has no pictures: give a video")
    return container


def shown(name: str) -> str:
    """Return a name without the user and password of an address."""
    return CREDENTIALS.sub("", name)


def read_frames(name: str) -> Generator[Frame, None, None]:
    """Yield the frames of a stream, decoded in a thread: all of a video, and always the newest of a live one.

    An address is live if it has no end that is known. A camera or a live stream ends with its source or with Ctrl-C.

    Args:
        name: See :func:`is_stream`.

    Raises:
        DataError: It cannot be opened, or is damaged; the latter after the frames before.
        MissingPackageError: PyAV, which all but cameras need, is not installed.
    """
    if is_camera(name):
        yield from read_ahead(_camera_frames(name), 1, drop_old=True)
        return
    container = open_container(name)
    is_live = not os.path.isfile(name) and not container.duration
    yield from read_ahead(_decoded(container, name, is_live), 1 if is_live else AHEAD, drop_old=is_live)


def _decoded(container: Any, name: str, is_live: bool) -> Generator[Frame, None, None]:
    av, first, end, count = import_av(), None, 0.0, 0
    with container:
        video = container.streams.video[0]
        video.thread_type = "SLICE" if is_live else "AUTO"  # which holds back as many frames as it has threads
        rate = video.average_rate
        try:
            for i, frame in enumerate(container.decode(video)):
                seconds = end
                if frame.time is not None:
                    first = float(frame.time) - end if first is None else first
                    seconds = float(frame.time) - first
                pixels = _turned(frame.to_ndarray(format="bgr24"), frame.rotation)
                end = seconds + float(1 / rate if rate else 0)
                count = i + 1
                yield _frame(name, pixels, i, seconds, rate)
        except av.error.ExitError:
            reason = f"nothing came for {TIMEOUT:.0f} s"
            raise DataError(f"{shown(name)} stopped after {end:.1f} s ({reason}): check its source") from None
        except (OSError, av.error.FFmpegError) as error:
            raise DataError(f"{shown(name)} is damaged after {end:.1f} s ({first_line(error)})") from None
        if not is_live:
            check_whole(container, name, count, end)


def check_whole(container: Any, name: str, count: int, end: float) -> None:
    """Raise DataError if a file ended long before the frames and seconds that it states, one of which may be wrong.

    The frames are those before a video was cut without new encoding; the seconds include a last frame that lasts long.
    """
    frames, seconds = container.streams.video[0].frames, (container.duration or 0) / 1_000_000
    is_cut = count < WHOLE * frames and end < WHOLE * seconds if frames else end < HALF * seconds
    if is_cut:
        found = f"{count} of {frames} frames" if frames else f"{count} frames"
        raise DataError(f"{name} ended after {end:.1f} of {seconds:.1f} s, {found}: it is truncated, copy it again")


def _turned(pixels: Any, degrees: int) -> Any:
    """Return pixels turned counterclockwise by a multiple of 90 degrees, as phones ask for."""
    return np.ascontiguousarray(np.rot90(pixels, degrees // 90)) if degrees else pixels


def _camera_frames(name: str) -> Generator[Frame, None, None]:
    camera = _open_camera(name)
    try:
        if not camera.isOpened():
            raise DataError(f"there is no camera {name}, or another program uses it: give another number")
        start = time.monotonic()
        index = 0
        while True:
            ok, pixels = camera.read()
            if not ok:
                return
            yield _frame(name, pixels, index, time.monotonic() - start, None)
            index += 1
    finally:
        camera.release()


def _open_camera(name: str) -> cv2.VideoCapture:
    """Return OpenCV's camera, which may not be open; OpenCV prints nothing about that."""
    log = cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(int(name) if name.isdecimal() else name)
    finally:
        log.setLogLevel(level)


def _frame(name: str, pixels: Any, index: int, seconds: float, rate: Fraction | None) -> Frame:
    video = shown(name)
    return Frame(f"{video}#{index}", pixels, video, index, seconds, rate)
