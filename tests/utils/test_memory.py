"""What the C library does with freed memory."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from centermask_solo.utils.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.empty(48 * 2**20, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults(), keep_freed_memory(), faults() and faults())
"""


def run(**environment):
    command = [sys.executable, "-c", FAULTS]
    env = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | environment
    before, is_kept, after = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()
    return int(before), is_kept == "True", int(after)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")
def test_large_blocks_are_used_again():
    before, is_kept, after = run()
    assert is_kept
    assert after < before / 4


def test_settings_of_the_user_stay():
    assert run(MALLOC_TRIM_THRESHOLD_="1000000")[1] is False
