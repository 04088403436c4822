"""Wait for what another thread does."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    """Return as soon as a condition is true; fail if it is not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)
