"""What one process of each machine finds out, all processes have; two machines are played by a gathered list."""

import pytest
from detectron2.utils import comm

from centermask_solo.data.processes import once_per_machine
from centermask_solo.utils.errors import DataError


@pytest.fixture
def others(monkeypatch):
    """What other processes send: whether they are the first of their machine, and what they found."""
    sent = []
    monkeypatch.setattr(comm, "all_gather", lambda own: [own, *sent])
    return sent


def test_all_have_what_the_first_of_each_machine_finds(others, monkeypatch):
    others += [(False, None), (True, "there"), (False, None)]
    calls = []
    assert once_per_machine(lambda: calls.append(1) or "here") == ["here", "there"] and len(calls) == 1
    others[:] = [(True, "here")]
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    assert once_per_machine(lambda: pytest.fail("not in this process")) == ["here"]


def test_all_raise_what_one_raises(others):
    def fail():
        raise DataError("here")

    others.append((True, None))
    with pytest.raises(DataError, match="here"):
        once_per_machine(fail)
    others[:] = [(True, DataError("there"))]
    with pytest.raises(DataError, match="there"):
        once_per_machine(lambda: 1)


def test_defects_keep_their_traceback(others):
    def fail():
        raise KeyError("defect")

    with pytest.raises(KeyError):
        once_per_machine(fail)
