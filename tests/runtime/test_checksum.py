"""Damage to exported files is found before a runtime computes with it; what others wrote is not taken for damaged."""

import hashlib
import io
import logging
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from centermask_solo import ExportedPredictor
from centermask_solo.runtime.checksum import ONNX, XML, is_intact
from centermask_solo.runtime.metadata import KEY, WEIGHTS_KEY
from centermask_solo.runtime.session import open_file
from centermask_solo.utils.errors import WeightsError
from tests.runtime.files import ABOUT, write_onnx, write_openvino

DAMAGED = r"^{} is damaged or was changed after its export: export it again$"


def flip(path, place):
    """Flip a bit of a file."""
    content = bytearray(Path(path).read_bytes())
    content[place] ^= 4
    Path(path).write_bytes(content)


@pytest.mark.parametrize("ending", [ONNX, XML])
@pytest.mark.parametrize("length", [0, 1, 3 << 20])
def test_one_other_bit_is_found_wherever_it_is(ending, length, tmp_path):
    path, content = tmp_path / "file", np.random.default_rng(0).bytes(length)
    path.write_bytes(content)
    assert not is_intact(str(path), ending)
    path.write_bytes(content + ending.of(hashlib.sha256(content).hexdigest()))
    assert is_intact(str(path), ending)
    for place in {*range(0, length, 700_000), length + len(ending.before) + 5}:
        flip(path, place)
        with pytest.raises(WeightsError, match=DAMAGED.format(path)):
            is_intact(str(path), ending)
        flip(path, place)


@pytest.mark.parametrize("function", [False, True])
def test_onnx(function, tmp_path, caplog):
    path = write_onnx(tmp_path / "model.onnx", function=function)
    import onnx

    onnx.checker.check_model(path)
    with caplog.at_level(logging.WARNING):
        expected = ExportedPredictor(path)(np.zeros((48, 72, 3), np.uint8))["instances"]
    assert len(expected) == 2 and not caplog.text
    again = str(tmp_path / "again.onnx")
    onnx.save(onnx.load(path), again)
    found = ExportedPredictor(again)(np.zeros((48, 72, 3), np.uint8))["instances"]
    np.testing.assert_array_equal(found.pred_boxes, expected.pred_boxes)
    assert "again.onnx has no checksum, as another program or version wrote it" in caplog.text
    flip(path, Path(path).read_bytes().index(np.float32(0.7).tobytes()))
    with pytest.raises(WeightsError, match=DAMAGED.format(path)):
        ExportedPredictor(path)


def test_openvino(tmp_path, caplog):
    path = write_openvino(tmp_path / "model.xml")
    with caplog.at_level(logging.WARNING):
        assert len(ExportedPredictor(path)(np.zeros((48, 72, 3), np.uint8))["instances"]) == 2
    assert not caplog.text
    text = Path(path).read_text()
    flip(path, text.index('shape="1, 3, 4"') + 10)
    with pytest.raises(WeightsError, match=DAMAGED.format(path)):
        open_file(path)
    Path(path).write_text(text.rpartition("<!--")[0].replace(WEIGHTS_KEY, "another_key"))
    with pytest.raises(WeightsError, match=r"model\.bin does not belong to .*model\.xml: copy both files"):
        open_file(path)


class Program(nn.Module):
    """A graph with a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), 7.0))

    def forward(self, images):
        return {"sums": (images.float() * self.weight).sum()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The content of a file of torch.export, of the variant raw."""
    about = replace(ABOUT, variant="raw", outputs={"sums": "sums"}, input=replace(ABOUT.input, image_sizes=False))
    images, path = torch.zeros(2, 40, 50, 3, dtype=torch.uint8), tmp_path_factory.mktemp("pt2") / "model.pt2"
    sizes = {"images": {1: torch.export.Dim("H"), 2: torch.export.Dim("W")}}
    program = torch.export.export(Program(), (), {"images": images}, dynamic_shapes=sizes)
    torch.export.save(program, path, extra_files={KEY: about.to_json()})
    return path.read_bytes()


def test_torch_export(archive, tmp_path, capfd):
    path = tmp_path / "model.pt2"
    path.write_bytes(archive)
    session, _ = open_file(path)
    assert session.inputs["images"][1:3] == (None, None) and list(session.outputs) == ["sums"]
    flip(path, archive.index(np.full(3, 7, np.float32).tobytes()))
    with pytest.raises(WeightsError, match=DAMAGED.format(path)):
        open_file(path)
    assert capfd.readouterr() == ("", "")


def test_the_reason_is_all_that_is_said_of_a_file_that_pytorch_cannot_read(archive, tmp_path, capfd, caplog):
    """Not the traceback that it logs, but what it logs otherwise."""
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(io.BytesIO(archive)) as whole, zipfile.ZipFile(path, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[:99] if name.endswith("model.json") else content)
    with pytest.raises(WeightsError, match=r"model\.pt2 cannot be read by torch\.export \(.+\): export it again"):
        open_file(path)
    assert capfd.readouterr() == ("", "") and not caplog.text
    logging.getLogger("torch.export").warning("as before")
    assert "as before" in caplog.text
