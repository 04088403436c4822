"""Mutated files of every kind, used by processes of their own, so that a crash is reported with its seed."""

import json
import os
from pathlib import Path

import pytest

from tests.forked import start_program
from tests.hostile.results import FILES_VARIABLE, PROPERTY

SHARES = {"annotations": 0.4, "checkpoints": 0.3, "configs": 0.15, "images": 0.15}
FEW = 400  # files of the fast part
SECONDS = 1800  # that a process may take


def fuzz(kind: str, first: int, count: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Return the counts of outcomes, and the faults with their seeds; another process goes on after a crash."""
    counts, faults, end = {"clear": 0, "accepted": 0, "wrong": 0}, [], first + count
    while first < end:
        work = folder / str(first)
        work.mkdir()
        process = start_program("tests.hostile.fuzz", [kind, str(first), str(end - first), str(work)], work / "log.txt")
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        text = (work / "log.txt").read_text(errors="backslashreplace")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        faults += [f"{kind} {x['seed']}: {x['error']}" for x in lines if "error" in x]
        if process.exitcode == 0:
            for outcome, number in lines[-1].items():
                counts[outcome] += number
            break
        assert (work / "seed").exists(), text[-2000:]
        died_at = int((work / "seed").read_text())
        faults.append(f"{kind} {died_at}: the process ended with {process.exitcode}: {text[-300:]}")
        counts["wrong"] += 1
        first = died_at + 1
    return counts, faults


@pytest.mark.parametrize("kind", SHARES)
def test_fuzz(kind, tmp_path, record_property):
    count = round(SHARES[kind] * int(os.environ.get(FILES_VARIABLE, FEW)))
    counts, faults = fuzz(kind, 0, count, tmp_path)
    for outcome, number in counts.items():
        record_property(PROPERTY, (f"fuzzed {kind}", "file", outcome, number))
    assert not faults, "\n".join(faults[:20])
    assert sum(counts.values()) == count and counts["accepted"] > 0 and counts["clear"] > 0
