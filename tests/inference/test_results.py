"""Predictions replace neither their inputs nor other results, and a full disk keeps what was there."""

import errno
import io
import json
import os
import sys

import cv2
import numpy as np
import pytest
import torch

from centermask_solo.inference import results
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.outputs import Outputs
from centermask_solo.inference.results import predict_to_folder
from centermask_solo.utils import files
from centermask_solo.utils.errors import ConfigError, DataError
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset


@pytest.fixture
def cfg(tmp_path):
    write_dataset(tmp_path / "images", num_images=2)
    cfg = tiny_cfg(tmp_path / "images", tmp_path / "training")
    (tmp_path / "images" / "instances.json").unlink()
    cfg.MODEL.WEIGHTS = str(tmp_path / "training" / "model_final.pth")
    torch.save({"model": TinyModel(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    return cfg


@pytest.mark.parametrize(("max_images", "expected"), [(None, (4, 4)), (1, (1, 1))])
def test_the_progress_bar_counts_all_images(cfg, tmp_path, monkeypatch, max_images, expected):
    bars = []

    class Bar(results.tqdm):
        def close(self):
            bars.append((self.total, self.n))
            super().close()

    monkeypatch.setattr(results, "tqdm", Bar)
    for name in ("0.png", "9.png"):
        (tmp_path / "images" / name).write_text("no image")
    sources = [str(tmp_path / "images" / name) for name in ("1.png", "0.png", "2.png", "9.png")]
    found = predict_to_folder(cfg, sources, str(tmp_path / "found"), max_images=max_images)
    assert len(found.failures) == (0 if max_images else 2)
    assert bars[0] == expected


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("output", ["images", "link", "images/new/.."])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_folder_of_an_input_is_refused(cfg, tmp_path, output, overwrite):
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "new").mkdir()
    before = contents(tmp_path / "images")
    for inputs in ("images", "images/1.png", "images/*.png", "link"):
        with pytest.raises(ConfigError, match=r"the input .*1\.png is in the output folder .*: choose another folder"):
            predict_to_folder(cfg, [str(tmp_path / inputs)], str(tmp_path / output), overwrite=overwrite)
    assert contents(tmp_path / "images") == before


def test_a_second_run_neither_replaces_nor_reads_what_the_first_wrote(cfg, tmp_path):
    images, output = str(tmp_path / "images"), tmp_path / "images" / "found"
    predict_to_folder(cfg, [images], str(output), recursive=True)
    before = contents(output)
    assert sorted(before) == ["0001_1.jpg", "0002_2.jpg", "predictions.json"]
    with pytest.raises(ConfigError, match=r"found holds the results of another run, such as predictions\.json: choose"):
        predict_to_folder(cfg, [images], str(output))
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"0001_1\.jpg is in the output folder"):
            predict_to_folder(cfg, [images], str(output), recursive=True, overwrite=overwrite)
    assert contents(output) == before


@pytest.mark.parametrize("name", ["predictions.json", "predictions.jsonl", "0001_1.jpg", "12345_x.jpg"])
def test_what_might_be_replaced_is_refused(cfg, tmp_path, name):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / name).write_text("dear")
    with pytest.raises(ConfigError, match="holds the results of another run"):
        predict_to_folder(cfg, [str(tmp_path / "images")], str(tmp_path / "found"))
    assert contents(tmp_path / "found") == {name: b"dear"}


def test_overwriting_leaves_no_picture_of_the_earlier_run_and_every_other_file(cfg, tmp_path):
    output = tmp_path / "found"
    predict_to_folder(cfg, [str(tmp_path / "images")], str(output))
    (output / ".0002_2.jpg.abcd1234.tmp").touch()  # of a run that was killed
    for name in ("0009_mine.jpg", "notes.txt"):
        (output / name).write_text("dear")
    assert predict_to_folder(cfg, [str(tmp_path / "images" / "2.png")], str(output), overwrite=True).num_images == 1
    assert sorted(os.listdir(output)) == ["0001_2.jpg", "0009_mine.jpg", "notes.txt", "predictions.json"]
    for content in (b"\0", b"[]", b'{"images": [{"id": "a", "file_name": 3}]}'):
        (output / "predictions.json").write_bytes(content)
        predict_to_folder(cfg, [str(tmp_path / "images" / "1.png")], str(output), overwrite=True)
    assert (output / "0001_2.jpg").exists()  # nothing says that it is not the user's


@pytest.mark.parametrize("source", ["damaged.png", "77", "http://127.0.0.1:9/a.mp4"])
def test_a_run_without_an_image_keeps_the_earlier_one(cfg, tmp_path, source):
    output = tmp_path / "found"
    predict_to_folder(cfg, [str(tmp_path / "images")], str(output), outputs=Outputs(csv=True))
    before = contents(output)
    (tmp_path / "damaged.png").write_text("no image")
    name = str(tmp_path / source) if source.endswith("png") else source
    for folder in (output, tmp_path / "new"):
        with pytest.raises(DataError):
            predict_to_folder(cfg, [name], str(folder), overwrite=True, outputs=Outputs(csv=True))
    assert contents(output) == before
    assert not (tmp_path / "new").exists()


def test_overwriting_leaves_nothing_of_a_run_that_was_killed(cfg, tmp_path):
    output = tmp_path / "found"
    predict_to_folder(cfg, [str(tmp_path / "images")], str(output), outputs=Outputs(csv=True))
    images = json.loads((output / "predictions.json").read_text())["images"]
    (output / "predictions.json").unlink()
    lines = "".join(json.dumps({"image": x, "annotations": []}) + "\n" for x in images)
    (output / "predictions.jsonl").write_text(lines + '{"image": {"id"')
    predict_to_folder(cfg, [str(tmp_path / "images" / "2.png")], str(output), overwrite=True)
    assert sorted(os.listdir(output)) == ["0001_2.jpg", "predictions.json"]


def test_results_that_are_inputs_are_not_removed(cfg, tmp_path, monkeypatch):
    """Also where the kind of results that they are is off."""
    output = tmp_path / "found"
    outputs = Outputs(pictures=False, cutouts=True)
    low = Filters(score_threshold=0.0)
    predict_to_folder(cfg, [str(tmp_path / "images" / "1.png")], str(output), filters=low, outputs=outputs)
    before = contents(output / "cutouts")
    assert before
    for inputs in (str(output / "cutouts"), str(output / "cutouts" / min(before))):
        with pytest.raises(ConfigError, match=r"cutouts.* is an input, and one of the results that would be replaced"):
            predict_to_folder(cfg, [inputs], str(output), overwrite=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{output / 'cutouts'}\n"))  # which is read later
    assert predict_to_folder(cfg, ["-"], str(output), overwrite=True).num_images == len(before)
    assert contents(output / "cutouts") == before


@pytest.mark.parametrize("suffix", [".jpg", ".json"])
def test_a_full_disk_keeps_the_results_before(cfg, tmp_path, monkeypatch, suffix):
    """Of the file that did not fit; the pictures of an earlier run are removed before."""
    output = tmp_path / "found"
    predict_to_folder(cfg, [str(tmp_path / "images")], str(output))
    before = (output / "predictions.json").read_bytes()
    original = files.tempfile.mkstemp

    def mkstemp(prefix, **options):
        monkeypatch.setattr(files._Raw, "write", full if suffix in prefix else files.io.FileIO.write)
        return original(prefix=prefix, **options)

    def full(self, data):
        self.failure = OSError(errno.ENOSPC, "No space left on device")
        raise self.failure

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)
    with pytest.raises(ConfigError, match=rf"\{suffix} cannot be written \(No space left on device\): free some space"):
        predict_to_folder(cfg, [str(tmp_path / "images")], str(output), overwrite=True)
    assert not list(output.glob("*.tmp"))
    if suffix == ".json":
        assert (output / "predictions.json").read_bytes() == before
    else:
        assert json.loads((output / "predictions.json").read_text())["images"][0]["id"] == 1


def test_an_image_too_large_for_a_jpeg_has_a_smaller_picture(cfg, tmp_path):
    image = np.full((8, 70_000, 3), 99, np.uint8)
    cv2.imwrite(str(tmp_path / "long.png"), image)
    predict_to_folder(cfg, [str(tmp_path / "long.png")], str(tmp_path / "found"))
    picture = cv2.imread(str(tmp_path / "found" / "0001_long.jpg"))
    assert picture.shape == (7, 65_500, 3)
