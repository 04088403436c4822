"""Every benchmark reports what its user can fix in one line."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = [x for x in sorted(BENCHMARKS.glob("*.py")) if '__name__ == "__main__"' in x.read_text()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_programs_report_errors(program):
    assert "with reported_errors():" in program.read_text()


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        ("engine", ["nothing.yaml"], "nothing.yaml"),
        ("compare_systems", ["--table-only", "--output", "nothing"], "no system is trained and evaluated yet"),
        ("trained_precisions", ["nothing.pth", "--annotations", "a.json", "--images", "."], "nothing.pth"),
    ],
)
def test_bad_input_is_one_line(module, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(BENCHMARKS / f"{module}.py"), run_name="__main__")
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error


def test_tiles_finds_all_objects(capfd, monkeypatch):
    from benchmarks import tiles

    monkeypatch.setattr(tiles, "NUM_DISKS", 9)
    tiles.measure(300, tiles.Tiles(200, 0.2))
    assert "10 instances of 10 objects, worst IoU 1.000" in capfd.readouterr().out
