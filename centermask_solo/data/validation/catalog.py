"""The table of all checks, which the report, the command line and the documentation share."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ...utils.errors import ConfigError
from ...utils.text import nearest_hint
from . import image_rules, rules
from .findings import Rule

RULES = tuple(x for module in (rules, image_rules) for x in vars(module).values() if isinstance(x, Rule))  # worst first

_PAGE = """# Checks of datasets

What `centermask-solo data check` looks for; [data tools](data_tools.md#check) explains how to use it. This page is
generated:

```
centermask-solo data check --list --markdown > docs/data_checks.md
```

Training and evaluation refuse an `error`, too, and what is `tolerated` if more than 1 % of the annotations have it;
otherwise those objects are repaired or dropped. `no mask` is the same where a model needs masks. A file that is `empty`
can be read, but not trained or evaluated on. A `warning` may spoil results, and a `note` is often meant.

"""


def select(only: Iterable[str] = (), skip: Iterable[str] = ()) -> frozenset[str]:
    """Return the ids of the checks to make.

    Args:
        only: Ids, or patterns such as ``box-*``; all checks if there are none.
        skip: Ids or patterns of those to leave out.

    Raises:
        ConfigError: A pattern fits no check.
    """
    wanted = _matching(only) or {x.id for x in RULES}
    return frozenset(wanted - _matching(skip))


def _matching(patterns: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        fitting = {x.id for x in RULES if fnmatchcase(x.id, pattern)}
        if not fitting:
            near = nearest_hint(pattern, [x.id for x in RULES])
            raise ConfigError(f"there is no check {pattern!r}{near}; --list prints all")
        found |= fitting
    return found


def checks_table() -> str:
    """Return all checks as a table of text: id, severity, what is wrong."""
    width, kinds = max(len(x.id) for x in RULES), max(len(x.severity.value) for x in RULES)
    return "\n".join(f"{x.id:{width}}  {x.severity.value:{kinds}}  {x.title}" for x in RULES)


def checks_json() -> list[dict[str, str]]:
    """Return all checks as JSON has them."""
    return [{"id": x.id, "severity": x.severity.value, "title": x.title, "fix": x.fix} for x in RULES]


def checks_page() -> str:
    """Return ``docs/data_checks.md``."""
    rows = "\n".join(f"| `{x.id}` | {x.severity.value} | {x.title} | {x.fix} |" for x in RULES)
    return f"{_PAGE}| id | severity | what is wrong | what to do |\n| --- | --- | --- | --- |\n{rows}\n"
