"""Streams of network cameras over RTSP: all frames with their times, and one line for all that goes wrong."""

import time

import pytest

from centermask_solo.inference import streams
from centermask_solo.inference.sources import find_sources
from centermask_solo.utils.errors import DataError
from tests.inference.rtsp import RATE, rtsp_server


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch):
    monkeypatch.setattr(streams, "TIMEOUT", 0.6)


@pytest.mark.parametrize("then", ["close", "reset"])
def test_frames_come_over_tcp_with_their_times_until_the_server_ends(then):
    with rtsp_server(8, then) as server:
        sources = find_sources([server.address])
        assert sources.is_live and sources.count is None
        frames = list(sources.items())
    assert "TCP" in server.transports[0]
    assert frames[-1].index == 7  # on a busy machine others are dropped
    assert [f.time for f in frames] == pytest.approx([f.index / RATE for f in frames])
    assert {f.image.shape for f in frames} == {(48, 64, 3)} and {f.video for f in frames} == {server.address}
    assert [float(f.image.mean()) for f in frames] == pytest.approx([18 * f.index + 20 for f in frames], abs=6)


def test_a_slow_consumer_gets_new_frames():
    with rtsp_server(30) as server:
        indices, lags = [], []
        for frame in find_sources([server.address]).items():
            indices.append(frame.index)
            lags.append(server.sent - 1 - frame.index)
            time.sleep(0.15)  # the time of almost four frames
    assert indices == sorted(set(indices)) and indices[-1] == 29 and len(indices) < 20
    assert max(lags[1:]) <= 2 + 2  # FFmpeg has looked at some frames before it gives the first


def test_what_came_before_a_server_falls_silent_is_kept():
    failures = []
    with rtsp_server(5, "silent") as server:
        frames = list(find_sources([server.address]).items(failures))
    assert frames[-1].index == 4  # none is left in the decoder
    message = f"{server.address} stopped after 0.2 s (nothing came for 1 s): check its source"
    assert [str(x) for x in failures] == [message]


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
def test_a_server_that_never_answers(method):
    start = time.monotonic()
    with rtsp_server(1, silent_to=method) as server, pytest.raises(DataError, match="cannot be opened") as error:
        list(find_sources([server.address.replace("://", "://user:secret@")]).items())
    assert str(error.value) == (
        f"{server.address} cannot be opened (no answer for 1 s): check the address, and that it is served"
    )
    assert time.monotonic() - start < 5


def test_no_server_at_an_address():
    with rtsp_server(1) as server:
        pass
    with pytest.raises(DataError, match=r"cannot be opened \(Connection refused\): check the address"):
        list(find_sources([server.address]).items())
