"""The demonstration, from the log of a training to its summary."""

import sys

import pytest
from detectron2.config import get_cfg

from centermask_solo import add_centermask_solo_config, demo
from centermask_solo.config import config_dir


def test_progress_is_read_from_the_log():
    line = (
        "\x1b[32m[11/21 05:04:30 d2.utils.events]: \x1b[0m eta: 0:02:18  iter: 19  total_loss: 3.524  loss_ins: 2.443\n"
    )
    assert demo.progress(line, 400, 75.2) == "iteration   20 of 400   loss  3.524   1 min 15 s gone, 0:02:18 to go"
    assert demo.progress(" eta: 1 day, 2:03:04  iter: 5  total_loss: 1e+03  x", 9, 0).endswith("1 day, 2:03:04 to go")
    assert (
        demo.progress("[x]:  iter: 1  total_loss: 2.5  x", 2, 0)
        == "iteration    2 of 2   loss  2.500   0 min 00 s gone"
    )
    assert demo.progress("[x]: Start inference on 100 batches\n", 400, 0) == "judging on 100 batches"
    assert demo.progress("[x]: Saving checkpoint to output/model_final.pth", 400, 0) is None


def test_every_demo_has_its_config():
    for name in demo.demo_configs().values():
        assert (config_dir() / name).is_file()


def test_command_of_a_checkout_and_of_an_installed_package(monkeypatch, tmp_path):
    command = demo.train_command("x.yaml", ["A", "1"])
    assert [part.rsplit("/")[-1] for part in command[1:]] == ["train_net.py", "--config-file", "x.yaml", "A", "1"]
    monkeypatch.setattr(demo, "config_dir", lambda: tmp_path / "configs")
    assert demo.train_command("x.yaml", [])[1:] == ["-m", "centermask_solo.cli", "train", "--config-file", "x.yaml"]


@pytest.mark.parametrize("last, reason", [("error: no luck", "no luck"), ("Traceback", "its last lines:\n.*Traceback")])
def test_a_training_that_fails_says_why(capsys, last, reason):
    program = f"import sys; print('[x]: Start inference on 3 batches'); print({last!r}, file=sys.stderr); sys.exit(2)"
    with pytest.raises(ValueError, match=rf"(?s)the training failed \(a/log\.txt has all it said\): {reason}"):
        demo.run_training([sys.executable, "-c", program], 10, "a/log.txt")
    assert "judging on 3 batches" in capsys.readouterr().out


@pytest.mark.slow
def test_whole_demo(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", no_connection)
    from centermask_solo.data.shapes.generator import generate_shapes

    for split, count in (("train", 12), ("val", 4)):
        generate_shapes(tmp_path / "shapes", split, count)
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    data = [[f"demo_{split}", *paths(tmp_path / "shapes" / split)] for split in ("train", "val")]
    opts = ["DATASETS.COCO_JSON", str(data), "DATASETS.TRAIN", "('demo_train',)", "DATASETS.TEST", "('demo_val',)"]
    opts += ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    output = tmp_path / "output"
    demo.run_demo(cfg, "solov2", str(output), opts)
    text = capfd.readouterr().out
    assert "will find less: no connection" in text
    assert "iteration    2 of 2" in text
    assert "mask" in text
    assert f"side by side: {output}/contact_sheet.png" in text
    assert (output / "contact_sheet.png").stat().st_size > 10_000
    assert text.count(" -m centermask_solo.cli ") == 2
    assert f"model_final.pth --score-threshold {demo.SCORE_THRESHOLD} " in text


def test_centermask_is_drawn_from_a_higher_score():
    assert demo.score_threshold("CenterMask") == 0.5
    assert demo.score_threshold("SOLOv2") == demo.score_threshold("of nobody") == demo.SCORE_THRESHOLD


def no_connection(output):
    raise FileNotFoundError("no connection")


def test_imagenet_weights_are_fetched_where_they_can_be(monkeypatch):
    fetched = []
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", fetched.append)
    assert demo.initial_weights("weights/mobilenet_v2_imagenet.pth") == []
    assert demo.initial_weights("other.pth") == [] == demo.initial_weights("")
    assert [str(x) for x in fetched] == ["weights/mobilenet_v2_imagenet.pth"]
    monkeypatch.setattr(demo.mobilenetv2_imagenet, "prepare", no_connection)
    assert demo.initial_weights("weights/mobilenet_v2_imagenet.pth") == demo.FROM_SCRATCH


def paths(folder):
    return [str(folder / "annotations.json"), str(folder / "images")]
