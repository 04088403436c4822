"""The average of the weights: exact, saved, resumed, evaluated beside the raw ones, and read by its name."""

import json
from types import MappingProxyType

import pytest
import torch
from torch import nn

from centermask_solo.checkpoint import read_weight_file, read_weights
from centermask_solo.training.averaging import WeightAverage
from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.output_folder import files_of_run
from centermask_solo.utils.errors import WeightsError
from tests.training.tiny import RecordingTrainer, tiny_cfg, train, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


def make_cfg(data, output, optimizer="SGD", ema=MappingProxyType({})):
    cfg = tiny_cfg(data, output)
    cfg.SEED = 3
    cfg.SOLVER.OPTIMIZER = optimizer
    cfg.MODEL.EMA.ENABLED = True
    cfg.merge_from_list([x for item in ema.items() for x in item])
    return cfg


@pytest.mark.parametrize(
    ("warm_up", "expected"),
    [
        (False, [0.0, 1.0, 2.75, 5.0625]),  # with a decay of 3/4: 0.75 * 0 + 0.25 * 4, 0.75 * 1 + 0.25 * 8, ...
        (True, [0.0, 4 * 9 / 11, None, None]),  # min(3/4, 2/11) of the first
    ],
)
def test_the_average_is_the_sequence_computed_by_hand(warm_up, expected):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = WeightAverage(model, 0.75, warm_up)
    average.start()
    found = [average.average["weight"].item()]
    for value in (4.0, 8.0, 12.0):
        nn.init.constant_(model.weight, value)
        average.update()
        found.append(average.average["weight"].item())
    assert all(b is None or a == pytest.approx(b, rel=1e-6) for a, b in zip(found, expected, strict=True))
    assert warm_up or found == expected


def test_the_warm_up_ends_at_the_decay():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.5)
    average.start()
    for t in range(1, 12):
        nn.init.zeros_(model.weight)
        nn.init.ones_(average.average["weight"])
        average.update()
        assert average.average["weight"].item() == pytest.approx(min(0.5, (1 + t) / (10 + t)))


def test_what_does_not_change_stays_and_counters_are_copied():
    model = nn.BatchNorm2d(3)
    nn.init.uniform_(model.weight)
    average = WeightAverage(model, 0.9998)
    average.start()
    before = model.weight.clone()
    for _ in range(3):
        model(torch.randn(2, 3, 4, 4))
        average.update()
    assert torch.equal(average.average["weight"], before)
    assert average.average["num_batches_tracked"] == 3
    assert not torch.equal(average.average["running_mean"], model.running_mean)


def test_the_model_gets_its_weights_back_even_after_an_error():
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    average = WeightAverage(model, 0.5)
    average.start()
    nn.init.normal_(model.weight)
    average.update()
    raw, averaged = model.weight.clone(), average.average["weight"].clone()
    with pytest.raises(KeyError), average.in_model():
        assert torch.equal(model.weight, averaged)
        raise KeyError
    assert torch.equal(model.weight, raw) and torch.equal(average.average["weight"], averaged)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_training_averages_what_the_optimizer_leaves(data, tmp_path, optimizer):
    """Against a sum over the weights after each step; AdamW is fused on a CPU."""
    cfg = make_cfg(data, tmp_path, optimizer, {"MODEL.EMA.DECAY": 0.9, "MODEL.EMA.WARM_UP": False})
    torch.manual_seed(0)
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    expected = trainer.model.head.weight.detach().clone().double()
    step = trainer.optimizer.step

    def recording_step(*args, **kwargs):
        nonlocal expected
        result = step(*args, **kwargs)
        expected = 0.9 * expected + 0.1 * trainer.model.head.weight.detach().double()
        return result

    trainer.optimizer.step = recording_step
    trainer.train()
    found = trainer.average.average["head.weight"].double()
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(found, trainer.model.head.weight.double(), rtol=1e-4)
    assert bool(trainer.optimizer.defaults["fused"]) is (optimizer == "AdamW")


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_resumed_average_equals_that_of_uninterrupted_training(data, tmp_path, optimizer):
    uninterrupted = train(make_cfg(data, tmp_path / "one", optimizer))
    train(make_cfg(data, tmp_path / "two", optimizer), kill_before=6)
    resumed = train(make_cfg(data, tmp_path / "two", optimizer), resume=True)
    assert resumed.average.updates == uninterrupted.average.updates == 8
    for key, value in uninterrupted.average.average.items():
        assert torch.equal(value, resumed.average.average[key]), key


def test_a_checkpoint_has_the_average_under_its_own_key(data, tmp_path):
    trainer = train(make_cfg(data, tmp_path))
    path = str(tmp_path / "model_final.pth")
    content = torch.load(path, weights_only=True)
    assert content["ema"]["updates"] == 8
    assert torch.equal(content["model"]["head.weight"], trainer.model.head.weight)
    file = read_weight_file(f"{path}?ema=True", known_only=False)
    assert torch.equal(file.weights["head.weight"], trainer.average.average["head.weight"])
    assert file.thing_classes == ["cat", "dog"] and "ema" not in file.metadata
    assert "ema" in read_weights(path).metadata


def test_evaluation_can_ask_for_the_average(data, tmp_path, monkeypatch):
    trainer = train(make_cfg(data, tmp_path))
    cfg = tiny_cfg(data, tmp_path / "evaluation")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth?ema=True")
    seen = []
    monkeypatch.setattr(RecordingTrainer, "test", lambda cfg, model: seen.append(model.head.weight.clone()) or {})
    evaluate(cfg, trainer=RecordingTrainer)
    assert torch.equal(seen[0], trainer.average.average["head.weight"])


def test_a_file_without_an_average_says_so(data, tmp_path):
    train(tiny_cfg(data, tmp_path))
    with pytest.raises(WeightsError, match=r"holds no average .* written without MODEL\.EMA\.ENABLED: leave out \?ema"):
        read_weights(str(tmp_path / "model_final.pth?ema=True"))
    with pytest.raises(WeightsError, match=r"only ema=True and matching_heuristics=True are known"):
        read_weights(str(tmp_path / "model_final.pth?average=1"))


def test_resuming_without_an_average_starts_one(data, tmp_path, caplog):
    train(tiny_cfg(data, tmp_path), kill_before=6)
    trainer = train(make_cfg(data, tmp_path), resume=True)
    assert trainer.average.updates == 4
    assert "holds no average of the weights" in caplog.text


def test_the_average_is_evaluated_beside_the_raw_weights(data, tmp_path):
    cfg = make_cfg(data, tmp_path)
    cfg.TEST.EVAL_PERIOD = 4
    trainer = train(cfg)
    results = trainer._last_eval_results
    assert results["ema"]["segm"].keys() == results["segm"].keys()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert any({"segm/AP", "ema/segm/AP"} <= line.keys() for line in lines)
    assert (tmp_path / "evaluation.json").is_file() and (tmp_path / "ema" / "evaluation.json").is_file()


def fake_scores(monkeypatch, scores):
    """Evaluation returns these APs in turn."""
    remaining = list(scores)
    test = staticmethod(lambda cfg, model: {"segm": {"AP": remaining.pop(0)}} if remaining else {})
    monkeypatch.setattr(RecordingTrainer, "test", test)


def test_the_better_of_both_is_kept(data, tmp_path, monkeypatch):
    """Raw and averaged weights after iterations 4 and 8: the average after 4 is the best, a tie does not replace it."""
    cfg = make_cfg(data, tmp_path)
    cfg.TEST.EVAL_PERIOD, cfg.TEST.KEEP_BEST = 4, "segm/AP"
    fake_scores(monkeypatch, [10.0, 30.0, float("nan"), 30.0])
    train(cfg)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert best["best"] == {"metric": "segm/AP", "value": 30.0, "iteration": 4, "weights": "averaged"}
    assert best["thing_classes"] == ["cat", "dog"] and "config" in best and "trainer" not in best
    stored = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    assert torch.equal(best["model"]["head.weight"], stored["ema"]["model"]["head.weight"])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    names = {path.rpartition("/")[2] for path in files_of_run(str(tmp_path))}
    assert {"model_best.pth", "model_final.pth"} <= names


def test_a_resumed_training_knows_the_best_before(data, tmp_path, monkeypatch, caplog):
    cfg = tiny_cfg(data, tmp_path)
    cfg.SEED, cfg.TEST.EVAL_PERIOD, cfg.TEST.KEEP_BEST = 3, 4, "segm/AP"
    fake_scores(monkeypatch, [30.0])
    train(cfg, kill_before=6)
    fake_scores(monkeypatch, [20.0])
    train(cfg, resume=True)
    assert torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]["iteration"] == 4
    cfg = tiny_cfg(data, tmp_path / "other")
    cfg.TEST.KEEP_BEST = "segm/AP-cat"
    fake_scores(monkeypatch, [20.0])
    train(cfg)
    assert "TEST.KEEP_BEST segm/AP-cat is none of the metrics (segm/AP)" in caplog.text
    assert not (tmp_path / "other" / "model_best.pth").exists()
