"""Which checkpoint of a folder training continues from."""

import shutil

import pytest
import torch
from torch import nn

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.checkpoint.folder import checkpoints_in, find_checkpoint, has_checkpoints, newest_intact
from centermask_solo.utils.errors import WeightsError


@pytest.fixture
def folder(tmp_path):
    """Checkpoints after iterations 3, 7 and 9, the last of them final; the weight is the iteration."""
    model = nn.Linear(1, 1)
    checkpointer = Checkpointer(model, str(tmp_path))
    for iteration, name in ((3, "model_0000003"), (7, "model_0000007"), (9, "model_final")):
        nn.init.constant_(model.weight, iteration)
        checkpointer.save(name, iteration=iteration)
    shutil.copy(tmp_path / "model_final.pth", tmp_path / "mine.pth")
    return tmp_path


def resume(folder):
    model = nn.Linear(1, 1)
    checkpointer = Checkpointer(model, str(folder))
    iteration = checkpointer.resume_or_load("", resume=True)["iteration"]
    assert model.weight.item() == iteration
    return iteration


def test_the_checkpoint_that_last_checkpoint_names_is_resumed(folder):
    assert resume(folder) == 9
    (folder / "last_checkpoint").write_text("model_0000003.pth")
    assert resume(folder) == 3


@pytest.mark.parametrize("content", [None, "", "model_0000099.pth", b"\xff"])
def test_the_newest_one_is_resumed_where_none_is_named(folder, content, caplog):
    path = folder / "last_checkpoint"
    path.unlink() if content is None else path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert resume(folder) == 9
    assert f"the newest intact one is {folder / 'model_final.pth'}" in caplog.text
    (folder / "model_final.pth").unlink()
    assert resume(folder) == 7
    (folder / "model_0000007.pth").write_bytes(b"")
    assert resume(folder) == 3


def damage(path, kind):
    content = bytearray(path.read_bytes())
    if kind == "flipped":
        start = content.index(torch.load(path)["model"]["weight"].numpy().tobytes())
        content[start] ^= 1
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "flipped": content}[kind])


@pytest.mark.parametrize("kind", ["empty", "half", "flipped"])
def test_a_damaged_checkpoint_names_the_newest_intact_one(folder, kind):
    damage(folder / "model_final.pth", kind)
    damage(folder / "model_0000007.pth", kind)
    message = (
        f"training cannot be resumed from {folder}/model_final.pth, which is damaged or not finite: delete it to "
        f"resume from {folder}/model_0000003.pth, the newest that is intact"
    )
    with pytest.raises(WeightsError) as error:
        resume(folder)
    assert str(error.value) == message
    (folder / "model_final.pth").unlink()
    assert resume(folder) == 3


def test_no_checkpoint_is_intact(folder):
    for path in folder.glob("model_*.pth"):
        path.write_bytes(b"")
    with pytest.raises(WeightsError, match="no other checkpoint is intact, so start over with --overwrite"):
        resume(folder)
    (folder / "last_checkpoint").unlink()
    with pytest.raises(WeightsError, match="not a checkpoint that can be read, and there is no other: start over with"):
        resume(folder)


def test_only_checkpoints_of_a_training_count(tmp_path):
    for name in ("mine.pth", "model_best.pth", "model_1.pkl"):
        torch.save({"model": {"weight": torch.zeros(1)}, "iteration": 3}, tmp_path / name)
    assert not has_checkpoints(str(tmp_path)) and not has_checkpoints("")
    assert find_checkpoint(str(tmp_path)) == "" == newest_intact(str(tmp_path))
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "model_0000001.pth")
    assert has_checkpoints(str(tmp_path))
    assert checkpoints_in(str(tmp_path)) == [str(tmp_path / "model_0000001.pth")]
    assert newest_intact(str(tmp_path)) == ""  # it does not say where training would continue
