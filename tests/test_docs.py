"""What the documents name exists: files, commands with their flags and options, config keys, tests and functions."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from detectron2.config import CfgNode, get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.cli import build_parser, train

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "datasets/*.md", "benchmarks/*.md") for path in ROOT.glob(pattern)
)
SOURCES = [
    path for name in ("centermask_solo", "tests", "datasets", "benchmarks") for path in ROOT.glob(f"{name}/**/*.py")
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTIONAL = re.compile(r" \[--[^\]]*\]")  # of a command's arguments
# Words in capitals that are neither options nor names in a source file
FOREIGN = {
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    *(
        "OMP_NUM_THREADS",
        "DETECTRON2_DATASETS",
        "CENTERMASK_SOLO_WEIGHTS",
        "HF_TOKEN",
        "HF_ENDPOINT",
    ),  # of the environment
    "AVX512_BF16",  # of a processor
    "MODEL_ZOO",  # a document
}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


documents = pytest.mark.parametrize("path", DOCUMENTS, ids=identify)


def code_blocks(path: Path, language: str = "") -> list[str]:
    return [text for kind, text in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def code_spans(path: Path) -> list[str]:
    """What stands between backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text(encoding="utf-8")))


def config() -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return cfg


def paths_of(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Every option and every group of options."""
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from paths_of(value, f"{prefix}{name}.")


KEYS = set(paths_of(config()))
WITH_OLD_OPTIONS = {"coming_from.md", "compatibility.md", "configuration.md"}
OLD_KEYS = {*config().__dict__[CfgNode.RENAMED_KEYS], *config().__dict__[CfgNode.DEPRECATED_KEYS]}
NAMES = {
    node.id if isinstance(node, ast.Name) else node.asname or node.name
    for path in ROOT.glob("centermask_solo/**/*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, (ast.Name, ast.alias))
}


def is_key(word: str, keys: set[str]) -> bool:
    """Whether ``word`` is one of ``keys``, or the end of one that does not begin where all begin; * stands for any."""
    if word.split(".")[0] in config():
        return any(fnmatch(key, word) for key in keys)
    return any(fnmatch(f".{key}", f"*.{word}") for key in keys)


@documents
def test_options_exist(path):
    """Only some pages may name old options: those on other code, and the reference."""
    text = "\n".join([*code_spans(path), *(block for _, block in FENCE.findall(path.read_text(encoding="utf-8")))])
    words = set(re.findall(r"(?<![\w$/.{-])[A-Z][A-Z0-9*]*(?:[._][A-Z0-9*_]+)+(?![\w(])", text))
    words -= FOREIGN | NAMES
    keys = KEYS | OLD_KEYS if path.name in WITH_OLD_OPTIONS else KEYS
    assert [word for word in sorted(words) if not is_key(word, keys)] == []


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@documents
def test_links_lead_to_files_and_their_headings(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(path: Path) -> list[list[str]]:
    """The words of every command, without comments; continued lines are one."""
    texts = [line for block in code_blocks(path) for line in block.replace("\\\n", " ").splitlines()]
    starts = ("python ", "centermask-solo ", "make ")
    texts = [text for text in (*texts, *code_spans(path)) if text.startswith(starts)]
    return [shlex.split(OPTIONAL.sub("", text).split(" > ")[0], comments=True) for text in texts]


def check_training(words: list[str]) -> None:
    """Flags are those of the command, and the options fit the config file."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(words)
    cfg = config()
    if args.config_file not in ("", "..."):
        cfg.merge_from_file(str(ROOT / args.config_file))
    cfg.merge_from_list([x for x in args.opts if x != "..."])


def check_script(words: list[str]) -> None:
    script, *rest = words
    assert (ROOT / script).is_file(), script
    if script == "train_net.py":
        check_training(rest)
        return
    for flag in rest:
        assert not flag.startswith("--") or f'"{flag}"' in (ROOT / script).read_text(), flag


def check_module(name: str, words: list[str]) -> None:
    if name == "centermask_solo.cli":
        build_parser().parse_args(words)
    else:
        assert importlib.util.find_spec(name), name


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


@documents
def test_commands_can_be_given(path):
    for program, *words in commands(path):
        if program == "make":
            check_make(words)
        elif program == "centermask-solo" and len(words) == 1:  # named, without the arguments it needs
            with pytest.raises(SystemExit) as end:
                build_parser().parse_args([words[0], "--help"])
            assert end.value.code == 0
        elif program == "centermask-solo":
            check_training(words[1:]) if words[0] == "train" else build_parser().parse_args(words)
        elif words[0] == "-m":
            check_module(words[1], words[2:])
        elif words[0] != "-c":
            check_script(words)


def messages_of_the_code() -> list[str]:
    """Every text in the package but docstrings, with … for what is filled in."""
    nodes = [node for path in ROOT.glob("centermask_solo/**/*.py") for node in ast.walk(ast.parse(path.read_text()))]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    parts += [[node] for node in nodes if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return ["".join(str(x.value) if isinstance(x, ast.Constant) else "…" for x in values) for values in parts]


def test_the_errors_of_the_page_on_troubleshooting_are_those_of_the_code():
    lines = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    symptoms = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    quotes = [span for symptom in symptoms for span in re.findall(r"`([^`]+)`", symptom) if " " in span]
    assert len(quotes) > 30
    messages = messages_of_the_code()
    for quote in quotes:
        pattern = re.compile(".*".join(map(re.escape, quote.split("…"))), re.DOTALL)
        assert any(map(pattern.search, messages)), quote


@documents
def test_examples_of_configs_and_of_python_are_valid(path):
    for block in code_blocks(path, "yaml"):
        example = CfgNode(yaml.safe_load(block))
        assert example, "an example without options"
        config().merge_from_other_cfg(example)  # refuses names and types that no option has
    for block in code_blocks(path, "python"):
        assert ast.parse(block).body, "an example without code"


PROGRAMS = [*ROOT.glob("*.py"), *(path for path in SOURCES if "tests" not in path.parts)]


@pytest.mark.parametrize("path", [*DOCUMENTS, *PROGRAMS], ids=identify)
def test_configs_exist(path):
    for name in re.findall(r"\bconfigs/[\w/.]+\.yaml", path.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


@documents
def test_tests_and_functions_exist(path):
    for span in code_spans(path):
        file = re.fullmatch(r"([\w/]+\.py)(?:::(\w+))?", span)
        if file:
            files = [
                source
                for source in (*SOURCES, *ROOT.glob("*.py"))
                if f"/{source.relative_to(ROOT)}".endswith(f"/{file[1]}")
            ]
            assert files, span
            assert not file[2] or any(f"def {file[2]}(" in source.read_text() for source in files), span
        member = re.fullmatch(r"(targets|losses|decode|heads|anchors|fcos|pooler|roi_heads|meta_arch)\.(\w+)", span)
        if member and member[2] != "py":
            files = ROOT.glob(f"centermask_solo/modeling/*/{member[1]}.py")
            assert any(
                re.search(rf"^(def |class )?{member[2]}\b", source.read_text(), re.MULTILINE) for source in files
            ), span
