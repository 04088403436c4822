"""Weights go in safely and completely, or the user learns why not."""

import errno
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.checkpoint.files import check_weights_file
from centermask_solo.utils import files
from centermask_solo.utils.errors import ConfigError, NonFiniteLossError, WeightsError


class Model(nn.Module):
    """A backbone with a batch norm, a head of two layers."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, num_classes, 1))


def save(tmp_path, content, name="weights.pth"):
    path = str(tmp_path / name)
    if name.endswith(".pkl"):
        with open(path, "wb") as file:
            pickle.dump(content, file)
    else:
        torch.save(content, path)
    return path


def assert_same(model, other):
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("wrapped", [True, False])
def test_loads_what_was_saved(tmp_path, wrapped):
    source, target = Model(), Model()
    state = source.state_dict()
    path = save(tmp_path, {"model": state} if wrapped else state)
    Checkpointer(target, complete=True).load(path)
    assert_same(source, target)


def test_class_names_ride_along(tmp_path):
    Checkpointer(Model(), str(tmp_path), thing_classes=("a", "b", "c")).save("model_final", iteration=7)
    extra = Checkpointer(Model()).load(str(tmp_path / "model_final.pth"))
    assert extra["thing_classes"] == ["a", "b", "c"]
    assert extra["iteration"] == 7


@pytest.mark.parametrize("moment", [0, 1])
def test_a_run_killed_while_a_checkpoint_is_written_or_tagged_keeps_the_one_before(tmp_path, monkeypatch, moment):
    checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
    checkpointer.save("first")
    replace, moments = os.replace, iter(range(2))

    def kill(*args):
        if next(moments) == moment:
            raise KeyboardInterrupt
        replace(*args)

    monkeypatch.setattr(os, "replace", kill)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("second")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "first.pth")
    assert sorted(os.listdir(tmp_path)) == ["first.pth", "last_checkpoint", "second.pth"][: 2 + moment]


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    model = nn.Linear(1, 1)
    Checkpointer(model, str(tmp_path)).save("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()

    def write(self, data):
        self.failure = OSError(errno.ENOSPC, "No space left on device")
        raise self.failure

    monkeypatch.setattr(files._Raw, "write", write)
    nn.init.ones_(model.weight)
    with pytest.raises(ConfigError, match=r"model_final\.pth cannot be written \(No space left on device\)"):
        Checkpointer(model, str(tmp_path)).save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_final.pth"]


@pytest.mark.parametrize("name", ["weight", "running_mean"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_diverged_replaces_no_checkpoint(tmp_path, name, value):
    model = nn.BatchNorm1d(2)
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_final", iteration=7)
    with torch.no_grad():
        getattr(model, name)[1] = value
    with pytest.raises(NonFiniteLossError, match=f"'{name}' became infinite or NaN, so model_final.pth is not written"):
        checkpointer.save("model_final")
    with pytest.raises(NonFiniteLossError, match=r"so model_best\.pth is not written"):
        checkpointer.write("model_best", {"model": model.state_dict()})
    assert not (tmp_path / "model_best.pth").exists()
    assert Checkpointer(nn.BatchNorm1d(2)).load(str(tmp_path / "model_final.pth"))["iteration"] == 7


@pytest.mark.parametrize("protocol", [2, 4])
def test_loads_detectron2_pkl(tmp_path, protocol):
    source, target = Model(), Model()
    weights = {key: value.numpy() for key, value in source.state_dict().items()}
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "someone"}, protocol=protocol))
    Checkpointer(target, complete=True).load(str(path))
    assert_same(source, target)


def test_loads_caffe2_pkl_by_the_ends_of_names(tmp_path):
    weights = {"0.weight": np.full((4, 3, 3, 3), 2.0, np.float32), "0.weight_momentum": np.zeros(1, np.float32)}
    model = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), "head": nn.Conv2d(4, 3, 1)})
    Checkpointer(model).load(save(tmp_path, {"blobs": weights}, "weights.pkl"))
    assert torch.equal(model["backbone"][0].weight, torch.full((4, 3, 3, 3), 2.0))


class RunsCode:
    def __reduce__(self):
        return (print, ("code of the file has run",))


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth"])
def test_a_file_cannot_run_code(tmp_path, capsys, name):
    path = save(tmp_path, {"model": {"x": RunsCode()}, "__author__": "someone"}, name)
    with pytest.raises(WeightsError, match="could run code"):
        Checkpointer(Model()).load(path)
    assert "has run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth"])
def test_a_damaged_file_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match=rf"{name} is not a readable checkpoint"):
        Checkpointer(Model()).load(str(path))


@pytest.mark.parametrize("content", [{"model": {}}, {"model": [1, 2]}, {"epoch": 1}])
def test_a_file_without_weights_is_named(tmp_path, content):
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        Checkpointer(Model()).load(save(tmp_path, content))


def test_a_missing_file_is_named_and_the_next_load_works(tmp_path):
    checkpointer = Checkpointer(Model())
    with pytest.raises(WeightsError, match=r"there is no file .*absent\.pth"):
        checkpointer.load(str(tmp_path / "absent.pth"))
    checkpointer.load(save(tmp_path, Model().state_dict()))


def test_weights_of_another_model_without_a_common_key(tmp_path):
    path = save(tmp_path, {"model": nn.Linear(2, 2).state_dict()})
    message = (
        r"does not fit Model: it holds the weights of another model: none of its 2 entries \(such as 'weight'\) is"
    )
    with pytest.raises(WeightsError, match=message):
        Checkpointer(Model()).load(path)


def test_weights_of_another_model_with_the_same_backbone(tmp_path):
    state = {key: value for key, value in Model().state_dict().items() if key.startswith("backbone.")}
    state |= {f"box_head.{i}.weight": torch.zeros(2) for i in range(6)}
    with pytest.raises(
        WeightsError, match=r"another model: .* lacks 4 of the 4 .* 6 of its own .*'box_head\.0\.weight'"
    ):
        Checkpointer(Model()).load(save(tmp_path, {"model": state}))


def test_a_backbone_with_its_classifier_is_one_line_in_the_log(tmp_path, caplog):
    source, model = Model(), Model()
    state = {key: value for key, value in source.state_dict().items() if key.startswith("backbone.")}
    state |= {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}
    path = save(tmp_path, {"model": state})
    with caplog.at_level("INFO"):
        Checkpointer(model).load(path)
    assert torch.equal(model.backbone[0].weight, source.backbone[0].weight)
    assert "fills 6 parameters of the backbone; the other 4 parameters of Model start" in caplog.text
    assert "not found in the checkpoint" not in caplog.text
    with pytest.raises(WeightsError, match=r"lacks 4 of the 10 parameters of Model .* meaningless"):
        Checkpointer(model, complete=True).load(path)


def test_another_number_of_classes_warns_in_training_and_fails_in_prediction(tmp_path, caplog):
    path = save(tmp_path, {"model": Model(num_classes=5).state_dict()})
    Checkpointer(Model()).load(path)
    assert "head.1.weight" in caplog.text
    with pytest.raises(WeightsError, match=r"'head\.1\.bias' is \(5,\) in the file but \(3,\) in the model"):
        Checkpointer(Model(), complete=True).load(path)


def test_what_only_counts_or_normalizes_is_ignored(tmp_path, caplog):
    state = Model().state_dict()
    del state["backbone.1.num_batches_tracked"]
    state |= {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "x.num_batches_tracked": torch.zeros(1),
    }
    Checkpointer(Model(), complete=True).load(save(tmp_path, {"model": state}))
    assert "num_batches" not in caplog.text
    assert "pixel" not in caplog.text


def test_unused_and_unfilled_keys_are_reported(tmp_path, caplog):
    state = Model().state_dict()
    del state["head.0.bias"]
    state["extra.weight"] = torch.zeros(1)
    Checkpointer(Model()).load(save(tmp_path, {"model": state}))
    assert "head.0" in caplog.text
    assert "extra" in caplog.text


def test_prefix_of_data_parallel_is_dropped(tmp_path):
    source, target = Model(), Model()
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    Checkpointer(target, complete=True).load(save(tmp_path, {"model": state}))
    assert_same(source, target)


def test_loads_pycls_files(tmp_path):
    weights = {"0.weight": torch.full((4, 3, 3, 3), 2.0), "0.num_batches_tracked": torch.zeros(1)}
    model = nn.ModuleDict({"backbone": nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), "head": nn.Conv2d(4, 3, 1)})
    Checkpointer(model).load(save(tmp_path, {"model_state": weights, "epoch": 3}, "weights.pyth"))
    assert torch.equal(model["backbone"][0].weight, weights["0.weight"])
    with pytest.raises(WeightsError, match=r"weights\.pyth is not a readable checkpoint"):
        Checkpointer(model).load(save(tmp_path, {"other": weights}, "weights.pyth"))


def test_a_file_that_cannot_be_fetched_is_named(monkeypatch):
    def refuse(path):
        raise OSError("no route to host\nmore of it")

    monkeypatch.setattr("centermask_solo.checkpoint.files.PathManager.get_local_path", refuse)
    message = r"https://nowhere/x\.pth cannot be fetched \(no route to host\); give the path of a copy"
    with pytest.raises(WeightsError, match=rf"^{message}$"):
        Checkpointer(Model()).load("https://nowhere/x.pth?matching_heuristics=True")
    with pytest.raises(WeightsError, match=rf"^MODEL\.WEIGHTS: {message}, or give MODEL\.WEIGHTS '' for no weights$"):
        check_weights_file("https://nowhere/x.pth", "MODEL.WEIGHTS")
    with pytest.raises(WeightsError, match=rf"^MODEL\.WEIGHTS: {message}$"):
        check_weights_file("https://nowhere/x.pth", "MODEL.WEIGHTS", required=True)
