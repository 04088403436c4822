"""Layers with outputs for each class: what the records of systems say about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClassOutputs:
    """A layer whose shape gives the number of classes.

    Attributes:
        weight: Name of a weight with rows for each class.
        boxes: Name of a weight with four rows for each anchor, where ``weight`` repeats the classes for each anchor.
        background: Rows of ``weight`` (of each anchor) that stand for the background.
    """

    weight: str
    boxes: str = ""
    background: int = 0


@dataclass(frozen=True)
class ClassRows:
    """How the rows of a layer belong to classes: for each anchor, the rows of each class in turn.

    Attributes:
        layer: Name of the layer, as a regular expression.
        each: Rows of each class.
        background: Where the background has rows of its own: "first", "last", or "" if it has none.
    """

    layer: str
    each: int = 1
    background: str = ""
