"""Write the reference of all options, ``docs/configuration.md``, from the modules in :mod:`.options`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from detectron2.config import get_cfg

from .old_names import SOURCES
from .options import SUBJECTS, add_centermask_solo_config, nms
from .ranges import find_rule
from .trees import flatten

_HEADING = re.compile(r"# --- (.+) ---")
_INTRODUCTION = """# Options

All options that this package adds to Detectron2's config, with their defaults. Detectron2's own are described
[in its documentation](https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references).
`centermask-solo config show FILE` prints all options of a config file, and with `--diff` those that differ from the
defaults.

This page is generated: edit the comments in `centermask_solo/config/options/` and run

```
centermask-solo config docs > docs/configuration.md
```
"""
_NAMES = """## Names in other code

Options of AdelaiDet, of CenterMask2 and of earlier versions of this package. A renamed option is an error that names
the new one, and an option without effect is ignored, with a line in the log.
`centermask-solo config convert IN.yaml OUT.yaml` rewrites a config file. It merges the `_BASE_` files, which may have
old names as well, into the new file, translates values, and lists what it changed.
"""


@dataclass(frozen=True)
class Entry:
    """An option as its module describes it.

    Attributes:
        key: Full name.
        heading: Heading that it is below; "" for none.
        meaning: Comment above it and behind it; "" for none.
    """

    key: str
    heading: str
    meaning: str


def read_entries(module: ModuleType) -> list[Entry]:
    """Return the options that the assignments in a module of options add, with their comments."""
    path = Path(str(module.__file__))
    source = path.read_text(encoding="utf-8")
    comments, lines = _comments(source), source.splitlines()
    entries = []
    for node, target in _assignments(ast.parse(source)):
        above: list[str] = []
        line = node.lineno - 1
        while line in comments and lines[line - 1].lstrip().startswith("#") and not _HEADING.match(comments[line]):
            above.insert(0, comments[line])
            line -= 1
        behind = comments.get(node.end_lineno or node.lineno, "")
        meaning = " ".join(text.removeprefix("# ") for text in (*above, behind) if text)
        headings = [found for i in sorted(comments) if i < node.lineno and (found := _HEADING.match(comments[i]))]
        entries.append(Entry(target, headings[-1].group(1) if headings else "", meaning))
    return entries


def _comments(source: str) -> dict[int, str]:
    """Return the comment on each line that has one; the first line is 1."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}


def _assignments(tree: ast.AST) -> Iterator[tuple[ast.Assign, str]]:
    """Yield the assignments to options, and the full names of these, in order."""
    groups: dict[str, str] = {"cfg": ""}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    for node in sorted(found, key=lambda node: node.lineno):
        names = [ast.unparse(target) for target in node.targets]
        keys = [_full_name(name, groups) for name in names if "." in name]
        if isinstance(node.value, ast.Call) and ast.unparse(node.value) == "CfgNode()":
            groups.update({name: f"{keys[0]}." if keys else "" for name in names if "." not in name})
        elif keys and keys[0].rpartition(".")[2].isupper():
            yield node, keys[0]


def _full_name(name: str, groups: dict[str, str]) -> str:
    variable, _, rest = name.partition(".")
    return groups[variable] + rest


def configuration_page() -> str:
    """Return the text of ``docs/configuration.md``."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    values = flatten(cfg)
    parts = [_INTRODUCTION]
    for module in SUBJECTS:
        parts.append(_section(module, values))
    parts.append(_nms_section(values))
    parts.append(_NAMES)
    for source, names in SOURCES.items():
        rows = [
            f"| `{key}` | {f'`{old.new}`' if old.new else 'ignored'} | {_sentence(old.note)} |"
            for key, old in names.items()
        ]
        parts.append("\n".join([f"### {source}\n", "| option | today | note |", "| --- | --- | --- |", *rows, ""]))
    return "\n".join(parts)


def _section(module: ModuleType, values: dict[str, Any]) -> str:
    """Return the section of a module: its title and docstrings, and a table for each heading."""
    lines = [f"## {str(module.__doc__).strip().rstrip('.')}", "", _notes(module.add_options), ""]
    heading = None
    for entry in read_entries(module):
        if entry.heading != heading:
            heading = entry.heading
            lines += [f"### {heading}", ""] if heading else []
            lines += ["| option | default | values | meaning |", "| --- | --- | --- | --- |"]
        default = f"`{_text(values[entry.key])}`" if entry.key in values else "see [NMS](#nms)"
        ruled = not isinstance(values.get(entry.key, True), bool)  # neither a switch nor a group of options
        allowed = _allowed(entry.key) if ruled else ""
        lines.append(f"| `{entry.key}` | {default} | {allowed} | {_sentence(entry.meaning)} |")
    return re.sub(r"(\|\n)(### |\| option )", r"\1\n\2", "\n".join(lines)) + "\n"


def _notes(function: Any) -> str:
    """Return what a docstring says after its first sentence."""
    _, _, rest = " ".join(str(function.__doc__).split()).partition(". ")
    return rest.replace("``", "`")


def _nms_section(values: dict[str, Any]) -> str:
    """Return the section on NMS, whose options every system with NMS has."""
    nodes = sorted(key.removesuffix(".NAME") for key in values if key.endswith(".NMS.NAME"))
    lines = [
        "## NMS",
        "",
        f"The same options in {', '.join(f'`{node}`' for node in nodes)}. {_notes(nms.nms_node)}",
        "",
    ]
    lines += ["| option | default | values | meaning |", "| --- | --- | --- | --- |"]
    for entry in read_entries(nms):
        defaults = {node: values[f"{node}.{entry.key}"] for node in nodes}
        if len(set(defaults.values())) == 1:
            default = f"`{_text(next(iter(defaults.values())))}`"
        else:
            default = ", ".join(f"{node.split('.')[1]}: `{_text(value)}`" for node, value in defaults.items())
        allowed = _allowed(f"{nodes[0]}.{entry.key}")
        lines.append(f"| `NMS.{entry.key}` | {default} | {allowed} | {_sentence(entry.meaning)} |")
    return "\n".join(lines) + "\n"


def _allowed(key: str) -> str:
    """Return what an option allows."""
    rule = find_rule(key)
    return rule.text if rule else ""


def _text(value: Any) -> str:
    """Return a value as it is written in a config file."""
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def _sentence(text: str) -> str:
    """Return a comment with a capital letter in front, unless it begins with a name."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b", text) else text
