"""The one budget that bounds the memory of computations over many objects, and chunk sizes that respect it."""

from __future__ import annotations

CHUNK_BYTES = 2**25
"""Bytes that a chunk's intermediate tensors take, whatever the number of objects: 32 MiB.

That is 8 million float32, the mask probabilities of 125 objects at an input of 800 x 1333 pixels.
"""


def rows_per_chunk(row_bytes: int) -> int:
    """Return how many rows fit into :data:`CHUNK_BYTES`; at least 1.

    Args:
        row_bytes: Bytes that the intermediate tensors take for a row; 0 counts as 1.
    """
    return max(CHUNK_BYTES // max(row_bytes, 1), 1)
