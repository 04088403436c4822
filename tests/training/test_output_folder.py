"""Training loses no other training: not by starting over, not by being killed, not by diverging."""

import argparse
import errno
import io
import json
import os
import shutil

import pytest
import torch
import yaml
from detectron2.utils.events import JSONWriter

from centermask_solo.cli import train
from centermask_solo.modeling import systems
from centermask_solo.training.output_folder import files_of_run, open_output_folder, remove_run
from centermask_solo.utils import files
from centermask_solo.utils.errors import ConfigError, NonFiniteLossError
from tests.training.test_bad_input import SMALL
from tests.training.tiny import RecordingTrainer, TinyModel, register, tiny_cfg, write_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the data, a config, and in "output" a training of three iterations."""
    folder = tmp_path_factory.mktemp("finished")
    write_dataset(folder / "data", num_images=2)
    cfg = tiny_cfg(folder / "data", folder / "output")
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.IMS_PER_BATCH = 3, 2, 2
    cfg.DATASETS.TEST = ()
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert sorted(x.name for x in (folder / "output").glob("model*")) == ["model_0000001.pth", "model_final.pth"]
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    record = systems.System("TinyModel", "MODEL.RETINANET.NUM_CLASSES", ("head.weight",), (), ())
    monkeypatch.setitem(systems._SYSTEMS, "TinyModel", record)
    register(tmp_path / "data")
    config = {**SMALL, "OUTPUT_DIR": str(tmp_path / "output"), "DATASETS": {"TRAIN": ["tiny"], "TEST": []}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def run(folder, *words):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    train.main(parser.parse_args(["--config-file", str(folder / "config.yaml"), *words]))


def refused(folder, capfd, *words):
    """Return the message of a training that is refused, and check that it has changed nothing."""
    before = {path: path.read_bytes() for path in (folder / "output").glob("**/*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        run(folder, *words)
    assert end.value.code == 2
    assert before == {path: path.read_bytes() for path in (folder / "output").glob("**/*") if path.is_file()}
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err
    return captured.err.strip().splitlines()[-1]


def test_a_folder_with_a_training_is_refused(folder, capfd):
    ways_out = "continue it with --resume, give another OUTPUT_DIR, or replace it with --overwrite"
    message = f"error: {folder}/output holds another training (model_final.pth): {ways_out}"
    assert refused(folder, capfd) == message
    (folder / "output" / "model_final.pth").unlink()
    (folder / "output" / "last_checkpoint").unlink()
    assert refused(folder, capfd) == message.replace("final", "0000001")
    assert "give one of them" in refused(folder, capfd, "--resume", "--overwrite")
    weights = str(folder / "output" / "model_0000001.pth")
    assert "--overwrite would delete MODEL.WEIGHTS" in refused(folder, capfd, "--overwrite", "MODEL.WEIGHTS", weights)


def test_resume_and_another_folder_are_ways_out(folder):
    run(folder, "OUTPUT_DIR", str(folder / "another"))
    assert (folder / "another" / "model_final.pth").is_file()
    run(folder, "--resume", "SOLVER.MAX_ITER", "4")
    state = torch.load(folder / "output" / "model_final.pth", weights_only=False)
    assert state["iteration"] == 3
    assert (folder / "output" / "model_0000001.pth").is_file()


def test_overwrite_leaves_nothing_of_the_earlier_training(folder):
    output = folder / "output"
    lines = (output / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["iteration"] == 2
    (output / "notes.txt").touch()
    (output / "weights.pth").touch()
    events = set(output.glob("events*"))
    assert events
    run(folder, "--overwrite")  # one iteration
    assert sorted(x.name for x in output.glob("*.pth")) == ["model_final.pth", "weights.pth"]
    assert torch.load(output / "model_final.pth", weights_only=False)["iteration"] == 0
    assert [json.loads(x)["iteration"] for x in (output / "metrics.json").read_text().splitlines()] == [0]
    assert not events & set(output.glob("events*")) and (output / "notes.txt").exists()


def test_a_training_that_cannot_begin_replaces_nothing(folder, capfd):
    weights = folder / "other.pth"
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, weights)
    before = files_of_run(str(folder / "output"))
    for words in (["MODEL.WEIGHTS", str(weights)], ["MODEL.META_ARCHITECTURE", "Nothing"]):
        with pytest.raises(SystemExit):
            run(folder, "--overwrite", *words)
    assert set(before) <= set(files_of_run(str(folder / "output")))


def test_what_is_half_written_is_removed_at_the_start(folder):
    output = folder / "output"
    (output / "inference" / "tiny").mkdir(parents=True)
    inference = output / "inference" / "tiny"
    left = [output / ".model_0000003.pth.abcd_123.tmp", inference / ".predictions.json.a1b2c3d4.tmp"]
    kept = [output / "my.tmp", inference / "predictions.json"]
    for path in left + kept:
        path.touch()
    whole = (output / "metrics.json").read_text()
    with (output / "metrics.json").open("a") as file:
        file.write('{"iteration": 3, "total_l')
    args = argparse.Namespace(resume=True, eval_only=False)
    open_output_folder(tiny_cfg(folder / "data", output), args)
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)
    assert (output / "metrics.json").read_text() == whole
    remove_run(files_of_run(str(output)))
    assert sorted(os.listdir(output)) == ["inference", "metrics.json", "my.tmp"]
    assert (output / "metrics.json").read_text() == ""


def test_evaluation_needs_no_folder_of_its_own(folder):
    cfg = tiny_cfg(folder / "data", folder / "output")
    open_output_folder(cfg, argparse.Namespace(resume=False, eval_only=True))
    with pytest.raises(ConfigError, match="holds another training"):
        open_output_folder(cfg, argparse.Namespace(resume=False, eval_only=False))


class Diverging(RecordingTrainer):
    """Its loss, or only its gradient, is infinite in the iteration ``at``."""

    at, kind = 0, ""

    def run_step(self):
        self.model.diverges = self.kind if self.iter == self.at else ""
        super().run_step()


class DivergingModel(TinyModel):
    diverges = ""

    def forward(self, batched_inputs):
        losses = super().forward(batched_inputs)
        if self.diverges == "loss":
            losses["loss_last"] = losses["loss_last"] * torch.inf
        if self.diverges == "gradient":
            losses["loss_last"] = losses["loss_last"] + (self.head.weight.abs().sum() * 0).sqrt()  # 0, but its slope
        return losses


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("at", [3, 5])
def test_no_checkpoint_of_an_iteration_that_is_not_finite(folder, monkeypatch, kind, at):
    """Iteration 3 is followed by a periodic checkpoint, iteration 5 by the final one."""
    monkeypatch.setattr(Diverging, "at", at)
    monkeypatch.setattr(Diverging, "kind", kind)
    monkeypatch.setattr(Diverging, "build_model", classmethod(lambda cls, cfg: DivergingModel(cfg)))
    cfg = tiny_cfg(folder / "data", folder / "new")
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.IMS_PER_BATCH = 6, 2, 2
    cfg.SOLVER.STEPS = ()
    cfg.DATASETS.TEST = ()
    shutil.copy(folder / "output" / "model_final.pth", folder / "new" / "model_final.pth")
    trainer = Diverging(cfg)
    trainer.resume_or_load(resume=False)
    with pytest.raises(NonFiniteLossError):
        trainer.train()
    names = ["model_0000001.pth", "model_0000003.pth"][: (at - 1) // 2]
    assert sorted(x.name for x in (folder / "new").glob("model_0*")) == names
    assert (folder / "new" / "last_checkpoint").read_text() == names[-1]
    assert (folder / "new" / "model_final.pth").read_bytes() == (folder / "output" / "model_final.pth").read_bytes()
    resumed = RecordingTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == at - 1


@pytest.mark.parametrize("full_at", ["checkpoint", "metrics"])
def test_a_full_disk_ends_a_training_in_one_line_and_keeps_its_checkpoints(folder, capfd, monkeypatch, full_at):
    words = ["SOLVER.MAX_ITER", "40", "SOLVER.CHECKPOINT_PERIOD", "10", "OUTPUT_DIR", str(folder / "new")]
    original = files.tempfile.mkstemp
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(self, data):
        self.failure = full
        raise full

    def mkstemp(prefix, **options):
        if prefix.startswith(".model_0000019"):
            monkeypatch.setattr(files._Raw, "write", write)
        return original(prefix=prefix, **options)

    def write_metrics(self):
        raise full

    with monkeypatch.context() as patch:
        if full_at == "checkpoint":
            patch.setattr(files.tempfile, "mkstemp", mkstemp)
        else:
            patch.setattr(JSONWriter, "write", write_metrics)
        with pytest.raises(SystemExit) as end:
            run(folder, *words)
        monkeypatch.setattr(files._Raw, "write", io.FileIO.write)
    assert end.value.code == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err
    message = captured.err.strip().splitlines()[-1]
    assert message.startswith("error: ") and "(No space left on device): free some space" in message
    assert ("model_0000019.pth cannot be written" in message) == (full_at == "checkpoint")
    kept = {"checkpoint": "model_0000009.pth", "metrics": "model_0000019.pth"}[full_at]
    assert (folder / "new" / "last_checkpoint").read_text() == kept
    run(folder, "--resume", *words)
    assert torch.load(folder / "new" / "model_final.pth", weights_only=False)["iteration"] == 39
