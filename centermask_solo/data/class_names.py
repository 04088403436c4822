"""Read class names from the command line or from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..utils.errors import ConfigError
from ..utils.reading import read_text, reading

FORMS = "a .txt file with one name per line, or a .json file with a list of names or in COCO format"


def read_class_names(given: Sequence[str]) -> list[str]:
    """Return class names in the order of the model's classes.

    Args:
        given: The names themselves, or the path of one file: a .txt file with one name per line, or a .json file with a
            list of names or in COCO format, whose categories are sorted by id.

    Raises:
        ConfigError: The file is missing or holds no names, or a name occurs twice.
    """
    names = list(given)
    if len(given) == 1 and given[0].endswith((".txt", ".json")):
        try:
            with reading(given[0], ConfigError):
                names = _parse(given[0], read_text(given[0], ConfigError))
        except FileNotFoundError as error:
            raise ConfigError(
                f"the file of class names {given[0]} is missing: correct the path, or list the names"
            ) from error
    duplicates = {name for name in names if names.count(name) > 1}
    if duplicates:
        raise ConfigError(f"the class name '{min(duplicates)}' occurs twice: give every class its own name")
    return names


def _parse(path: str, text: str) -> list[str]:
    if path.endswith(".txt"):
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            names = json.loads(text)
            if isinstance(names, dict):
                names = [category["name"] for category in sorted(names["categories"], key=lambda x: x["id"])]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} holds no class names: give {FORMS}") from error
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path} holds no class names: give {FORMS}")
    return names
