"""The instances of one image in NumPy, and the ways in which their masks can be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..structures.rle_codes import EMPTY, Code, Window, decode_window, encode_window
from ..structures.supervision import detections
from ..utils.errors import ConfigError
from .pasting import mask_box

Mask = NDArray[np.bool_]
Polygons = list[list[float]]  # of one mask: x0, y0, x1, y1, ... in pixels


class ExportedInstances:
    """The instances of an image, best first: fields of Detectron2's ``Instances``, as arrays.

    Attributes:
        image_size: Height and width of the image.
        pred_boxes: (M, 4) float32, x0 y0 x1 y1 in pixels of the image.
        scores: (M,) float32.
        pred_classes: (M,) int64.
        pred_masks: (M, H, W) bool; or a list of M run-length codes or of M lists of polygons. Models of boxes have
            none.
        mask_scores: (M,) float32, only of models that have them.
        exact: Whether the constant numbers of candidates and slots changed nothing; PyTorch, which has no such limits,
            may find other detections where it is False, at the end of a full result.
    """

    pred_boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    pred_classes: NDArray[np.int64]
    pred_masks: Any
    mask_scores: NDArray[np.float32]

    def __init__(self, image_size: tuple[int, int], exact: bool = True, **fields: Any) -> None:
        """
        Args:
            image_size: Height and width of the image.
            exact: See above.
            fields: The fields, of one length.
        """
        self.image_size, self.exact = image_size, exact
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what copying asks for before there are fields
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name not in self._fields:
            raise AttributeError(f"these instances have no {name}; they have {', '.join(self._fields)}")
        return self._fields[name]

    def has(self, name: str) -> bool:
        """Return whether there is such a field."""
        return name in self._fields

    def get_fields(self) -> dict[str, Any]:
        """Return the fields by name."""
        return self._fields

    def __len__(self) -> int:
        return len(self._fields["scores"])

    def __getitem__(self, item: Any) -> ExportedInstances:
        """Return the instances that a slice, an array of indices or one of booleans selects."""
        rows = np.atleast_1d(np.arange(len(self))[item])
        fields = {k: [x[i] for i in rows] if isinstance(x, list) else x[rows] for k, x in self._fields.items()}
        return ExportedInstances(self.image_size, self.exact, **fields)

    def to_supervision(self, class_names: Sequence[str] = ()) -> Any:
        """Return the ``Detections`` of the package supervision, which must be installed.

        Args:
            class_names: Names of the classes, in order; they become ``data["class_name"]``.

        Raises:
            ConfigError: The masks are polygons.
            MissingPackageError: supervision is not installed.
        """
        windows = [_window(mask) for mask in self.pred_masks] if self.has("pred_masks") else None
        return detections(self.pred_boxes, self.scores, self.pred_classes, windows, self.image_size, class_names)

    def __repr__(self) -> str:
        return f"ExportedInstances({len(self)}, image_size={self.image_size}, fields={list(self._fields)})"


def _window(mask: Mask | Code | Polygons) -> Window:
    if isinstance(mask, list):
        raise ConfigError('supervision takes masks, not polygons: predict with masks="dense" or masks="rle"')
    return decode_window(mask) if isinstance(mask, dict) else Window(0, 0, mask)


def to_code(mask: Mask) -> Code:
    """Return the run-length code of a mask, as in COCO's results."""
    x0, y0, x1, y1 = mask_box(mask)
    window = Window(x0, y0, np.ascontiguousarray(mask[y0:y1, x0:x1])) if x1 else EMPTY
    return encode_window(window, (mask.shape[0], mask.shape[1]))


def to_polygons(mask: Mask) -> Polygons:
    """Return the outlines of a mask's parts and of their holes, through the centers of pixels, as Detectron2 draws."""
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [(x.reshape(-1) + 0.5).tolist() for x in found if len(x) >= 3]


MASK_FORMS: dict[str, Callable[[Mask], Any]] = {"dense": lambda mask: mask, "rle": to_code, "polygons": to_polygons}


def check_mask_form(form: str) -> None:
    """Raise ConfigError unless masks can be given in that form."""
    if form not in MASK_FORMS:
        raise ConfigError(f"masks cannot be given as {form!r}: use {', '.join(MASK_FORMS)}")
