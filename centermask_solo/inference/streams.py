"""Videos, cameras and URLs, which are not image files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ..utils.errors import ConfigError

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".m3u8")


def refuse_streams(inputs: Iterable[str]) -> None:
    """Raise ConfigError, with what to do instead, if an input is a video, a camera or a URL.

    Args:
        inputs: Names of files and folders, or what was given in their place.
    """
    for name in inputs:
        if os.path.isdir(name):
            continue
        if name.lower().endswith(VIDEO_SUFFIXES):
            what, source = "a video", name
        elif os.path.isfile(name):
            continue
        elif name.lower().startswith(("http://", "https://")):
            raise ConfigError(f"{name} is a URL, but only files can be predicted: download it and give the file")
        elif ADDRESS.match(name):
            what, source = "a stream", name
        elif name.isdecimal() or name.startswith("/dev/video"):
            what, source = "a camera", f"/dev/video{name}" if name.isdecimal() else name
        else:
            continue
        raise ConfigError(
            f"{name} is {what}, but only images can be predicted: save its frames, such as with "
            f"'mkdir frames; ffmpeg -i {source} frames/%06d.jpg', and give the folder"
        )
