"""Work in threads beside the main one: bounded, in order, and over when its consumer is."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

MAX_THREADS = 4  # beside the main one, for one kind of work; more wait for Python's lock

MAX_WAIT = 5.0  # seconds for a thread that reads a camera to end

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_beside(device_type: str) -> int:
    """Return how many threads of one kind help a main thread whose work runs on a device.

    Args:
        device_type: "cpu", whose cores the main thread uses itself, so that on one core there is none; or another.
    """
    cores = available_cores()
    return 0 if device_type == "cpu" and cores == 1 else min(max(cores // 4, 1), MAX_THREADS)


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield ``function`` of each item, in their order, computed in threads ahead of the consumer.

    An error comes in the place of its result. Close the generator to end the threads: what has not begun is dropped.

    Args:
        function: Called in the threads.
        items: Taken in the consumer's thread.
        threads: Number of threads; 0 to call the function when its result is asked for.
        ahead: Most results that the consumer does not have yet, at least 1, which bounds the memory.
    """
    if not threads:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    failure: Exception | None = None
    pool = ThreadPoolExecutor(threads)
    try:
        rest = iter(items)
        while True:
            while len(waiting) < ahead and failure is None:
                try:
                    waiting.append(pool.submit(function, next(rest)))
                except Exception as error:
                    failure = error
            if not waiting:
                break
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if failure is not None and not isinstance(failure, StopIteration):
        raise failure


def read_ahead(
    items: Generator[Item, None, None], limit: int, *, drop_old: bool = False
) -> Generator[Item, None, None]:
    """Yield the items of a generator, which runs in a thread of its own ahead of the consumer.

    An error of the generator is raised after its last item. Close the result to end the thread.

    Args:
        items: Closed in the thread.
        limit: Most items that the consumer does not have yet.
        drop_old: Whether the oldest item is dropped where there would be more; otherwise the generator waits.
    """
    ready: deque[Item] = deque()
    changed, failures = threading.Condition(), list[BaseException]()
    is_over = is_closed = False

    def run() -> None:
        nonlocal is_over
        try:
            for item in items:
                with changed:
                    changed.wait_for(lambda: drop_old or len(ready) < limit or is_closed)
                    if is_closed:
                        return
                    ready.append(item)
                    if len(ready) > limit:
                        ready.popleft()
                    changed.notify_all()
        except BaseException as error:
            failures.append(error)
        finally:
            items.close()
            with changed:
                is_over = True
                changed.notify_all()

    thread = threading.Thread(target=run, daemon=True)  # which may wait for a camera when the program ends
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: bool(ready) or is_over)
                if not ready:
                    break
                item = ready.popleft()
                changed.notify_all()
            yield item
    finally:
        with changed:
            is_closed = True
            changed.notify_all()
        thread.join(MAX_WAIT)
    for failure in failures:
        raise failure


class Behind:
    """Calls functions in threads while the main thread goes on; a ``with`` block ends when they have returned.

    The first error of a function is raised by a later call or by the end of the block, and what has not begun then is
    dropped. An error in the block, Ctrl-C included, first lets the calls before it return.
    """

    def __init__(self, threads: int, limit: int) -> None:
        """
        Args:
            threads: Number of threads; 0 to call functions at once.
            limit: Most calls that have not returned, which bounds the memory; the next one waits.
        """
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._limit = limit
        self._waiting: deque[Future[object]] = deque()
        self._has_failed = False

    def call(self, function: Callable[..., object], *args: Any, **options: Any) -> None:
        """Call a function with these arguments: in the order of the calls if there is one thread."""
        if self._pool is None:
            function(*args, **options)
            return
        self._waiting.append(self._pool.submit(self._run, function, *args, **options))
        while self._waiting and (len(self._waiting) > self._limit or self._waiting[0].done()):
            self._take()

    def close(self) -> None:
        """Wait until all functions have returned, and end the threads."""
        try:
            while self._waiting:
                self._take()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _run(self, function: Callable[..., object], *args: Any, **options: Any) -> None:
        if not self._has_failed:
            try:
                function(*args, **options)
            except BaseException:
                self._has_failed = True
                raise

    def _take(self) -> None:
        wait([self._waiting[0]])
        self._waiting.popleft().result()  # only now, as Ctrl-C may end the wait

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise
