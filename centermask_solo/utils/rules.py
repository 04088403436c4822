"""Values of options and arguments, and the rules that they obey: what is allowed, in words and as a test."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

from .errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What an option allows.

    Attributes:
        text: Completes the sentence "the option must be ...".
        allows: Whether a value obeys the rule; must not raise, whatever the value.
    """

    text: str
    allows: Callable[[Any], bool]


def value_of(cfg: Any, key: str) -> Any:
    """Return the value of an option of a config by its full name, such as "MODEL.DEVICE"."""
    return reduce(getattr, key.split("."), cfg)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def at_least(minimum: float) -> Rule:
    """Return the rule of finite numbers from ``minimum`` on."""
    return Rule(f"at least {minimum}", lambda value: is_number(value) and value >= minimum)


def above(minimum: float) -> Rule:
    """Return the rule of finite numbers greater than ``minimum``."""
    return Rule(f"greater than {minimum}", lambda value: is_number(value) and value > minimum)


def between(minimum: float, maximum: float) -> Rule:
    """Return the rule of numbers from ``minimum`` to ``maximum``, both included."""
    return Rule(f"from {minimum} to {maximum}", lambda value: is_number(value) and minimum <= value <= maximum)


def integer(minimum: int, maximum: int | None = None) -> Rule:
    """Return the rule of integers from ``minimum`` to ``maximum``."""
    text = f"an integer of at least {minimum}" if maximum is None else f"an integer from {minimum} to {maximum}"
    return Rule(text, lambda value: _is_integer(value) and minimum <= value <= (maximum or value))


def one_of(*choices: object) -> Rule:
    """Return the rule of values that equal one of ``choices``."""
    texts = [f'"{x}"' if isinstance(x, str) else str(x) for x in choices]
    text = " or ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else texts[0]
    return Rule(text, lambda value: any(type(value) is type(x) and value == x for x in choices))


def unless(special: object, rule: Rule) -> Rule:
    """Return the rule that allows ``special`` and what ``rule`` allows."""
    text = f'{rule.text}, or "{special}"' if isinstance(special, str) else f"{rule.text}, or {special}"
    return Rule(text, lambda value: (type(value) is type(special) and value == special) or rule.allows(value))


def each(rule: Rule, *, minimum: int = 0, length: int | None = None) -> Rule:
    """Return the rule of lists whose entries obey ``rule``: at least ``minimum`` of them, or exactly ``length``."""
    if length is not None:
        text = f"a list of {length}, each {rule.text}"
    else:
        text = f"a list{' that is not empty' if minimum else ''}, each entry {rule.text}"

    def allows(value: Any) -> bool:
        if not isinstance(value, list | tuple) or len(value) < minimum or length not in (None, len(value)):
            return False
        return all(map(rule.allows, value))

    return Rule(text, allows)


def ascending(rule: Rule) -> Rule:
    """Return the rule of lists whose entries obey ``rule`` and grow."""
    entries = each(rule)

    def allows(value: Any) -> bool:
        return entries.allows(value) and all(a < b for a, b in pairwise(value))

    return Rule(f"{entries.text}, in ascending order", allows)


NAME = Rule("a name", lambda value: isinstance(value, str) and value != "")
NAMES = each(NAME)
SOME_NAMES = each(NAME, minimum=1)
NUMBER = Rule("a finite number", is_number)
POSITIVE = above(0)
COUNT = integer(1)
MAX_EDGE = 8192  # pixels, of images that are made here: a few of them fit in memory
IMAGE_SIZE = each(integer(1, MAX_EDGE), length=2)
BATCH = "images per forward pass"  # what a batch size counts
SHARE = Rule("greater than 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
PROBABILITY = Rule("greater than 0 and less than 1", lambda value: is_number(value) and 0 < value < 1)
THRESHOLD = Rule("at least 0 and less than 1", lambda value: is_number(value) and 0 <= value < 1)


def check_count(value: object, what: str, fix: str = "give 1 or more") -> None:
    """Raise ConfigError unless a value is an integer from 1 on.

    Args:
        value: Argument of a function.
        what: Of what it is the number, in plural.
        fix: What to do, for the message.
    """
    if not COUNT.allows(value):
        raise ConfigError(f"{value!r} {what} are impossible: {fix}")


def check_image_size(size: object, fix: str = "") -> None:
    """Raise ConfigError unless a value is the height and width of images, such as can be made.

    Args:
        size: Argument of a function.
        fix: What else it may be, for the message.
    """
    if not IMAGE_SIZE.allows(size):
        raise ConfigError(
            f"{size!r} is no size of images: give height and width in pixels, each from 1 to {MAX_EDGE}{fix}"
        )


def argument(rule: Rule, kind: type[int] | type[float] = int) -> Callable[[str], Any]:
    """Return a ``type`` for ``ArgumentParser.add_argument``: a number, or a word, that obeys ``rule``.

    Args:
        rule: What the argument allows.
        kind: ``int`` or ``float``.
    """

    def parse(text: str) -> Any:
        value: Any
        try:
            value = kind(text)
        except ValueError:
            value = text  # which a rule may allow
        if not rule.allows(value):
            raise argparse.ArgumentTypeError(f"must be {rule.text}, not {text!r}")
        return value

    return parse
