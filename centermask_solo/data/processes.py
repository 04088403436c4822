"""What the processes of a training do once per machine, and all find out about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from detectron2.utils import comm

from ..utils.errors import UserError

Result = TypeVar("Result")


def once_per_machine(make: Callable[[], Result]) -> list[Result]:
    """Return what a function returns in the first process of each machine, in all processes.

    All processes must call this together.

    Raises:
        UserError: What the function raises in any process; then it is raised in all.
    """
    found: Result | UserError | None = None
    if comm.get_local_rank() == 0:
        try:
            found = make()
        except UserError as error:
            found = error
    results: list[Result] = []
    for x in comm.all_gather((comm.get_local_rank() == 0, found)):
        if isinstance(x[1], UserError):
            raise x[1]
        if x[0]:
            results.append(x[1])
    return results
