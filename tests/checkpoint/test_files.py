"""A file that needs code is refused, with a way out that works."""

import pickle
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from centermask_solo.checkpoint import read_weights
from centermask_solo.utils.errors import WeightsError

WEIGHTS = {"a.weight": torch.arange(3.0), "b.bias": torch.ones(2, dtype=torch.float16)}
ARGS = SimpleNamespace(lr=0.1)


def in_pkl(values):
    return {key: value.numpy() for key, value in values.items()}


FILES = {
    "it's one of $HOME.pth": {"state_dict": {**WEIGHTS, "args": ARGS}},
    "plain.pkl": {"model": in_pkl(WEIGHTS), "__author__": "someone", "args": ARGS},
    "caffe2.pkl": {"blobs": {**in_pkl(WEIGHTS), "args": ARGS}},
}


@pytest.mark.parametrize("name", FILES)
def test_the_way_out_works(name, tmp_path):
    path = tmp_path / name
    if name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(FILES[name]))
    else:
        torch.save(FILES[name], path)
    with pytest.raises(WeightsError, match="could run code; if you trust its author") as error:
        read_weights(str(path))
    command = str(error.value).partition("give the new file: ")[2]
    python, *arguments = shlex.split(command)  # as a shell does
    assert python == "python" and arguments[-2:] == [str(path), f"{path}.tensors.pth"]
    assert not set('$`\\"') & set(arguments[1])  # within the quotes of a shell
    subprocess.run([sys.executable, *arguments], check=True, timeout=120)
    values, metadata = read_weights(f"{path}.tensors.pth")
    assert metadata == {}
    assert values.keys() == WEIGHTS.keys()
    assert all(torch.equal(values[key], WEIGHTS[key]) for key in WEIGHTS)


def test_the_way_out_of_a_whole_model(tmp_path):
    model = nn.Linear(3, 2)
    torch.save(model, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"holds a torch\.nn\.modules\.linear\.Linear\)") as error:
        read_weights(str(tmp_path / "model.pth"))
    subprocess.run([sys.executable, *shlex.split(str(error.value).partition("python ")[2])], check=True, timeout=120)
    values, _ = read_weights(str(tmp_path / "model.pth.tensors.pth"))
    assert torch.equal(values["weight"], model.weight)
