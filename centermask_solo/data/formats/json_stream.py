"""Read the lists of a large JSON file without holding its text."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping
from typing import IO, Any

BLOCK = 2**22  # bytes that are read at once

_scan = json.JSONDecoder().raw_decode


class UnusualJSONError(ValueError):
    """A file that is not read piece by piece: it is no object, or a fault somewhere."""


class _Window:
    """The part of a file's text that is being read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended = "", 0, False

    def _more(self) -> None:
        """Drop what has been read and add a block, or as much as there is, so that long values are not read often."""
        if self._ended:
            raise UnusualJSONError
        block = self._file.read(max(BLOCK, len(self._text) - self._at))
        self._ended = not block
        self._text, self._at = self._text[self._at :] + self._decode(block, self._ended), 0

    def peek(self) -> str:
        """Return the next character other than white space; "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\n\r":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def take(self, expected: str) -> str:
        """Return the next character other than white space, which must be one of those expected, and pass it."""
        character = self.peek()
        if not character or character not in expected:
            raise UnusualJSONError
        self._at += 1
        return character

    def value(self) -> Any:
        """Return the next value, and pass it."""
        self.peek()
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except json.JSONDecodeError:
                self._more()  # perhaps it goes on
                continue
            if end < len(self._text) - 2 or self._ended:  # a number may go on with "e+"
                self._at = end
                return value
            self._more()


def read_lists(file: IO[bytes], collectors: Mapping[str, Callable[[Any], None]]) -> dict[str, Any]:
    """Return the entries of the object in a JSON file; some of its lists go to collectors, element by element.

    Args:
        file: Text in UTF-8, with or without a byte order mark.
        collectors: For each key whose value is a list, a function that takes its elements.

    Returns:
        The other entries, and None for those lists.

    Raises:
        UnusualJSONError: It has a fault, or one of the lists is none or occurs twice. Collectors may have been called.
        UnicodeDecodeError: It is not UTF-8.
        RecursionError: It is nested too deeply.
    """
    window, found = _Window(file), dict[str, Any]()
    window.take("{")
    end = window.take("}") if window.peek() == "}" else ","
    while end == ",":
        key = window.value()
        window.take(":")
        if not isinstance(key, str) or (key in collectors and key in found):
            raise UnusualJSONError
        if key in collectors:
            _collect(window, collectors[key])
            found[key] = None
        else:
            found[key] = window.value()
        end = window.take(",}")
    if window.peek():
        raise UnusualJSONError
    return found


def _collect(window: _Window, collect: Callable[[Any], None]) -> None:
    """Pass a list, whose elements ``collect`` takes."""
    window.take("[")
    end = window.take("]") if window.peek() == "]" else ","
    while end == ",":
        collect(window.value())
        end = window.take(",]")
