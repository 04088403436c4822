"""Class names of a model against those of data or of another model: matched by name, never by position alone."""

from __future__ import annotations

from collections.abc import Sequence

from .text import name_some

MAX_LISTED = 100  # names of a list in one message


def class_name(names: Sequence[str], class_index: int) -> str:
    """Return the name of a class; "class 3", for one, if there is none."""
    return names[class_index] if class_index < len(names) else f"class {class_index}"


def class_order(model: Sequence[str], data: Sequence[str]) -> list[int] | None:
    """Return the index in ``data`` of each class of ``model``; None unless both have the same names.

    Used wherever detections are compared with annotations. Names are compared exactly, case and spaces included; equal
    lists are in order even if a name occurs twice.
    """
    if list(model) == list(data):
        return list(range(len(data)))
    index = {name: i for i, name in enumerate(data)}
    if len(index) != len(data) or len(model) != len(data) or index.keys() != set(model):
        return None
    return [index[name] for name in model]


def list_names(names: Sequence[str]) -> str:
    """Return class names for a message, quoted where quotes show what differs; long lists are cut short."""
    return name_some([repr(name) if name != name.strip() or "," in name else name for name in names], MAX_LISTED)


def explain_mismatch(model: Sequence[str], data: Sequence[str]) -> str:
    """Return which names only one of two lists has, then both lists, for the message of an error."""
    only = [(who, [x for x in a if x not in b]) for who, a, b in (("model", model, data), ("dataset", data, model))]
    missing = "; ".join(f"only the {who} has {list_names(names)}" for who, names in only if names)
    return f"{missing or 'a name occurs twice'} (model: {list_names(model)}; dataset: {list_names(data)})"
