"""Names of classes as a user gives them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

FORMS = "a .txt file with a name on each line, or a .json file with a list of names or in COCO format"


def read_class_names(given: Sequence[str]) -> list[str]:
    """The names of classes in the model's order: ``given``, or what is in the one file that it names.

    Args:
        given: names; or the path of a .txt file with a name on each line, or of a .json file with a list of names or in
            COCO format, whose classes are ordered by id.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no names, or a name stands twice.
    """
    names = list(given)
    if len(given) == 1 and given[0].endswith((".txt", ".json")):
        if not os.path.isfile(given[0]):
            raise FileNotFoundError(f"there is no file {given[0]} with names of classes")
        with open(given[0], encoding="utf-8") as file:
            names = _from_text(given[0], file.read())
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"the class '{min(twice)}' is named twice: give every class a name of its own")
    return names


def _from_text(path: str, text: str) -> list[str]:
    if path.endswith(".txt"):
        names = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        try:
            names = json.loads(text)
            if isinstance(names, dict):
                names = [category["name"] for category in sorted(names["categories"], key=lambda x: x["id"])]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not name classes: give {FORMS}") from error
    if not names or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} does not name classes: give {FORMS}")
    return names
