"""Weight files of every format are read without running code from them, in memory bounded by their size."""

import json
import logging
import pickle
import struct
import subprocess
import sys
import zipfile
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from centermask_solo.checkpoint import read_weights
from centermask_solo.checkpoint.files import write_safetensors
from centermask_solo.utils.errors import WeightsError
from centermask_solo.utils.pickles import Inert

WEIGHTS = {"a.weight": torch.arange(3.0), "b.bias": torch.ones(2, dtype=torch.float16)}


class RunsCode:
    def __reduce__(self):
        return (print, ("code of the file has run",))


def in_pkl(values):
    return {key: value.numpy() for key, value in values.items()}


def write(path, content, **options):
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, **options)
    return str(path)


def of_a_framework(path, content, **options):
    """Write a file with an object whose class cannot be imported where the file is read."""
    program = (
        "import sys, types, pickle, torch\n"
        "module = types.ModuleType('mmengine_like'); sys.modules['mmengine_like'] = module\n"
        "class Buffer(dict): pass\n"
        "Buffer.__module__ = 'mmengine_like'; module.Buffer = Buffer\n"
        "path, source, legacy = sys.argv[1:]\n"
        "content = torch.load(source); content['hub'] = [Buffer(x=[1, 2])]\n"
        "torch.save(content, path, _use_new_zipfile_serialization=not int(legacy))\n"
    )
    source = path.with_suffix(".source")
    torch.save(content, source)
    command = [sys.executable, "-c", program, str(path), str(source), str(int(options.get("legacy", False)))]
    subprocess.run(command, check=True, timeout=120, stderr=subprocess.DEVNULL)
    return str(path)


def holds_the_weights(path, mapped=False):
    values, metadata = read_weights(path, mapped=mapped)
    assert values.keys() == WEIGHTS.keys()
    assert all(torch.equal(torch.as_tensor(values[key]), WEIGHTS[key]) for key in WEIGHTS)
    return metadata


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("it's one of $HOME.pth", {"state_dict": {**WEIGHTS, "args": Namespace(lr=0.1)}}),
        ("args.pth", {"model": WEIGHTS, "args": SimpleNamespace(lr=0.1)}),
        ("plain.pkl", {"model": in_pkl(WEIGHTS), "__author__": "someone", "args": Namespace(lr=0.1)}),
        ("caffe2.pkl", {"blobs": {**in_pkl(WEIGHTS), "args": Namespace(lr=0.1)}}),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_objects_beside_the_weights_are_left_out(name, content, tmp_path):
    metadata = holds_the_weights(write(tmp_path / name, content))
    assert "args" not in metadata or isinstance(metadata["args"], Inert)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_objects_of_a_training_framework_are_left_out_with_a_warning(legacy, mapped, tmp_path, caplog):
    path = of_a_framework(tmp_path / "x.pth", {"state_dict": WEIGHTS, "iter": 3}, legacy=legacy)
    with caplog.at_level(logging.WARNING):
        metadata = holds_the_weights(path, mapped)
    assert metadata["iter"] == 3
    assert "x.pth: left out objects that are not tensors: mmengine_like.Buffer" in caplog.text


@pytest.mark.parametrize("name", ["x.pth", "x.pkl", "old.pth"])
def test_a_file_that_could_run_code_is_refused(name, tmp_path, capsys):
    options = {"_use_new_zipfile_serialization": False} if name == "old.pth" else {}
    path = write(
        tmp_path / name, {"model": in_pkl(WEIGHTS) if name == "x.pkl" else WEIGHTS, "x": RunsCode()}, **options
    )
    with pytest.raises(WeightsError, match=r"reading it could run code \(it holds a \w+\.print\)"):
        read_weights(path)
    assert capsys.readouterr().out == ""


def test_a_whole_model_is_not_its_weights(tmp_path):
    path = write(tmp_path / "model.pth", nn.Linear(3, 2))
    with pytest.raises(WeightsError, match=r"holds a whole object instead of weights: save its state_dict\(\)"):
        read_weights(path)


def test_safetensors_under_any_name(tmp_path):
    for name in ("x.safetensors", "x.pth", "x.pkl"):
        save_file(WEIGHTS, tmp_path / name)
        holds_the_weights(str(tmp_path / name))
    write_safetensors(str(tmp_path / "own.safetensors"), {"model": WEIGHTS, "config": "A: 1", "thing_classes": ["a"]})
    assert holds_the_weights(str(tmp_path / "own.safetensors")) == {"config": "A: 1", "thing_classes": ["a"]}


def test_a_damaged_safetensors_file_is_named(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    (tmp_path / "x.pth").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(WeightsError, match=r"x\.pth is not a readable checkpoint"):
        read_weights(str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a pointer of Git LFS: run git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page, not weights"),
        (b"\x1f\x8b\x08rest", "is a compressed archive: unpack it first"),
        (b"\x89HDF\r\n\x1a\nrest", "is an HDF5 file"),
        (b"no weights at all", "is not a readable checkpoint: it is damaged or of another format"),
        (b"\x80\x02" + b"(" * 10_000, "is not a readable checkpoint"),
    ],
    ids=["empty", "lfs", "html", "gzip", "hdf5", "text", "marks"],
)
@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_other_files_are_recognized(content, message, suffix, tmp_path):
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(str(tmp_path / f"x{suffix}"))


def test_a_config_in_place_of_weights(tmp_path):
    (tmp_path / "config.yaml").write_text("MODEL:\n  WEIGHTS: x.pth\n")
    with pytest.raises(
        WeightsError, match=r"config\.yaml is not a readable checkpoint: it is a config: give a file of"
    ):
        read_weights(str(tmp_path / "config.yaml"))


def test_a_zip_archive_of_other_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("model/weights.bin", b"1")
    with pytest.raises(WeightsError, match="is a zip archive of other files"):
        read_weights(str(tmp_path / "x.pth"))


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    torch.save({"x": torch.zeros(40_000_000)}, tmp_path / "large.pth")
    with (
        zipfile.ZipFile(tmp_path / "large.pth") as source,
        zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(WeightsError, match=r"would unpack from 0\.2 MB to 0\.2 GB"):
        read_weights(str(tmp_path / "x.pth"))


def test_storages_larger_than_an_old_file_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"x": torch.zeros(300)}, path, _use_new_zipfile_serialization=False)
    assert read_weights(str(path)).values["x"].shape == (300,)
    data = path.read_bytes()
    count = b"M" + (300).to_bytes(2, "little")
    assert data.count(count) >= 1
    path.write_bytes(data.replace(count, b"J" + (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(WeightsError, match="is not a readable checkpoint"):
        read_weights(str(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({3: torch.zeros(1)}, "has an entry 3, whose name is not a string"),
        ({"x": torch.eye(3).to_sparse()}, "the entry 'x' is sparse"),
        ({"x": torch.tensor([[1.0, float("nan")]]).expand(10**9, 2)}, "the entry 'x' is not finite"),
        ({"x": [1, 2]}, "holds no tensors"),
        ({}, "holds no weights"),
        ([torch.zeros(1)], "holds no weights under 'model'"),
    ],
    ids=["name", "sparse", "expanded", "list", "empty", "a list"],
)
def test_entries_that_are_no_ordinary_tensors_are_named(values, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        read_weights(write(tmp_path / "x.pth", {"model": values}))


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch deprecates quantized tensors
def test_a_quantized_entry_is_named(tmp_path):
    values = {"x": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}
    with pytest.raises(WeightsError, match="the entry 'x' is quantized"):
        read_weights(write(tmp_path / "x.pth", {"model": values}))


def test_every_prefix_of_a_file_is_an_error_of_one_line(tmp_path):
    for name, content, options in [
        ("new.pth", {"model": WEIGHTS}, {}),
        ("old.pth", {"model": WEIGHTS}, {"_use_new_zipfile_serialization": False}),
        ("plain.pkl", {"model": in_pkl(WEIGHTS), "__author__": "x"}, {}),
    ]:
        path = write(tmp_path / name, content, **options)
        data = (tmp_path / name).read_bytes()
        for length in np.linspace(0, len(data) - 1, 60).astype(int):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(WeightsError):
                read_weights(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["x.pth", "x.pkl"])
def test_weights_that_are_not_finite_are_refused(name, value, tmp_path):
    values = {**WEIGHTS, "a.weight": torch.tensor([1.0, value])}
    path = write(tmp_path / name, {"model": in_pkl(values) if name == "x.pkl" else values, "__author__": "x"})
    with pytest.raises(WeightsError, match=r"the entry 'a\.weight' is not finite"):
        read_weights(path)
