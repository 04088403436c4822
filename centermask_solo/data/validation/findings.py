"""What validation finds: counts and a few examples per rule, in bounded memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ..formats.coco import plain_numbers

MAX_EXAMPLES = 5  # kept per rule
TOLERATED_SHARE = 0.01  # of the annotations that may have a fault of severity TOLERATED


class Severity(Enum):
    """How a finding is treated."""

    ERROR = "error"  # refused
    TOLERATED = "tolerated"  # refused, unless so rare that dropping or repairing the objects does no harm
    NO_MASK = "no mask"  # TOLERATED where masks are needed, a warning where only boxes are
    EMPTY = "empty"  # refused for training and evaluation, but no obstacle to reading the file
    WARNING = "warning"  # reported; what needs a repair is repaired in memory
    NOTE = "note"  # worth knowing, and often meant; only a full report has it


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with a dataset."""

    id: str
    severity: Severity
    title: str  # what is wrong with one entry, such as "box without area"
    fix: str  # what to do, or for warnings what is done
    repaired: bool = False  # whether the file cannot be read as it is, and :mod:`.repair` makes a copy


@dataclass
class Finding:
    """A rule and the entries that break it."""

    rule: Rule
    count: int = 0
    examples: list[str] = field(default_factory=list)  # the first few


class Findings:
    """All findings of a dataset, by the id of their rule."""

    def __init__(self, num_annotations: int = 0) -> None:
        self._by_id: dict[str, Finding] = {}
        self._num_annotations = num_annotations

    def __iter__(self) -> Iterator[Finding]:
        """Iterate in the order of discovery."""
        return iter(self._by_id.values())

    def __contains__(self, rule: Rule) -> bool:
        return rule.id in self._by_id

    def add(self, rule: Rule, example: str | Callable[[], str], count: int = 1) -> None:
        """Count entries that break a rule; of an example that is a function, only the first few are formatted."""
        finding = self._by_id.get(rule.id)
        if finding is None:
            finding = self._by_id[rule.id] = Finding(rule)
        finding.count += count
        if len(finding.examples) < MAX_EXAMPLES:
            finding.examples.append(example if isinstance(example, str) else example())

    def count(self, rule: Rule) -> int:
        """Return how many entries break a rule."""
        return self._by_id[rule.id].count if rule.id in self._by_id else 0

    def remove(self, rule: Rule) -> None:
        """Forget a finding that other findings explain away."""
        self._by_id.pop(rule.id, None)

    def errors(self, masks: bool = True, allow_empty: bool = False) -> list[Finding]:
        """Return what is refused, see :class:`Severity`.

        Args:
            masks: Whether objects need masks.
            allow_empty: Whether a file without any object will do.
        """
        return [x for x in self if self._is_error(x, masks, allow_empty)]

    def warnings(self, masks: bool = True) -> list[Finding]:
        """Return what is reported but not refused, except notes."""
        found = [x for x in self if not self._is_error(x, masks, allow_empty=False)]
        found = [x for x in found if x.rule.severity is not Severity.NOTE]
        return [x if masks or x.rule.severity is not Severity.NO_MASK else _without_need(x) for x in found]

    def notes(self) -> list[Finding]:
        """Return what is merely worth knowing."""
        return [x for x in self if x.rule.severity is Severity.NOTE]

    def _is_error(self, finding: Finding, masks: bool, allow_empty: bool) -> bool:
        severity = finding.rule.severity
        if severity is Severity.EMPTY:
            return not allow_empty
        if severity is Severity.TOLERATED or (severity is Severity.NO_MASK and masks):
            return finding.count > TOLERATED_SHARE * self._num_annotations
        return severity is Severity.ERROR


def _without_need(finding: Finding) -> Finding:
    """Return what is said about missing masks where no model needs them."""
    return replace(finding, rule=replace(finding.rule, fix="only the box is used"))


@dataclass
class Inspection:
    """What a pass over an annotation file found; indices are those of ``annotations``."""

    findings: Findings
    counts: Counter[str] = field(default_factory=Counter)  # statistics
    objects_of_category: Counter[int] = field(default_factory=Counter)  # without crowds
    crowds_of_category: Counter[int] = field(default_factory=Counter)
    new_boxes: dict[int, list[float]] = field(default_factory=dict)  # boxes to take from the masks
    dropped: set[int] = field(default_factory=set)  # objects without a usable box
    unmasked: set[int] = field(default_factory=set)  # objects without a usable mask
    bad_polygons: dict[int, set[int]] = field(default_factory=dict)  # polygons to remove

    @property
    def needs_repair(self) -> bool:
        """Whether the file cannot be used as it is."""
        return any(x.rule.repaired for x in self.findings)


def shorten(value: Any, limit: int = 80) -> str:
    """Return a value as JSON, cut to ``limit`` characters."""
    text = json.dumps(value, default=plain_numbers)
    return text if len(text) <= limit else text[: limit - 3] + "..."
