"""What an interrupted training goes on with: the options of its config, and what is the best so far."""

import argparse

import pytest
import torch

from centermask_solo.training.output_folder import open_output_folder
from centermask_solo.utils.errors import ConfigError, WeightsError
from tests.training.test_averaging import fake_scores
from tests.training.tiny import RecordingTrainer, tiny_cfg, train, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


@pytest.fixture
def make_cfg(data, tmp_path):
    """A training, killed before iteration 6, whose last checkpoint is that after iteration 4."""

    def make(*options):
        cfg = tiny_cfg(data, tmp_path)
        cfg.SEED, cfg.DATASETS.TEST = 3, ()
        cfg.merge_from_list(list(options))
        return cfg

    return make


def resumed(cfg):
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=True)
    return trainer


def test_options_of_the_optimizer_are_those_of_the_config(make_cfg, caplog):
    train(make_cfg(), kill_before=6)
    assert resumed(make_cfg()).optimizer.param_groups[0]["lr"] == 0.05
    assert "The training goes on with other options" not in caplog.text
    options = ("SOLVER.BASE_LR", 0.0005, "SOLVER.WEIGHT_DECAY", 0.5, "SOLVER.MOMENTUM", 0.1, "SOLVER.STEPS", (4,))
    trainer = resumed(make_cfg(*options, "SEED", 4))
    groups = trainer.optimizer.param_groups
    assert trainer.start_iter == 4 and [group["lr"] for group in groups] == pytest.approx([0.00005] * len(groups))
    assert {group["momentum"] for group in groups} == {0.1} and groups[0]["weight_decay"] == 0.5
    assert set(trainer.scheduler.base_lrs) == {0.0005}  # of all iterations that follow
    expected = "learning rate 0.0005 instead of 0.05; weight decay 0.5 instead of 0.0001; momentum 0.1 instead of 0.9"
    assert f"The training goes on with other options than the interrupted one: {expected}" in caplog.text
    assert "SEED 4 has no effect" in caplog.text


def test_what_the_optimizer_stores_follows_the_names_of_parameters(make_cfg, tmp_path):
    """Other factors group the parameters otherwise."""
    train(make_cfg("SOLVER.LR_FACTORS", [["head.*", 0.1]]), kill_before=6)
    stored = torch.load(tmp_path / "model_0000003.pth", weights_only=True)["trainer"]
    places = {name: i for i, name in enumerate(stored["parameters"])}
    before = stored["_trainer"]["optimizer"]["state"]
    trainer = resumed(make_cfg("SOLVER.LR_FACTORS", [["backbone.*", 0.5], ["head.bias", 0.0]]))
    rates = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, p in trainer.model.named_parameters():
        assert torch.equal(trainer.optimizer.state[p]["momentum_buffer"], before[places[name]]["momentum_buffer"]), name
        assert rates[id(p)] == pytest.approx(0.05 * {"head.bias": 0.0, "head.weight": 1.0}.get(name, 0.5))
    with pytest.raises(WeightsError, match=r"trains other parameters, such as with another MODEL\.FREEZE .*: head\."):
        resumed(make_cfg("MODEL.FREEZE", ["head.*"]))


def test_the_best_weights_outlive_a_training_without_checkpoints(data, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    cfg = tiny_cfg(data, tmp_path)
    options = ["TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "SOLVER.CHECKPOINT_PERIOD", 99]
    cfg.merge_from_list(options)
    fake_scores(monkeypatch, [30.0])
    train(cfg, kill_before=3)
    assert [x.name for x in tmp_path.glob("model*")] == ["model_best.pth"]
    trainer = resumed(cfg)
    assert (trainer.start_iter, trainer.best.value) == (0, 30.0)
    assert "segm/AP 30.00 after 2 iterations of the interrupted training, stays until" in caplog.text
    args = argparse.Namespace(resume=False, eval_only=False, overwrite=False)
    with pytest.raises(ConfigError, match=r"holds another training \(model_best\.pth\)"):
        open_output_folder(cfg, args)
    args.resume = True
    open_output_folder(cfg, args)
    args.resume, args.overwrite, cfg.MODEL.WEIGHTS = False, True, str(tmp_path / "model_best.pth")
    with pytest.raises(ConfigError, match=r"--overwrite would delete MODEL\.WEIGHTS .*/model_best\.pth"):
        open_output_folder(cfg, args)


def test_final_weights_that_a_kill_has_prevented_are_saved(make_cfg, tmp_path):
    """Between the last checkpoint, which has all iterations, and them."""
    train(make_cfg())
    final = tmp_path / "model_final.pth"
    expected = torch.load(final, weights_only=True)
    final.unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000007.pth")
    trainer = resumed(make_cfg())
    assert trainer.start_iter == trainer.max_iter
    trainer.train()
    found = torch.load(final, weights_only=True)
    assert found["iteration"] == expected["iteration"] == 7 and found["model"].keys() == expected["model"].keys()
    assert all(torch.equal(x, expected["model"][name]) for name, x in found["model"].items())
