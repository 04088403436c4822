"""What ONNX Runtime refuses, in words."""

import pytest

from centermask_solo.runtime.session import open_file
from centermask_solo.utils.errors import MissingPackageError, WeightsError

onnxruntime = pytest.importorskip("onnxruntime")

# What ONNX Runtime 1.23.2 says of a file with a deformable convolution
OLD = (
    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for DeformConv(19) node with name 'x'"
)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (OLD, MissingPackageError, r"deformable convolutions, which ONNX Runtime .* lacks: install 1\.25 or newer"),
        ("no such file", WeightsError, r"cannot be read by ONNX \(no such file\): export it again"),
    ],
)
def test_a_runtime_without_deformable_convolutions_is_told_from_a_damaged_file(
    message, kind, words, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise RuntimeError(message)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    path = tmp_path / "model.onnx"
    path.write_bytes(b"content")
    with pytest.raises(kind, match=words):
        open_file(str(path))
