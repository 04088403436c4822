"""What of the documentation is not run as it stands, and why: the table rules.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from .pages import Command, commands_of, page_name

TABLE = Path(__file__).with_name("rules.yaml")


@dataclass(frozen=True)
class Rule:
    """A row of the table.

    Attributes:
        why: The reason, for readers of the results.
        match: Pattern that occurs in the text of the commands.
        page: Pattern of the names of pages, as a shell has them.
        skip: Whether the commands are not run at all.
        replace: What stands in place of some texts.
        append: What stands at the end.
        code: Exit code that is right.
        pending: Whether a result of the commands is not demanded yet.
    """

    why: str
    match: str = ""
    page: str = "*"
    skip: bool = False
    replace: dict[str, str] = field(default_factory=dict)
    append: str = ""
    code: int = 0
    pending: bool = False

    def fits(self, command: Command) -> bool:
        """Return whether the rule is about a command."""
        if not fnmatch(command.page, self.page) or not re.search(self.match, command.text):
            return False
        return not self.replace or any(old in command.text for old in self.replace)


@dataclass(frozen=True)
class Plan:
    """How a command is run.

    Attributes:
        command: As the page has it.
        text: As it is run; "" if it is not.
        code: The exit code that is right.
        why: The reasons for what differs.
        pending: Why no result of it is demanded yet; "" if one is.
    """

    command: Command
    text: str
    code: int
    why: tuple[str, ...]
    pending: str = ""


@dataclass(frozen=True)
class Table:
    """The rules, and the files that pages need under names of their own: name to the name in the store."""

    rules: list[Rule]
    files: dict[str, dict[str, str]]


def read_table(path: Path = TABLE) -> Table:
    """Read rules.yaml."""
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Table([Rule(**row) for row in data["rules"]], data["files"])


def plan(command: Command, rules: Iterable[Rule]) -> Plan:
    """Apply all rules that fit, in their order."""
    every = [rule for rule in rules if rule.fits(command)]
    pending = next((rule.why for rule in every if rule.pending), "")
    fitting = [rule for rule in every if not rule.pending]
    why = tuple(dict.fromkeys(rule.why for rule in fitting))
    skipped = tuple(rule.why for rule in fitting if rule.skip)
    if skipped:
        return Plan(command, "", 0, skipped)
    text, code = command.text, 0
    for rule in fitting:
        for old, new in rule.replace.items():
            text = text.replace(old, new)
        text = f"{text} {rule.append}".strip() if rule.append else text
        code = rule.code or code
    return Plan(command, text, code, why, pending)


def plans_of(paths: Iterable[Path], rules: Sequence[Rule]) -> dict[str, list[Plan]]:
    """Return how the commands of pages are run, by the names of the pages; pages without a command are left out."""
    plans = {page_name(path): [plan(x, rules) for x in commands_of(path)] for path in paths}
    return {page: found for page, found in plans.items() if found}
