"""Instances for the package supervision, which users of it install; this package never needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..utils.class_names import class_name
from ..utils.packages import missing_supervision
from .rle_codes import Window, paste


def detections(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    classes: NDArray[np.int64],
    windows: Sequence[Window] | None,
    size: tuple[int, int],
    class_names: Sequence[str],
    track_ids: NDArray[np.int64] | None = None,
) -> Any:
    """Return supervision's ``Detections`` of an image.

    Args:
        boxes: (M, 4) x0 y0 x1 y1 in pixels.
        scores: (M,).
        classes: (M,), from 0.
        windows: The mask of each; None without masks.
        size: (H, W) of the image.
        class_names: Names of the classes, in order; they become ``data["class_name"]``.
        track_ids: (M,); None without tracking.

    Raises:
        MissingPackageError: supervision is not installed.
    """
    try:
        from supervision import Detections
    except ModuleNotFoundError as error:
        raise missing_supervision() from error
    masks = None
    if windows is not None:
        masks = np.zeros((len(windows), *size), bool)
        for mask, window in zip(masks, windows, strict=True):
            paste(mask, window, True)
    names = np.array([class_name(class_names, c) for c in classes.tolist()], dtype=str)
    return Detections(
        xyxy=boxes,
        mask=masks,
        confidence=scores,
        class_id=classes,
        tracker_id=track_ids,
        data={"class_name": names},
    )
