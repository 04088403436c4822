"""Items that stand for many."""

from __future__ import annotations


def spread(length: int, most: int) -> list[int]:
    """Return at most ``most`` indices, evenly spread over ``length`` items, from the first one on."""
    count = min(length, most)
    return [i * length // count for i in range(count)]
