"""The first convolution of a model for images of more or fewer channels than the three that its weights know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

COLORS = 3


def is_first_convolution(there: Sequence[int], here: Sequence[int]) -> bool:
    """Return whether two shapes, in a file and in a model, are of one convolution for colors and for other channels."""
    if len(there) != 4 or len(here) != 4 or there[1] != COLORS or here[1] == COLORS:
        return False
    return (there[0], *there[2:]) == (here[0], *here[2:])


def inflate_colors(weight: Any, channels: int, *, reverse: bool = False) -> Tensor:
    """Return the weights of a convolution for three colors as those for another number of channels.

    One or two channels get the sum over the colors, two of them half each, as if gray were all three colors. More
    channels get the colors in turn, red first, scaled so that the sum over the channels remains.

    Args:
        weight: (O, 3, h, w) tensor or array.
        channels: C.
        reverse: Whether the weights are for blue, green and red, in this order.

    Returns:
        (O, C, h, w), of the same type as the weights.
    """
    colors = torch.as_tensor(weight)
    colors = colors.flip(1) if reverse else colors
    if channels < COLORS:
        return colors.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels
    order = torch.arange(channels) % COLORS
    found = colors[:, order]
    # Each color's weights are divided among the channels that have them
    return found / torch.bincount(order, minlength=COLORS)[order].to(found)[:, None, None]


def describe_inflation(path: str, names: Sequence[str], model: nn.Module) -> str:
    """Return the line of the log that says that weights for colors start a model for other channels.

    Args:
        path: The weight file.
        names: The convolutions, by their names in the model.
        model: The model.
    """
    parameters = dict(model.named_parameters())
    fixed = any(not parameters[x].requires_grad for x in names)
    advice = "; it is frozen: set MODEL.BACKBONE.FREEZE_AT 0 to train it, too" if fixed else ""
    return (
        f"{path} was trained on three colors: its first convolution ({', '.join(names)}) is carried over to "
        f"{parameters[names[0]].shape[1]} channels{advice}."
    )
