"""Checks of options, for the constructors that take them; each raises a ConfigError that names the option."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from detectron2.layers import ShapeSpec

from ..utils.errors import ConfigError
from ..utils.text import counted


def check_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Raise ConfigError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{key} must be one of {', '.join(choices)}, not {value!r}")


def check_at_least(key: str, value: float, minimum: float) -> None:
    """Raise ConfigError unless ``value`` is at least ``minimum``."""
    if not value >= minimum:
        raise ConfigError(f"{key} must be at least {minimum}, not {value}")


def check_probability(key: str, value: float) -> None:
    """Raise ConfigError unless ``value`` can be the threshold of a probability."""
    if not 0 <= value < 1:
        raise ConfigError(f"{key} is a probability and must be at least 0 and less than 1, not {value}")


def check_length(key: str, values: Sequence[object], levels_key: str, num_levels: int) -> None:
    """Raise ConfigError unless there is one value per level."""
    if len(values) != num_levels:
        raise ConfigError(
            f"{key} has {counted(len(values), 'entry')}, but {levels_key} has {num_levels}: give one for each level"
        )


def check_groups(key: str, channels: int, norm: str) -> None:
    """Raise ConfigError if ``norm`` is "GN", whose 32 groups cannot share ``channels`` evenly."""
    if norm == "GN" and channels % 32:
        raise ConfigError(f"{key} must be a multiple of 32, the groups of NORM GN, not {channels}")


def select_shapes(shapes: Mapping[str, ShapeSpec], names: Sequence[str], key: str) -> list[ShapeSpec]:
    """Return the shapes of the named feature maps.

    Args:
        shapes: Output shape of the backbone.
        names: At least one; all with the same number of channels.
        key: Option with the names.

    Raises:
        ConfigError: No map is named, or an unknown one, or maps with different numbers of channels.
    """
    if not names:
        raise ConfigError(f"{key} is empty: name some of {', '.join(shapes)}, finest first")
    for name in names:
        if name not in shapes:
            raise ConfigError(f"{key} names {name}, but the backbone gives {', '.join(shapes)}")
    channels = {name: shapes[name].channels for name in names}
    if len(set(channels.values())) > 1:
        raise ConfigError(f"{key} must name feature maps with the same number of channels, not {channels}")
    return [shapes[name] for name in names]
