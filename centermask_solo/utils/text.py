"""Text for messages: the nearest name to a misspelled one, lists cut short, single lines, and what can be encoded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MAX_NAMED = 10  # items of a list in one message
MIN_SIMILARITY = 0.6  # of a name that is worth proposing: twice the letters in common over those of both


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the entry of ``known`` that resembles ``name`` most; "" if none does."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=MIN_SIMILARITY)
    return matches[0] if matches else ""


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return "; the nearest one is X", or "" if nothing in ``known`` resembles ``name``."""
    near = nearest(name, known)
    return f"; the nearest one is {near}" if near else ""


def name_some(items: Sequence[str], limit: int = MAX_NAMED) -> str:
    """Return the first ``limit`` items, comma separated, and how many more there are."""
    named = ", ".join(items[:limit])
    return named if len(items) <= limit else f"{named} and {len(items) - limit} more"


def counted(number: float | str, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images", "1 class", "0 classes", "1 category", "3 categories".

    Args:
        number: As a text where it is formatted in another way than by default.
        noun: In singular; only its last word changes.
    """
    if str(number) == "1":
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number} {noun[:-1]}ies"
    ending = "es" if noun.endswith(("s", "x", "tch")) else "s"
    return f"{number} {noun}{ending}"


def one_line(text: object) -> str:
    """Return the text of an object on one line, with single spaces."""
    return " ".join(str(text).split())


def first_line(error: BaseException, max_length: int = 200) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:max_length]


def printable(text: str) -> str:
    r"""Return a text with escapes such as ``\udce9`` for what UTF-8 cannot encode, as in names of other encodings."""
    return text.encode("utf-8", "backslashreplace").decode()
