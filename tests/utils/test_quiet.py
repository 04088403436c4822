"""Warnings that users can do nothing about stay off the screen, those of child processes, too."""

import os
import subprocess
import sys
import warnings

from centermask_solo.utils.quiet import DEPRECATED, hide_foreign_warnings

PROGRAM = """
import warnings
for text in ("`torch.jit.script` is deprecated. Use another", "`broadcast_buffers` is deprecated", "another"):
    warnings.warn(text, FutureWarning)
"""


def test_foreign_warnings_are_hidden_and_others_shown(monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::ImportWarning")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            hide_foreign_warnings()
        for text in (*DEPRECATED, "another"):
            warnings.warn(text, FutureWarning, stacklevel=1)
    assert [str(x.message) for x in seen] == ["another"]
    rules = os.environ["PYTHONWARNINGS"].split(",")
    assert rules[0] == "ignore::ImportWarning" and len(rules) == len(set(rules))
    child = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert child.stderr.count("Warning: ") == 1 and "FutureWarning: another" in child.stderr
