"""Work in threads: in order, bounded, errors in their place, and no thread left."""

import os
import signal
import threading
import time

import pytest

from centermask_solo.utils import threads
from centermask_solo.utils.threads import Behind, in_threads, read_ahead, threads_beside
from tests.utils.waiting import wait_for


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 20])
def test_results_are_in_order(count, ahead):
    def slower_at_first(x):
        time.sleep(0.002 * (x % 3 == 0))
        return 2 * x

    assert list(in_threads(slower_at_first, range(10), count, ahead)) == list(range(0, 20, 2))
    assert list(in_threads(slower_at_first, [], count, ahead)) == []


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_few_results_are_computed_ahead_and_no_more(ahead):
    done = []
    results = in_threads(lambda x: done.append(x) or x, range(10), 1, ahead)
    for i in range(3):
        assert next(results) == i
        wait_for(lambda i=i: len(done) >= i + ahead)  # without being asked for
        time.sleep(0.01)
        assert len(done) == i + ahead
    results.close()
    assert done == list(range(2 + ahead))


def test_what_has_not_begun_is_dropped():
    hold, begun = threading.Event(), []

    def work(x):
        begun.append(x)
        if x == 1:
            hold.wait(10)
        return x

    results = in_threads(work, range(10), 1, 5)
    assert next(results) == 0
    wait_for(lambda: begun == [0, 1])
    threading.Timer(0.05, hold.set).start()
    results.close()
    assert begun == [0, 1]
    wait_for(lambda: not any(isinstance(x, threading.Timer) for x in threading.enumerate()))


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_comes_in_its_place(count):
    def fail(x):
        if x == 2:
            raise KeyError(x)
        return x

    found = []
    with pytest.raises(KeyError):
        found.extend(in_threads(fail, range(9), count, 4))
    found = []
    with pytest.raises(KeyError):
        for x in in_threads(fail, range(9), count, 4):
            found.append(x)
    assert found == [0, 1]


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_of_the_items_comes_after_the_results_before(count):
    def items():
        yield from range(3)
        raise OSError

    found = []
    with pytest.raises(OSError):
        for x in in_threads(str, items(), count, 2):
            found.append(x)
    assert found == ["0", "1", "2"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_calls_behind_return_before_the_block_ends(count):
    found, main = [], threading.get_ident()
    with Behind(count, limit=2) as behind:
        for x in range(6):
            behind.call(lambda x: found.append((x, threading.get_ident() == main)), x=x)
    assert sorted(found) == [(x, count == 0) for x in range(6)]
    assert count == 3 or found == sorted(found)  # one thread keeps the order


def test_the_next_call_waits_where_too_many_have_not_returned():
    hold, begun, called = threading.Event(), [], []

    def work(x):
        begun.append(x)
        hold.wait(10)

    def produce():
        with Behind(1, limit=2) as behind:
            for x in range(5):
                behind.call(work, x)
                called.append(x)

    producer = threading.Thread(target=produce)
    producer.start()
    wait_for(lambda: called == [0, 1])
    time.sleep(0.02)
    assert called == [0, 1] and begun == [0]
    hold.set()
    producer.join(10)
    assert begun == called == list(range(5))


@pytest.mark.parametrize("count", [0, 1])
def test_an_error_of_a_call_drops_those_after_it(count):
    hold, found = threading.Event(), []

    def work(x):
        if x == 1:
            assert count == 0 or hold.wait(10)
            raise KeyError(x)
        found.append(x)

    with pytest.raises(KeyError), Behind(count, limit=9) as behind:
        for x in range(4):
            behind.call(work, x)
        hold.set()
    assert found == [0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_in_the_block_lets_the_calls_before_it_return(error):
    hold, found = threading.Event(), []

    def work(x):
        hold.wait(10)
        found.append(x)
        if x == 2:
            raise KeyError  # is less important than what ended the block

    with pytest.raises(error), Behind(1, limit=9) as behind:
        for x in range(3):
            behind.call(work, x)
        hold.set()
        raise error
    assert found == [0, 1, 2]


@pytest.fixture
def ctrl_c():
    """A function that presses Ctrl-C while the main thread waits, and then lets an event happen."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers = []

    def press(event):
        timers.append(threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)))
        timers.append(threading.Timer(0.2, event.set))
        for timer in timers:
            timer.start()

    yield press
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_wait_for_a_result(ctrl_c):
    hold, begun = threading.Event(), []

    def work(x):
        begun.append(x)
        hold.wait(10)

    results = in_threads(work, range(9), 1, 5)
    ctrl_c(hold)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert begun == [0]


def test_ctrl_c_in_the_wait_for_a_call_lets_it_return(ctrl_c):
    hold, found = threading.Event(), []

    def work(x):
        hold.wait(10)
        found.append(x)

    ctrl_c(hold)
    with pytest.raises(KeyboardInterrupt), Behind(1, limit=1) as behind:
        for x in range(9):
            behind.call(work, x)
    assert found == [0, 1]


@pytest.mark.parametrize(
    ("cores", "device", "count"), [(1, "cpu", 0), (1, "cuda", 1), (2, "cpu", 1), (8, "cpu", 2), (64, "cuda", 4)]
)
def test_number_of_threads(cores, device, count, monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: cores)
    assert threads_beside(device) == count
    monkeypatch.undo()
    assert threads.available_cores() >= 1


def test_items_are_read_ahead_in_order_and_bounded():
    made = []

    def make():
        for i in range(10):
            made.append(i)
            yield i

    items = read_ahead(make(), 3)
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 1 + 3 + 1  # given, waiting, and one that waits to wait
    assert list(items) == list(range(1, 10)) and made == list(range(10))


def test_old_items_are_dropped_if_asked():
    ready = threading.Event()

    def make():
        yield from range(10)
        ready.set()

    before = threading.active_count()
    items = read_ahead(make(), 2, drop_old=True)
    first = next(items)
    assert ready.wait(5)
    wait_for(lambda: threading.active_count() <= before)
    assert [first, *items] in ([0, 8, 9], [8, 9])


def test_an_error_of_the_generator_comes_after_its_items():
    def make():
        yield 1
        raise ValueError("broken")

    items = read_ahead(make(), 5)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_ends_the_generator_and_its_thread():
    closed = threading.Event()

    def make():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = read_ahead(make(), 2)
    next(items)
    items.close()
    assert closed.is_set()
