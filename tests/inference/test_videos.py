"""Predictions of videos and cameras: files that play, with their sound, and results that name the frames."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.inference import video_file
from centermask_solo.inference.outputs import Outputs
from centermask_solo.inference.predictions import predict
from centermask_solo.inference.results import predict_to_folder
from centermask_solo.inference.streams import check_whole
from centermask_solo.utils.errors import ConfigError, DataError
from tests.inference.test_sources import FakeCamera
from tests.inference.videos import read_video, write_video
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset

VIDEO = Outputs(video=True)


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "images", num_images=1)
    cfg = tiny_cfg(tmp_path / "images", tmp_path / "training")
    cfg.MODEL.WEIGHTS = str(tmp_path / "training" / "model_final.pth")
    torch.save({"model": TinyModel(cfg).state_dict(), "thing_classes": ["cow", "horse"]}, cfg.MODEL.WEIGHTS)
    return cfg


def test_the_video_of_a_video_has_its_frames_times_and_sound(cfg, tmp_path):
    write_video(tmp_path / "clip.mp4", size=(62, 50))
    output = tmp_path / "found"
    done = predict_to_folder(cfg, [str(tmp_path / "clip.mp4")], str(output), outputs=VIDEO, batch_size=5)
    assert (done.num_images, done.num_instances, done.num_dropped) == (12, 12, 0)
    assert sorted(x.name for x in output.iterdir()) == ["clip.mp4", "predictions.json"]
    given, found = read_video(tmp_path / "clip.mp4"), read_video(output / "clip.mp4")
    assert found.rate == given.rate == 10 and found.codec == "h264"
    assert found.times == pytest.approx(given.times) and len(found.times) == 12
    assert found.sound == given.sound == "aac" and found.sound_packets == given.sound_packets != []
    assert found.frames[0].shape == (350, 434, 3)  # enlarged, so that names are readable
    for i, frame in enumerate(found.frames):  # what is outside of the instance
        assert abs(float(frame[200:, 250:].mean()) - (18 * i + 20)) < 12
    images = json.loads((output / "predictions.json").read_text())["images"]
    assert [(x["frame"], x["time"]) for x in images] == [(i, pytest.approx(i / 10)) for i in range(12)]
    assert images[3]["file_name"] == f"{tmp_path / 'clip.mp4'}#3"


@pytest.mark.parametrize(
    ("sound", "name", "expected"),
    [("pcm_s16le", "a.mkv", "a.mp4"), ("pcm_u8", "a.avi", "a.mkv"), (None, "a.avi", "a.mp4")],
)
def test_sound_of_any_kind_is_kept(cfg, tmp_path, sound, name, expected):
    write_video(tmp_path / name, sound=sound, num_frames=4, codec="mpeg4")
    predict_to_folder(cfg, [str(tmp_path / name)], str(tmp_path / "found"), outputs=VIDEO)
    found = read_video(tmp_path / "found" / expected)
    assert found.sound == (sound or "") and b"".join(found.sound_packets) == b"".join(
        read_video(tmp_path / name).sound_packets
    )
    assert len(found.frames) == 4 and found.rate == 10


def test_sound_that_no_file_can_hold_is_named(cfg, tmp_path, caplog):
    write_video(tmp_path / "a.avi", sound="adpcm_yamaha", num_frames=4, codec="mpeg4")
    predict_to_folder(cfg, [str(tmp_path / "a.avi")], str(tmp_path / "found"), outputs=VIDEO)
    found = read_video(tmp_path / "found" / "a.mp4")
    assert found.sound == "" and len(found.frames) == 4
    assert "a.avi: its sound (adpcm_yamaha) cannot be copied" in caplog.text


def test_another_codec_takes_the_place_of_one_that_is_missing(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(video_file, "CODECS", ("nothing", "mpeg4"))
    write_video(tmp_path / "clip.mp4", num_frames=4)
    predict_to_folder(cfg, [str(tmp_path / "clip.mp4")], str(tmp_path / "found"), outputs=VIDEO)
    found = read_video(tmp_path / "found" / "clip.mp4")
    assert (found.codec, found.rate, len(found.frames)) == ("mpeg4", 10, 4)
    monkeypatch.setattr(video_file, "CODECS", ("nothing",))
    with pytest.raises(ConfigError, match=r"this FFmpeg can encode no video \(nothing: .*\): install PyAV from PyPI"):
        predict_to_folder(cfg, [str(tmp_path / "clip.mp4")], str(tmp_path / "other"), outputs=VIDEO)


def test_each_video_has_its_own_and_a_second_run_leaves_nothing_of_the_first(cfg, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, num_frames=3, sound=None)
    output, both = tmp_path / "found", [str(tmp_path / x) for x in ("a.mp4", "b.mp4")]
    outputs = Outputs(video=True, pictures=True, labelme=True, csv=True)
    predict_to_folder(cfg, both, str(output), outputs=outputs, track=True)
    assert {"a.mp4", "b.mp4", "0001_a_000000.jpg", "0006_b_000002.jpg"} <= {x.name for x in output.iterdir()}
    assert (output / "labelme" / "b_000002.jpg").exists() and (output / "labelme" / "b_000002.json").exists()
    lines = (output / "instances.csv").read_text().splitlines()
    assert lines[1].split(",")[3:7] == ["0", "0.0", "1", "cow"] and len(lines) == 7
    with pytest.raises(ConfigError, match=r"holds the results of another run"):
        predict_to_folder(cfg, both, str(output), outputs=VIDEO)
    (output / "mine.mp4").write_text("dear")
    predict_to_folder(cfg, both[1:], str(output), outputs=Outputs(pictures=False), overwrite=True)
    assert sorted(x.name for x in output.rglob("*") if x.is_file()) == ["mine.mp4", "predictions.json"]


def test_a_video_that_ends_early_plays_up_to_there(cfg, tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", num_frames=12)
    original, calls = TinyModel.forward, []

    def forward(self, inputs):
        calls.append(inputs)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(TinyModel, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        predict_to_folder(cfg, [str(tmp_path / "clip.mp4")], str(tmp_path / "found"), outputs=VIDEO)
    assert len(read_video(tmp_path / "found" / "clip.mp4").frames) == 5
    assert len(json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]) == 5


def test_ctrl_c_ends_a_camera_like_any_other_end(cfg, tmp_path, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    original, calls = TinyModel.forward, []

    def forward(self, inputs):
        calls.append(inputs)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(TinyModel, "forward", forward)
    done = predict_to_folder(cfg, ["0"], str(tmp_path / "found"), outputs=VIDEO)
    assert done.num_images == 3
    found = read_video(tmp_path / "found" / "camera0.mp4")
    assert len(found.frames) == 3 and found.times[0] == 0 and found.sound == ""


def test_a_camera_ends_after_a_number_of_frames_and_counts_those_that_it_dropped(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    done = predict_to_folder(cfg, ["0"], str(tmp_path / "found"), max_images=5)
    images = json.loads((tmp_path / "found" / "predictions.json").read_text())["images"]
    assert done.num_images == len(images) == 5
    assert done.num_dropped == images[-1]["frame"] - 4
    assert [x.name for x in (tmp_path / "found").iterdir()] == ["predictions.json"]


def test_images_are_no_video(cfg, tmp_path):
    with pytest.raises(ConfigError, match="no video among the inputs to make a video of: leave out --save-video"):
        predict_to_folder(cfg, [str(tmp_path / "images")], str(tmp_path / "found"), outputs=VIDEO)


def test_predictions_come_as_a_video_is_read(cfg, tmp_path):
    write_video(tmp_path / "clip.mp4", num_frames=4)
    found = list(predict(cfg, [str(tmp_path / "clip.mp4"), str(tmp_path / "images")], track=True))
    assert [x.id for x in found] == [1, 2, 3, 4, 5] and [x.frame is None for x in found] == [False] * 4 + [True]
    assert [x.instances.track_ids.tolist() for x in found] == [[1]] * 5
    assert found[0].class_names == ["cow", "horse"] and found[4].name.endswith("1.png")
    assert np.array_equal(found[0].image, found[0].frame.image)


def test_pictures_of_a_size_that_changes_still_make_a_video(tmp_path):
    pytest.importorskip("av")
    from centermask_solo.data.frames import Frame

    frame = Frame("0#0", np.zeros((4, 4, 3), np.uint8), "0", 0, 0.0, None)
    with video_file.VideoFile(str(tmp_path / "x"), frame, (41, 51)) as file:
        file.add(frame, np.full((41, 51, 3), 50, np.uint8))
        file.add(frame, np.full((90, 20, 3), 90, np.uint8))
    found = read_video(tmp_path / "x.mp4")
    assert [x.shape for x in found.frames] == [(42, 52, 3)] * 2
    assert found.times[1] > 0


def test_a_video_that_cannot_be_opened_costs_nothing_else(cfg, tmp_path):
    (tmp_path / "damaged.mp4").write_text("no video")
    sources = [str(tmp_path / "damaged.mp4"), str(tmp_path / "images" / "1.png")]
    done = predict_to_folder(cfg, sources, str(tmp_path / "found"))
    assert done.num_images == 1
    (failure,) = done.failures
    assert str(failure).startswith(f"{tmp_path / 'damaged.mp4'} cannot be opened")


def test_a_video_without_its_end_is_named(cfg, tmp_path):
    write_video(tmp_path / "whole.avi", num_frames=40, sound=None, codec="mpeg4")
    content = (tmp_path / "whole.avi").read_bytes()
    first = content.index(b"movi")  # where the frames begin
    (tmp_path / "cut.avi").write_bytes(content[: first + round(0.3 * (len(content) - first))])
    done = predict_to_folder(cfg, [str(tmp_path / x) for x in ("whole.avi", "cut.avi")], str(tmp_path / "found"))
    assert 40 < done.num_images < 70
    (failure,) = done.failures
    assert str(failure).startswith(
        f"{tmp_path / 'cut.avi'} "
    )  # it ended, or is damaged: as the last bytes happen to be


@pytest.mark.parametrize(
    ("frames", "seconds", "count", "end", "message"),
    [
        (40, 4.0, 40, 4.0, ""),
        (40, 4.0, 37, 3.7, ""),
        (40, 4.0, 14, 1.4, "ended after 1.4 of 4.0 s, 14 of 40 frames: it is truncated, copy it again"),
        (40, 1.4, 14, 1.4, ""),  # cut without new encoding
        (3, 15.0, 3, 10.1, ""),  # the last picture lasts 5 seconds
        (0, 4.0, 24, 2.4, ""),
        (0, 4.0, 7, 0.7, "ended after 0.7 of 4.0 s, 7 frames: it is truncated, copy it again"),
        (0, 0.0, 7, 0.7, ""),
    ],
)
def test_which_videos_have_lost_their_end(frames, seconds, count, end, message):
    streams = SimpleNamespace(video=[SimpleNamespace(frames=frames)])
    container = SimpleNamespace(streams=streams, duration=round(seconds * 1e6) or None)
    if not message:
        return check_whole(container, "a.avi", count, end)
    with pytest.raises(DataError) as error:
        check_whole(container, "a.avi", count, end)
    assert str(error.value) == f"a.avi {message}"
