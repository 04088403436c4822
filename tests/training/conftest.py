"""Fixtures of this folder."""

import pytest

from tests.forked import launch_forked


@pytest.fixture
def forked_processes(monkeypatch):
    """Let ``launch`` start processes that begin with everything imported."""
    monkeypatch.setattr("torch.multiprocessing.start_processes", launch_forked)
