"""The commands and programs in the documentation, in the order of each page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "datasets/*.md", "benchmarks/*.md") for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTIONAL = re.compile(r" \[--[^\]]*\]")  # of a command's arguments
STARTS = ("python ", "centermask-solo ", "make ")  # of a command between backticks
NAME = re.compile(r"centermask-solo( [a-z]+){1,2}")  # of a command, without the arguments it needs
NO_PROGRAM = re.compile(r"export \w+=|\w+=")  # how a line begins that prepares the next one


@dataclass(frozen=True)
class Command:
    """What a page tells its readers to run.

    Attributes:
        page: The page, relative to the root of the repository.
        text: Lines of the shell, without comments; or a Python program.
        language: "shell" or "python".
    """

    page: str
    text: str
    language: str = "shell"


def code_blocks(path: Path, language: str = "") -> list[str]:
    """Return the blocks of a language; those of none are for the shell."""
    return [text for kind, text in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def code_spans(path: Path) -> list[str]:
    """Return what stands between backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text(encoding="utf-8")))


def page_name(path: Path) -> str:
    """Return how rules name a page."""
    return path.relative_to(ROOT).as_posix()


def pages_of(name: str) -> list[Path]:
    """Return the page of this name, or those whose names end so."""
    return [x for x in DOCUMENTS if page_name(x) == name] or [x for x in DOCUMENTS if page_name(x).endswith(name)]


def commands_of(path: Path) -> list[Command]:
    """Return every command of a page once: those of the blocks in their order, then those in the text."""
    name = page_name(path)
    found: dict[Command, None] = {}
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language == "python":
            found[Command(name, block, "python")] = None
        elif not language:
            found.update((Command(name, text), None) for text in split_block(block))
    for span in code_spans(path):
        if span.startswith(STARTS) and not NAME.fullmatch(span):
            found[Command(name, OPTIONAL.sub("", span))] = None
    return list(found)


def split_block(block: str) -> Iterator[str]:
    """Yield the commands of a block: a line each, with the lines that continue it and the assignments before it."""
    text = re.sub(r"(?m)(^|\s{2,})#.*$", "", block)
    pieces = [text] if re.search(r"(?m)^for ", text) else re.sub(r"\\\n\s*", "", text).splitlines()
    before = ""
    for line in filter(None, (piece.strip() for piece in pieces)):
        if NO_PROGRAM.match(line) and "\n" not in line:
            before += f"{line}\n"
        else:
            yield before + line
            before = ""
    if before:
        yield before.strip()
