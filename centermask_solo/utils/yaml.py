"""YAML, parsed by libyaml where it is installed, ten times as fast as in Python."""

from __future__ import annotations

from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DAMAGED = (  # what parsing raises, here and in Detectron2's loader, over a text that is no YAML or no config
    yaml.YAMLError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def load_yaml(text: str) -> Any:
    """Return the plain values that a YAML document holds.

    Raises:
        yaml.YAMLError: It is not a YAML document.
    """
    return yaml.load(text, _Loader)
