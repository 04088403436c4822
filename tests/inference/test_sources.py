"""Images, videos, cameras, addresses and lists of these become images and frames, one after the other."""

import io
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from centermask_solo.data.frames import Frame
from centermask_solo.inference import streams
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.predictions import predict_items
from centermask_solo.inference.sources import Sources, find_sources
from centermask_solo.utils.errors import DataError, MissingPackageError
from tests.inference.videos import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name in ("a.png", "b.png", "sub/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    if find_spec("av"):
        write_video(folder / "clip.mp4")
        write_video(folder / "other.mkv", num_frames=3, rate=30, sound=None)
    return folder


@pytest.fixture
def videos(folder):
    """The folder, where videos can be read."""
    pytest.importorskip("av")
    return folder


def names(sources, failures=None):
    return [x.name if isinstance(x, Frame) else x for x in sources.items(failures)]


def test_images_and_videos_are_counted_and_come_in_order(videos):
    sources = find_sources([str(videos / "a.png"), str(videos / "*.m*"), str(videos)], recursive=True)
    assert sources.count == 1 + 12 + 3 + 3 and not sources.is_live
    clip, other = str(videos / "clip.mp4"), str(videos / "other.mkv")
    frames = [f"{clip}#{i}" for i in range(12)] + [f"{other}#{i}" for i in range(3)]
    assert names(sources) == [str(videos / x) for x in ("a.png",)] + frames + [
        str(videos / x) for x in ("a.png", "b.png", "sub/c.png")
    ]


def test_frames_have_their_pixels_times_and_rate(videos):
    frames = list(find_sources([str(videos / "clip.mp4")]).items())
    assert [f.index for f in frames] == list(range(12)) and {f.rate for f in frames} == {10}
    assert [f.time for f in frames] == pytest.approx([i / 10 for i in range(12)])
    assert {f.image.shape for f in frames} == {(48, 64, 3)}
    assert [float(f.image.mean()) for f in frames] == pytest.approx([18 * i + 20 for i in range(12)], abs=6)


def test_standard_input_lists_sources_and_is_read_as_it_comes(videos, monkeypatch):
    lines = [str(videos / "a.png"), "", str(videos / "other.mkv"), str(videos / "missing.png"), str(videos / "sub")]
    read = []

    def listed():
        for line in lines:
            read.append(line)
            yield f"{line}\n"

    monkeypatch.setattr(sys, "stdin", listed())
    sources = find_sources(["-"])
    assert sources.count is None and read == []
    failures = []
    items = sources.items(failures)
    assert next(items) == lines[0] and read == lines[:1]
    other = str(videos / "other.mkv")
    assert [x if isinstance(x, str) else x.name for x in items] == [
        *(f"{other}#{i}" for i in range(3)),
        str(videos / "sub" / "c.png"),
    ]
    assert "there is no image" in str(failures[0]) and "missing.png" in str(failures[0])
    monkeypatch.setattr(sys, "stdin", io.StringIO("missing.png\n"))
    with pytest.raises(DataError, match=r"missing\.png"):
        names(find_sources(["-"]))


def test_live_sources_are_not_in_lists(monkeypatch):
    for name in ("0", "rtsp://camera/1"):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{name}\n"))
        with pytest.raises(DataError, match=f"{name} on standard input may be live: give it by itself"):
            names(find_sources(["-"]))


@pytest.mark.parametrize(("name", "batch_size", "threads"), [("0", 1, 0), ("clip.mp4", 4, None)])
def test_frames_of_live_sources_do_not_wait_for_others(name, batch_size, threads, tmp_path, monkeypatch):
    """Neither for a batch nor in a queue."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").touch()
    asked = []

    def predict_files(items, batch_size, failures, *, score_threshold, threads):
        asked.append((batch_size, threads))
        yield from ()

    predictor = SimpleNamespace(score_threshold=0.5, metadata={}, predict_files=predict_files)
    assert not list(predict_items(predictor, Sources([name], None), Filters(), batch_size=4))
    assert asked == [(batch_size, threads)]


def test_a_damaged_video_gives_the_frames_before(videos, tmp_path):
    write_video(tmp_path / "whole.mkv", num_frames=40, sound=None)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "none.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"none\.mp4 cannot be opened \(.*\): give a video that FFmpeg reads"):
        names(find_sources([str(tmp_path / "none.mp4")]))
    (tmp_path / "half.mkv").write_bytes(content[: len(content) * 2 // 3])
    found = names(find_sources([str(tmp_path / "half.mkv"), str(videos / "a.png")]), [])
    assert 0 < len(found) - 1 < 40 and found[-1].endswith("a.png")


def test_an_error_in_the_middle_of_a_video_is_one_failure(videos, monkeypatch):
    original = streams._turned

    def fail(pixels, degrees):
        if pixels.mean() > 18 * 5 + 10:
            raise OSError("broken")
        return original(pixels, degrees)

    monkeypatch.setattr(streams, "_turned", fail)
    failures = []
    found = names(find_sources([str(videos / "clip.mp4"), str(videos / "a.png")]), failures)
    assert len(found) == 5 + 1 and "clip.mp4 is damaged after 0.5 s (broken)" in str(failures[0])
    with pytest.raises(DataError, match="is damaged after"):
        names(find_sources([str(videos / "clip.mp4")]))


def test_sound_alone_is_no_video(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        audio = file.add_stream("aac", rate=16000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        file.mux(audio.encode(samples))
        file.mux(audio.encode())
    with pytest.raises(DataError, match=r"a\.mp4 has no pictures: give a video"):
        names(find_sources([str(tmp_path / "a.mp4")]))


def test_frames_are_turned_as_phones_ask_for():
    pixels = np.arange(6).reshape(1, 2, 3)
    assert np.array_equal(streams._turned(pixels, 90), np.rot90(pixels))
    assert np.array_equal(streams._turned(pixels, -90), np.rot90(pixels, 3))
    assert streams._turned(pixels, 0) is pixels


def test_decoding_is_ahead_by_a_few_frames_only(videos, monkeypatch):
    decoded = []
    original = streams._turned
    monkeypatch.setattr(streams, "_turned", lambda *a: decoded.append(1) or original(*a))
    before = threading.active_count()
    items = find_sources([str(videos / "clip.mp4")]).items()
    next(items)
    time.sleep(0.2)
    assert 1 < len(decoded) <= streams.AHEAD + 2
    items.close()
    assert threading.active_count() <= before + 1  # FFmpeg's own threads are not Python's


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"a video needs the package av: run 'pip install \"av>=14,<19\"'"):
        find_sources([str(tmp_path / "clip.mp4")])


class FakeCamera:
    """Gives a frame every 10 ms, 40 in all."""

    opened = True

    def __init__(self, name):
        self.name, self.count, self.released = name, 0, False
        FakeCamera.last = self

    def isOpened(self):
        return self.opened

    def read(self):
        time.sleep(0.01)
        self.count += 1
        return self.count <= 40, np.full((4, 4, 3), self.count, np.uint8)

    def release(self):
        self.released = True


def test_a_camera_drops_old_frames_instead_of_lagging(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    sources = find_sources(["0"])
    assert sources.is_live and sources.count is None
    lags, indices = [], []
    for frame in sources.items():
        lags.append(FakeCamera.last.count - 1 - frame.index)
        indices.append(frame.index)
        time.sleep(0.05)  # slower than the camera
    assert FakeCamera.last.name == 0 and FakeCamera.last.released
    assert max(lags) <= 2 + 1 and indices[-1] == 39 and len(indices) < 25
    assert indices == sorted(set(indices))


def test_a_camera_that_is_not_there(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(FakeCamera, "opened", False)
    with pytest.raises(DataError, match="there is no camera 3, or another program uses it"):
        names(find_sources(["3"]))


def test_opencv_says_nothing_about_a_camera_that_is_not_there(capfd):
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(DataError, match="there is no camera 97"):
        names(find_sources(["97"]))
    assert capfd.readouterr().err == "" and cv2.utils.logging.getLogLevel() == level


def test_names_of_files_and_folders_come_before_those_of_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("1.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "1.png").rename("1")
    (tmp_path / "0").mkdir()
    assert names(find_sources(["1"])) == ["1"]
    with pytest.raises(DataError, match="the folder 0 contains no images"):
        find_sources(["0"])


def test_a_video_at_an_address_is_read_and_its_password_is_not_shown(videos):
    handler = partial(SimpleHTTPRequestHandler, directory=str(videos))
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f"127.0.0.1:{server.server_address[1]}"
        frames = list(find_sources([f"http://user:secret@{host}/clip.mp4"]).items())
        assert len(frames) == 12  # all, as it has an end
        assert frames[0].name == f"http://{host}/clip.mp4#0" and frames[0].video == f"http://{host}/clip.mp4"
        with pytest.raises(DataError, match=rf"http://{host}/none\.mp4 cannot be opened \(.*404"):
            names(find_sources([f"http://user:secret@{host}/none.mp4"]))
    finally:
        server.shutdown()
        server.server_close()
