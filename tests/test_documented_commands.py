"""scripts/documented_commands runs every command of the documentation, or says why it does not."""

import json
import re
import sys
import tempfile
from pathlib import Path

import pytest

from centermask_solo.data.shapes.generator import generate_shapes
from scripts.documented_commands import __main__ as program
from scripts.documented_commands import record
from scripts.documented_commands.forks import server
from scripts.documented_commands.makers import MAKERS
from scripts.documented_commands.pages import (
    DOCUMENTS,
    Command,
    code_blocks,
    commands_of,
    page_name,
    pages_of,
    split_block,
)
from scripts.documented_commands.rules import Plan, Rule, plan, plans_of, read_table
from scripts.documented_commands.world import World
from tests.test_docs import documents

TABLE = read_table()
PROGRAMS = {"python", "centermask-solo", "make", "pip", "git", "find", "source"}
COMMANDS = [command for path in DOCUMENTS for command in commands_of(path)]


@documents
def test_blocks_without_a_language_are_for_the_shell(path):
    """Whatever a program prints, and drawings, are blocks of text."""
    for block in code_blocks(path):
        for text in split_block(block):
            lines = [line for line in text.splitlines() if not re.match(r"export \w+=|\w+=", line)]
            assert lines and lines[0].split()[0] in {*PROGRAMS, "for"}, text


def test_commands_of_a_block():
    block = "# first\nA=1\npython a.py \\\n  --b c  # comment\n\nmake x  # comment\n"
    assert list(split_block(block)) == ["A=1\npython a.py --b c", "make x"]
    loop = "A=1\nfor i in 1 2; do  # comment\n    make $i\ndone"
    assert list(split_block(loop)) == [loop.replace("  # comment", "")]


def test_commands_in_the_text_are_found(tmp_path):
    names = {command.text for command in COMMANDS}
    assert "centermask-solo data check train.json photos/ --against val.json photos/" in names
    assert "python -m benchmarks.solov2_memory" in names  # without the optional arguments
    assert "centermask-solo predict" not in names  # the name of a command


def test_pages_are_found_by_their_names_or_the_ends():
    assert [page_name(x) for x in pages_of("README.md")] == ["README.md"]
    assert [page_name(x) for x in pages_of("solov2.md")] == ["docs/systems/solov2.md"]
    assert pages_of("") == DOCUMENTS
    assert pages_of("no.md") == []


def test_every_rule_fits_a_command_and_has_a_reason():
    for rule in TABLE.rules:
        assert rule.why, rule
        fitting = [command for command in COMMANDS if rule.fits(command)]
        assert fitting, rule
        for old in rule.replace:
            assert any(old in command.text for command in fitting), old


def test_a_command_is_run_or_a_reason_says_why_not():
    plans = [plan(command, TABLE.rules) for command in COMMANDS]
    assert all(bool(x.text) or x.why for x in plans)
    assert all(x.why for x in plans if x.text != x.command.text)
    assert sum(not x.text for x in plans) < len(plans) / 3
    names = r"[ \[](FILE|IN|OUT|CONFIG|FOLDER|HEIGHT|WIDTH|JSON|MORE|[A-Z])\b(?!=)|…|\[--"
    left = [x.text for x in plans if x.command.language == "shell" and re.search(names, x.text)]
    assert left == [], "words that stand for a name"


def test_files_of_pages_are_made_and_used():
    for page, files in TABLE.files.items():
        assert {kept.split("/")[0] for kept in files.values()} <= set(MAKERS)
        texts = "\n".join(plan(x, TABLE.rules).text for x in COMMANDS if page in ("*", x.page))
        for name in files:
            if "." in name:
                assert name in texts, f"{page}: {name}"


def test_rules_apply_in_their_order():
    command = Command("docs/a.md", "python x.py FILE")
    rules = [
        Rule("name", replace={"FILE": "a.pth"}),
        Rule("end", match="x.py", append="--b"),
        Rule("other page", page="docs/b.md", skip=True),
        Rule("fails", match="FILE$", code=3),
    ]
    assert plan(command, rules) == Plan(command, "python x.py a.pth --b", 3, ("name", "end", "fails"))
    assert plan(command, [*rules, Rule("later", pending=True)]).pending == "later"
    assert plan(command, [*rules, Rule("no", skip=True)]) == Plan(command, "", 0, ("no",))


def test_exit_codes_and_time(tmp_path):
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", None, tmp_path / "socket")
    for text, code in (("exit 3", 3), ("false; true", 1), ("echo $UNSET_NAME", 1), ("sleep 30 & wait", 124)):
        found, seconds = world.run(Plan(Command("a.md", text), text, 0, ()), 7, tmp_path / "log.txt", 0.5)
        assert (found, seconds < 10) == (code, True), text
    assert world.run(Plan(Command("a.md", ""), "echo $NUMBER; ls -a", 0, ()), 7, tmp_path / "log.txt", 9)[0] == 0
    assert (tmp_path / "log.txt").read_text().splitlines() == ["$ echo $NUMBER; ls -a", "", "7", ".", ".."]


def photographs(folder: Path) -> None:
    """Put generated images where COCO's are, with names and ids that differ between the splits."""
    (folder / "coco" / "annotations").mkdir(parents=True)
    for split, first in (("train", 0), ("val", 1000)):
        source = generate_shapes(folder, split, 10)
        data = json.loads((source / "annotations.json").read_text())
        (folder / "coco" / f"{split}2017").mkdir()
        for image in data["images"]:
            name = f"{split}_{image['file_name']}"
            (source / "images" / image["file_name"]).rename(folder / "coco" / f"{split}2017" / name)
            image |= {"file_name": name, "id": image["id"] + first}
        for x in data["annotations"]:
            x |= {"id": x["id"] + first, "image_id": x["image_id"] + first}
        (folder / "coco" / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(data))


@pytest.mark.slow
def test_programs_have_the_datasets_of_the_world(tmp_path, monkeypatch):
    """Those of the user, from which the photographs come, are not theirs to write to."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "users"))
    program = "import centermask_solo.registration as r; print(r.datasets.MetadataCatalog.get('shapes_val').json_file)"
    text = f'python -c "{program}"; DETECTRON2_DATASETS=others python -W ignore -c "{program}"'
    with tempfile.TemporaryDirectory() as folder:
        world = World(tmp_path / "world", None, Path(folder) / "socket")
        world.make({})
        with server(world.socket, world.folder, world.environment(0)):
            code, _ = world.run(Plan(Command("a.md", text), text, 0, ()), 1, tmp_path / "log.txt", 100)
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert (code, log[2:]) == (
        0,
        [str(tmp_path / "world/datasets/shapes/val/annotations.json"), "others/shapes/val/annotations.json"],
    )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Keeps results in a folder of the test's own; returns how the commands of two pages are run."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(record, "PAGE", tmp_path / "page.md")
    texts = {"a": ("a", ()), "b": ("b --c", ("short",)), "c": ("", ("no",)), "d": ("d", ())}
    plans = [(old, new, why) for old, (new, why) in texts.items()]
    return {
        page: [Plan(Command(page, old), new, 0, why) for old, new, why in plans[:count]]
        for page, count in (("a.md", 3), ("b.md", 4))
    }


def test_results_of_pages_are_kept_together(kept):
    record.record("b.md", kept, ["", "", "", "exit code 1"])
    record.record("a.md", kept, ["exit code 1", "", ""])
    record.record("a.md", kept, ["", "", ""])
    page = record.PAGE.read_text()
    assert re.search(r"^\| a.md \| 3 \| 1 \| 1 \| 0 \| 1 \| \d{4}-\d\d-\d\d \| .*torch \d.* \|$", page, re.M)
    assert re.search(r"^\| b.md \| 4 \| 1 \| 1 \| 1 \| 1 \|", page, re.M)
    assert "\n| all | 7 | 2 | 2 | 1 | 2 | | |\n\n## Failed\n\n* exit code 1: `d`: b.md (1)\n" in page
    assert page.endswith("## Not run\n\n* no: a.md (1), b.md (1)\n\n## Changed\n\n* short: a.md (1), b.md (1)\n")


def test_a_command_without_a_result_is_named_with_what_to_run(kept):
    record.record("a.md", kept, ["", "", ""])
    record.record("b.md", kept, ["", "", "", ""])
    assert record.missing(record.read_results(), kept) == []
    changes = {
        Plan(Command("a.md", "new"), "new", 0, ()): ["no result is kept of `new`"],
        Plan(Command("a.md", "d"), "d", 0, ()): ["no result is kept of `d`"],  # which only the other page has
        Plan(Command("a.md", "b"), "b --d", 0, ("short",)): ["no result is kept of `b`"],  # that of another way
        Plan(Command("a.md", "new"), "", 0, ("no",)): [],
        Plan(Command("a.md", "new"), "new", 0, (), "later"): [],
    }
    for change, expected in changes.items():
        lines = record.missing(record.read_results(), {**kept, "a.md": [*kept["a.md"], change]})
        how = "run 'python -m scripts.documented_commands --record --pages a.md', or give rules.yaml a reason not to"
        assert lines == [f"a.md: {x}: {how}" for x in expected]
    record.record("b.md", kept, ["", "exit code 2", "", ""])
    (line,) = record.missing(record.read_results(), kept)
    assert line.startswith("b.md: exit code 2: `b`: run ")


def test_the_page_shows_the_results_that_are_kept():
    plans, results = plans_of(DOCUMENTS, TABLE.rules), record.read_results()
    assert not (lines := record.missing(results, plans)), "\n".join(lines)
    how = "run 'python -m scripts.documented_commands --show'"
    assert record.PAGE.read_text() == record.show(results, plans), how
    assert {*results} <= {*plans}
    for rule in TABLE.rules:
        waiting = [x for of_page in plans.values() for x in of_page if rule.pending and rule.fits(x.command) and x.text]
        done = waiting and all(record.kept_fault(x, results) is not None for x in waiting)
        assert not done, f"results are kept of all commands of {rule}: remove it"


@pytest.mark.slow
def test_a_page_runs(tmp_path, monkeypatch, capfd):
    """That on converting and dividing datasets, whose images may be any."""
    photographs(tmp_path)
    words = ["--pages", "docs/convert.md", "--photos", tmp_path, "--output", tmp_path / "output", "--timeout", 60]
    rules = [Rule("classes of the shapes", match="jay", replace={"jay,magpie": "disc,ring"}), *TABLE.rules]
    monkeypatch.setattr(program, "read_table", lambda: TABLE.__class__(rules, TABLE.files))
    monkeypatch.setattr(sys, "argv", ["documented_commands", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 0, capfd.readouterr().out
    rows = json.loads((tmp_path / "output" / "results.json").read_text())["docs/convert.md"]
    (path,) = (x for x in DOCUMENTS if page_name(x) == "docs/convert.md")
    assert [row["command"] for row in rows] == [command.text for command in commands_of(path)]
    assert all(row["passed"] for row in rows) and len(rows) > 5
    log = (tmp_path / "output" / "logs" / "docs_convert.md" / "1.txt").read_text()
    assert re.search(r"16 images, \d+ objects, 10 classes: labelme to coco, in birds_coco/", log)
    assert not (tmp_path / "output" / "worlds" / "docs_convert.md").exists()
