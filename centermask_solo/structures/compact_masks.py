"""Full-size masks of one image as boxes and the pixels in them, or as run-length codes."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from ..ops.masks import masks_to_boxes
from .rle_codes import Code, Window, decode_window, encode_window, shared_pixels

Form = TypeVar("Form", bound="CompactMasks")


class CompactMasks(ABC):
    """What ``pred_masks`` of an image can be instead of a bool tensor (M, H, W); always on the CPU.

    It has a length, can be iterated, yielding bool tensors (H, W), and can be indexed like a tensor along its first
    dimension: by a number, which gives a tensor (H, W), and by slices, lists and tensors.

    Attributes:
        size: (H, W).
    """

    def __init__(self, items: Sequence[Any], size: tuple[int, int]) -> None:
        """
        Args:
            items: What a subclass keeps of each mask.
            size: (H, W).
        """
        self._items = list(items)
        self.size = (int(size[0]), int(size[1]))

    @classmethod
    @abstractmethod
    def encode(cls: type[Form], masks: Tensor | CompactMasks) -> Form:
        """Return masks in this form.

        Args:
            masks: (M, H, W) bool on any device, or masks of another form.
        """

    @abstractmethod
    def windows(self) -> Iterator[Window]:
        """Yield the tight window of each mask."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of the masks, without Python's overhead."""

    @classmethod
    def cat(cls: type[Form], parts: Sequence[Form]) -> Form:
        """Return the masks of all parts, which are of one size."""
        return cls([x for part in parts for x in part._items], parts[0].size)

    def tensor(self) -> Tensor:
        """Return the masks, (M, H, W) bool."""
        masks = torch.zeros(len(self), *self.size, dtype=torch.bool)
        for mask, window in zip(masks, self.windows(), strict=True):
            _paste(mask, window)
        return masks

    def boxes(self) -> Tensor:
        """Return tight boxes, (M, 4) float32 x0 y0 x1 y1 in pixels, right and bottom exclusive; 0 if empty."""
        found = [(x.left, x.top, x.left + x.pixels.shape[1], x.top + x.pixels.shape[0]) for x in self.windows()]
        return torch.tensor(found, dtype=torch.float32).reshape(-1, 4)

    def areas(self) -> Tensor:
        """Return the number of pixels of each mask, (M,) int64."""
        return torch.tensor([int(np.count_nonzero(x.pixels)) for x in self.windows()], dtype=torch.int64)

    def iou(self, other: CompactMasks) -> Tensor:
        """Return the IoU of each mask with each of another image of the same size, (M, N) float32; 0 if both are empty.

        Args:
            other: Masks of any form.
        """
        ours, theirs = list(self.windows()), list(other.windows())
        shared = torch.zeros(len(ours), len(theirs), dtype=torch.float64)
        first, second = self.boxes()[:, None], other.boxes()[None]
        corners = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
        close = (corners[0] < corners[1]).all(dim=2)  # boxes that overlap
        for i, j in close.nonzero().tolist():
            shared[i, j] = shared_pixels(ours[i], theirs[j])
        union = self.areas()[:, None] + other.areas()[None] - shared
        return (shared / union.clamp(min=1)).float()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Tensor]:
        for window in self.windows():
            mask = torch.zeros(self.size, dtype=torch.bool)
            _paste(mask, window)
            yield mask

    def __getitem__(self, item: Any) -> Any:
        item = item.cpu() if isinstance(item, Tensor) else item
        chosen = torch.arange(len(self))[item].tolist()
        if isinstance(chosen, int):
            return type(self)([self._items[chosen]], self.size).tensor()[0]
        return type(self)([self._items[i] for i in chosen], self.size)

    def to(self: Form, *args: Any, **kwargs: Any) -> Form:
        """Return the masks, which are always on the CPU."""
        del args, kwargs
        return self

    def cpu(self: Form) -> Form:
        """Return the masks."""
        return self


class CroppedMasks(CompactMasks):
    """Masks as boxes and the pixels in them: as cheap to make as to read, and small where the objects are."""

    @classmethod
    def encode(cls, masks: Tensor | CompactMasks) -> CroppedMasks:
        """See :meth:`CompactMasks.encode`."""
        if isinstance(masks, CompactMasks):
            return cls(list(masks.windows()), masks.size)
        boxes = masks_to_boxes(masks).int().tolist()
        crops = [mask[y0:y1, x0:x1].reshape(-1) for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True)]
        pixels = _on_host(crops)
        windows, start = [], 0
        for x0, y0, x1, y1 in boxes:
            stop = start + (y1 - y0) * (x1 - x0)
            windows.append(Window(x0, y0, pixels[start:stop].reshape(y1 - y0, x1 - x0)))
            start = stop
        return cls(windows, (masks.shape[1], masks.shape[2]))

    def windows(self) -> Iterator[Window]:
        """See :meth:`CompactMasks.windows`."""
        return iter(self._items)

    @property
    def nbytes(self) -> int:
        """See :attr:`CompactMasks.nbytes`."""
        return sum(x.pixels.nbytes for x in self._items)


class RLEMasks(CompactMasks):
    """Masks as run-length codes, which are small for objects of any size, and are decoded one at a time."""

    @property
    def codes(self) -> list[Code]:
        """The code of each mask, as in COCO's results."""
        return self._items

    @classmethod
    def encode(cls, masks: Tensor | CompactMasks) -> RLEMasks:
        """See :meth:`CompactMasks.encode`."""
        if isinstance(masks, RLEMasks):
            return masks
        cropped = masks if isinstance(masks, CompactMasks) else CroppedMasks.encode(masks)
        return cls([encode_window(window, cropped.size) for window in cropped.windows()], cropped.size)

    def windows(self) -> Iterator[Window]:
        """See :meth:`CompactMasks.windows`."""
        return map(decode_window, self._items)

    def boxes(self) -> Tensor:
        """See :meth:`CompactMasks.boxes`; nothing is decoded."""
        boxes = torch.tensor([rle.toBbox(code).tolist() for code in self._items], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes * (boxes[:, 2:3] > boxes[:, :1])

    def areas(self) -> Tensor:
        """See :meth:`CompactMasks.areas`; nothing is decoded."""
        return torch.tensor([int(rle.area(code)) for code in self._items], dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        """See :attr:`CompactMasks.nbytes`."""
        return sum(len(x["counts"]) for x in self._items)


def _on_host(crops: Sequence[Tensor]) -> NDArray[np.bool_]:
    """Return the pixels of flat tensors, one after the other, in memory of their own.

    Pages, because a crop on the heap would lie where a tensor of masks was, so that there is no room for the next one.
    """
    size = sum(map(len, crops))
    if not size:
        return np.zeros(0, np.bool_)
    pixels = np.frombuffer(mmap.mmap(-1, size), np.bool_)
    if crops[0].device.type == "cpu":
        torch.cat(list(crops), out=torch.from_numpy(pixels))
    else:
        torch.from_numpy(pixels).copy_(torch.cat(list(crops)))  # one copy, whatever their number
    return pixels


def _paste(mask: Tensor, window: Window) -> None:
    height, width = window.pixels.shape
    mask.numpy()[window.top : window.top + height, window.left : window.left + width] = window.pixels
