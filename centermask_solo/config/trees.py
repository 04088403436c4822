"""Options as trees of nodes, as flat tables, and as YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml


def keys_of(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the full names of all options and groups of options below ``node``."""
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{name}.")


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the options below ``node``: full names to values."""
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts of what :func:`flatten` returned."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        node = root
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return root


class _Dumper(yaml.SafeDumper):
    """Writes lists and tuples on one line, and groups of options as blocks."""


def _represent_sequence(dumper: yaml.SafeDumper, value: Any) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(list, _represent_sequence)
_Dumper.add_representer(tuple, _represent_sequence)


def to_yaml(flat: Mapping[str, Any]) -> str:
    """Return the text of a config file with these options, in their order."""
    return yaml.dump(nest(flat), Dumper=_Dumper, sort_keys=False, width=120)
