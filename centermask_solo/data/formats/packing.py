"""A million JSON records in the memory of their numbers."""

from __future__ import annotations

import marshal
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, overload

Record = dict[str, Any]


class PackedRecords(Sequence[Record]):
    """Records in one block of bytes; each access makes the record anew, so that changing it has no effect.

    As objects, annotations take several times the memory, and every process that reads them gets a copy of its own,
    because reading an object changes its reference count.

    Polygons that are lists of numbers are arrays of doubles.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        """
        Args:
            records: As JSON has them.
        """
        self._content = bytearray()
        self._ends = array("Q", [0])
        for x in records:
            self.append(x)

    def append(self, record: Record) -> None:
        """Add a copy of a record."""
        polygons = record.get("segmentation")
        if type(polygons) is list:
            record = {**record, "segmentation": [pack(x) for x in polygons]}
        self._content += marshal.dumps(record)  # arrays become bytes, which JSON does not have
        self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        with memoryview(self._content) as content:
            return _unpack(content[self._ends[index] : self._ends[index + 1]])

    def __iter__(self) -> Iterator[Record]:
        with memoryview(self._content) as content:
            for start, end in pairwise(self._ends):
                yield _unpack(content[start:end])


def _unpack(content: memoryview) -> Record:
    record: Record = marshal.loads(content)
    polygons = record.get("segmentation")
    if type(polygons) is list:
        record["segmentation"] = [array("d", x) if type(x) is bytes else x for x in polygons]
    return record


def pack(numbers: Any) -> Any:
    """Return a list of numbers as an array of doubles, and anything else as it is."""
    if type(numbers) is not list or not numbers:
        return numbers
    try:
        return array("d", numbers)
    except (TypeError, OverflowError):
        return numbers
