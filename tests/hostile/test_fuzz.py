"""Mutated files of every kind, used by processes of their own, so that a crash is reported with its seed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.results import FILES_VARIABLE, PROPERTY

ROOT = Path(__file__).parents[2]
SHARES = {"annotations": 0.4, "checkpoints": 0.3, "configs": 0.15, "images": 0.15}
FEW = 400  # files of the fast part
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def fuzz(kind: str, first: int, count: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Return the counts of outcomes, and the faults with their seeds; another process goes on after a crash."""
    counts, faults, end = {"clear": 0, "accepted": 0, "wrong": 0}, [], first + count
    while first < end:
        work = folder / str(first)
        work.mkdir()
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.hostile.fuzz",
            kind,
            str(first),
            str(end - first),
            str(work),
        ]
        result = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=1800)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        faults += [f"{kind} {x['seed']}: {x['error']}" for x in lines if "error" in x]
        if result.returncode == 0:
            for outcome, number in lines[-1].items():
                counts[outcome] += number
            break
        assert (work / "seed").exists(), result.stderr[-2000:]
        died_at = int((work / "seed").read_text())
        faults.append(f"{kind} {died_at}: the process ended with {result.returncode}: {result.stderr[-300:]}")
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
