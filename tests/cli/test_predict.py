"""``centermask-solo predict``: what each group of flags does, and what it says."""

import io
import json
import sys

import cv2
import numpy as np
import pytest
import torch
import yaml

from centermask_solo.cli import main, predict
from centermask_solo.inference.outputs import Outputs
from centermask_solo.visualization.drawing import PARTS
from tests.commands import refuses
from tests.inference.rtsp import rtsp_server
from tests.inference.videos import write_video
from tests.runtime.files import write_onnx
from tests.training.tiny import TinyModel, tiny_cfg, write_dataset


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command on two images with these arguments; returns the exit code and what it printed."""
    write_dataset(tmp_path / "data", num_images=2)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "model")
    weights = tmp_path / "model" / "weights.pth"
    torch.save({"model": TinyModel(cfg).state_dict(), "thing_classes": ["cow", "horse"]}, weights)
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "TinyModel"}, "INPUT": {"MIN_SIZE_TEST": 32}}
    (tmp_path / "model" / "config.yaml").write_text(yaml.safe_dump(config))

    def run(*arguments, inputs=None):
        where = ["--input", *(inputs or [str(tmp_path / "data")]), "--output", f"{tmp_path / 'found'}/"]
        code = 0
        try:
            main(["predict", "--weights", str(weights), *where, "--device", "cpu", *arguments])
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()[-1:]

    run.folder = tmp_path / "found"
    return run


def found(run):
    return json.loads((run.folder / "predictions.json").read_text())


def test_the_flags_of_outputs_are_those_of_the_function():
    names = {name.replace("-", "_") for name in predict.SAVES} | {"pictures", "polygons", "style"}
    assert names == set(Outputs.__dataclass_fields__) and predict.PARTS == PARTS


def test_all_outputs_at_once(run):
    saves = [f"--save-{name}" for name in predict.SAVES if name != "video"]
    assert run(*saves, "--polygons", "--draw", "boxes,names", "--line-width", "3", "--color-by", "class")[0] == 0
    names = {str(x.relative_to(run.folder)) for x in run.folder.rglob("*") if x.is_file()}
    assert names == {
        *("predictions.json", "results.json", "instances.csv", "classes.txt", "0001_1.jpg", "0002_2.jpg"),
        *(f"labelme/{i}.json" for i in (1, 2)),
        *(f"labels/{i}.txt" for i in (1, 2)),
        *(f"{kind}/000{i}_{i}_1.png" for kind in ("masks", "cutouts") for i in (1, 2)),
        *(f"id_maps/000{i}_{i}.png" for i in (1, 2)),
    }
    assert all(isinstance(x["segmentation"], list) for x in found(run)["annotations"])


def test_filters_and_tiles(run):
    assert run("--classes", "horse", "--no-pictures")[0] == 0
    assert found(run)["annotations"] == []
    code, _, error = run("--classes", "hors", "--overwrite")
    assert code == 2 and "no class 'hors'; the nearest one is horse" in error[0]
    assert run("--min-area", "561", "--overwrite")[0] == 0 and found(run)["annotations"] == []
    more = ("--class-agnostic-nms", "--split-components", "--max-detections", "1", "--batch-size", "2")
    assert run("--tile", "32", "--overlap", "0.4", "--overwrite", *more)[0] == 0
    assert len(found(run)["annotations"]) == 2


def test_the_summary_as_json(run, tmp_path):
    (tmp_path / "data" / "3.png").write_bytes(b"damaged")
    code, out, _ = run("--json", "--no-pictures")
    summary = json.loads(out)
    assert code == 1 and (summary["num_images"], summary["num_instances"], summary["num_dropped"]) == (2, 2, 0)
    assert "3.png" in summary["failures"][0] and summary["predictions"] == f"{run.folder}/predictions.json"
    assert summary["seconds"] > 0


def test_a_list_on_standard_input_and_an_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path}/data/2.png\n{tmp_path}/data/1.png\n"))
    assert run("--max-images", "1", "--no-pictures", inputs=["-"])[0] == 0
    assert [x["file_name"][-5:] for x in found(run)["images"]] == ["2.png"]


@pytest.mark.parametrize("lines", ["", "\n \n"])
def test_an_empty_list_on_standard_input(run, monkeypatch, lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code, _, error = run("--save-csv", "--save-yolo", inputs=["-"])
    assert code == 2 and error == ["error: there is no image in '-': give the paths of some"]
    assert not run.folder.exists()


def test_a_video_is_tracked_and_written(run, tmp_path):
    write_video(tmp_path / "clip.mp4", num_frames=3)
    code, out, _ = run("--track", "--save-video", "--save-csv", inputs=[str(tmp_path / "clip.mp4")])
    assert code == 0 and "3 instances in 3 images" in out
    assert [x["track_id"] for x in found(run)["annotations"]] == [1, 1, 1]
    assert sorted(x.name for x in run.folder.iterdir()) == ["clip.mp4", "instances.csv", "predictions.json"]


def test_a_style_without_a_picture_is_refused(run, tmp_path):
    write_video(tmp_path / "clip.mp4", num_frames=1)
    code, _, error = run("--line-width", "3", inputs=[str(tmp_path / "clip.mp4")])
    assert code == 2 and "nothing is drawn over frames: leave out --draw, --line-width" in error[0]
    assert run("--line-width", "3", "--pictures", inputs=[str(tmp_path / "clip.mp4")])[0] == 0


def test_a_limit_above_that_of_the_model_is_mentioned(run, caplog):
    warning = "finds at most 100 instances in an image, fewer than --max-detections"
    assert run("--max-detections", "100")[0] == 0 and warning not in caplog.text
    assert run("--max-detections", "101", "--overwrite")[0] == 0 and warning in caplog.text


def test_a_stream_and_the_exit_codes_of_its_ends(run, monkeypatch):
    monkeypatch.setattr("centermask_solo.inference.streams.TIMEOUT", 0.6)
    with rtsp_server(4) as server:
        assert run("--save-video", inputs=[server.address])[0] == 0
    assert found(run)["images"][-1]["file_name"] == f"{server.address}#3"
    assert [x.name for x in run.folder.glob("*.mp4")] == ["camera.mp4"]
    code, _, error = run("--overwrite", inputs=[server.address])
    assert code == 2 and "cannot be opened (Connection refused): check the address" in error[0]
    with rtsp_server(4, "silent") as server:
        code, _, error = run("--overwrite", "--save-video", inputs=[server.address])
    assert code == 1 and "stopped after 0.2 s (nothing came for 1 s): check its source" in error[0]
    assert found(run)["images"][-1]["frame"] == 3 and (run.folder / "camera.mp4").exists()
    with rtsp_server(4, silent_to="PLAY") as server:
        code, _, error = run("--overwrite", inputs=[server.address])
    assert code == 2 and "cannot be opened (no answer for 1 s)" in error[0]
    assert sorted(x.name for x in run.folder.iterdir()) == ["camera.mp4", "predictions.json"]  # of the run before


def test_threads_are_set(run, monkeypatch):
    numbers = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    assert run("--threads", "3")[0] == 0 and numbers == [3]


def test_exported_files_run_with_these_threads_and_providers(run, tmp_path, monkeypatch, capsys):
    path = write_onnx(tmp_path / "model.onnx")
    import onnxruntime

    threads, options = [], onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", lambda: threads.append(options()) or threads[-1])
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((48, 72, 3), np.uint8))
    argv = ["predict", "--weights", path, "--input", str(tmp_path / "photos"), "--output", str(tmp_path / "exported")]
    argv += ["--threads", "3", "--providers"]
    main([*argv, "CPUExecutionProvider"])
    assert "2 instances in 1 image" in capsys.readouterr().out and threads[0].intra_op_num_threads == 3
    text = refuses(capsys, [*argv, "NoProvider,CPUExecutionProvider", "--overwrite"])
    assert "this ONNX Runtime has no provider 'NoProvider'" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "masks,halos"], "'halos' is unknown: choose from masks,outlines"),
        (["--draw", ""], "must be names with commas between them, not ''"),
        (["--classes", ","], "must be names with commas between them, not ','"),
        (["--overlap", "1"], "must be greater than 0 and less than 1"),
        (["--tile", "0"], "must be an integer of at least 1"),
        (["--min-area", "-1"], "must be at least 0"),
        (["--save-video"], "there is no video among the inputs"),
        (["--overlap", "0.3"], "--overlap applies to tiles only: give their size with --tile"),
        (["--no-pictures", "--draw", "masks"], "nothing is drawn with --no-pictures"),
        (["--no-pictures", "--color-by", "class"], "nothing is drawn with --no-pictures"),
        (["--providers", "CPUExecutionProvider"], "--providers is for exported files, which "),
        (["--threads", "0"], "must be an integer of at least 1"),
        (["--tta"], "test-time augmentation does not support TinyModel"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    code, _, error = run(*arguments)
    assert code == 2 and message in error[0]
    assert not run.folder.exists()
