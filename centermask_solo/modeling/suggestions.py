"""What suggestions for a dataset are made of: objects at the input of a model, and options that fit them better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

WORTH = 0.005  # share of the objects that a change must gain
FEW = 0.01  # share of the objects that a value that fits may lose

Option = TypeVar("Option")


class InputObjects(NamedTuple):
    """Objects as a model sees them.

    Attributes:
        boxes: (M, 4) float64, x0 y0 x1 y1 in input pixels.
        images: (M,) int64, ascending; the image of each.
        input_sizes: (M, 2) float64, width and height of the input of its image.
    """

    boxes: Tensor
    images: Tensor
    input_sizes: Tensor

    @property
    def sizes(self) -> Tensor:
        """Square roots of the areas of the boxes, (M,)."""
        return (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=0).prod(1).sqrt()


@dataclass(frozen=True)
class Suggestion:
    """A value of an option that fits the objects of a dataset.

    Attributes:
        key: The option.
        current: Its value.
        proposed: A better one, or the same.
        kind: What becomes of the objects that are counted: their size is not "covered", or others take their place.
        measure: Which objects are counted, such as "of the objects have no cell of their own".
        lost: Their share now, 0 to 1.
        lost_then: Their share with the proposed value.
        levels: Share of the objects on each level of the model now, if the option is about levels; an object may be on
            several.
    """

    key: str
    current: Any
    proposed: Any
    kind: Literal["uncovered", "collide", "shrink"]
    measure: str
    lost: float
    lost_then: float
    levels: tuple[float, ...] = ()

    def __str__(self) -> str:
        levels = f" (on its levels now: {', '.join(f'{x:.0%}' for x in self.levels)})" if self.levels else ""
        if self.proposed == self.current:
            verdict = "fits" if self.lost <= FEW else "loses less than what was tried"
            return f"{self.key} {shown(self.current)} {verdict}: {self.lost:.1%} {self.measure}{levels}"
        change = f"{self.lost_then:.1%} {self.measure}; {self.lost:.1%} with {shown(self.current)}"
        return f"{self.key} {shown(self.proposed)}: {change}{levels}"


def shown(value: Any) -> str:
    """Return an option as it can be given to a config, its numbers rounded."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def best_option(
    current: Option, candidates: Iterable[Option], lost: Callable[[Option], float]
) -> tuple[Option, float, float]:
    """Return the candidate that loses least, its loss now and its loss then; the current one unless it is worth it.

    Args:
        current: The value now.
        candidates: Others, the preferred ones first.
        lost: Share of the objects that a value loses.
    """
    now = lost(current)
    best, least = current, now
    for candidate in candidates:
        share = lost(candidate)
        if share < least - WORTH:
            best, least = candidate, share
    return best, now, least


def first_enough(
    current: Option, candidates: Iterable[Option], lost: Callable[[Option], float], enough: float
) -> tuple[Option, float, float]:
    """Return the first candidate that loses little enough, its loss now and its loss then; see :func:`best_option`.

    Args:
        current: The value now, which comes first.
        candidates: Others, the cheapest first.
        lost: Share of the objects that a value loses.
        enough: A loss that is no reason to go on; if no value is as good, the best one is taken.
    """
    now = lost(current)
    best, least = current, now
    for candidate in candidates:
        if least <= enough:
            break
        share = lost(candidate)
        if share < least - WORTH:
            best, least = candidate, share
    return best, now, least


def quantiles(values: Tensor, count: int) -> list[float]:
    """Return the ``count`` values that divide ``values`` into ``count`` + 1 equal parts."""
    shares = torch.arange(1, count + 1, dtype=values.dtype) / (count + 1)
    order = values.sort().values
    return [order[min(int(x * len(order)), len(order) - 1)].item() for x in shares]


def strides_of(features: Sequence[str]) -> list[int] | None:
    """Return the strides of levels such as "p3", which has stride 8; None if one has another kind of name."""
    numbers = [re.fullmatch(r"p(\d)", x) for x in features]
    return None if None in numbers else [2 ** int(x[1]) for x in numbers if x]
