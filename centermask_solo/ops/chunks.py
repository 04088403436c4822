"""Chunk sizes that bound memory."""

from __future__ import annotations


def rows_per_chunk(budget: int, row_size: int) -> int:
    """Return how many rows of ``row_size`` elements fit into ``budget`` elements; at least 1.

    Args:
        budget: Maximum number of elements in a chunk.
        row_size: Number of elements in a row; 0 counts as 1.
    """
    return max(budget // max(row_size, 1), 1)
