"""Write files of OpenVINO: the graph as .xml and its weights beside it as .bin."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import warnings
from typing import Any

import openvino
from openvino import opset14 as ops
from openvino.frontend.pytorch import ConversionExtension

from ..runtime.checksum import XML as ENDING
from ..runtime.formats import files_of
from ..runtime.metadata import KEY, WEIGHTS_KEY, Metadata
from ..utils.errors import ConfigError
from ..utils.files import atomic_write, make_folder, sha256_of
from ..utils.memory import without_garbage_collection
from .target import Target

MAX_BOXES = 3840  # that compete in a class, of those that enter NMS


def write(target: Target) -> None:
    """Write the two files of OpenVINO, with metadata.

    Raises:
        ConfigError: They cannot be written.
    """
    folder = os.path.dirname(target.path) or "."
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        model = _converted(target) if target.calibration is None else _quantized(target, temporary)
        for name, value in zip(target.outputs, model.outputs, strict=True):
            value.get_tensor().set_names({name})
        save(model, target.metadata, target.path, temporary)


def save(model: openvino.Model, metadata: Metadata, path: str, folder: str) -> None:
    """Write a model to two files with metadata and checksums.

    Args:
        model: The model.
        metadata: What the files say about themselves.
        path: The .xml file.
        folder: A folder for temporary files.

    Raises:
        ConfigError: They cannot be written.
    """
    written = os.path.join(folder, "model.xml")
    model.set_rt_info(metadata.to_json(), KEY)
    for _ in range(2):  # the second time, the .xml knows its .bin
        openvino.save_model(model, written, compress_to_fp16=metadata.half)
        model.set_rt_info(sha256_of(files_of(written)[1]), WEIGHTS_KEY)
    for source, to in reversed(list(zip(files_of(written), files_of(path), strict=True))):
        with open(source, "rb") as content, atomic_write(to, "wb") as file:
            while block := content.read(1 << 24):
                file.write(block)
            if source == written:
                file.write(ENDING.of(sha256_of(source)))


@without_garbage_collection()
def _converted(target: Target) -> openvino.Model:
    """Return the model in float32, from PyTorch: OpenVINO does not read deformable convolutions from ONNX."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nms = ConversionExtension("centermask_solo.nms.default", _greedy_nms)
        return openvino.convert_model(target.program, extension=[nms])


def _quantized(target: Target, folder: str) -> openvino.Model:
    """Return the model in 8-bit integers, from ONNX, whose rounding OpenVINO understands.

    Raises:
        ConfigError: The model has deformable convolutions.
    """
    import onnx

    from .onnx_file import write as write_onnx

    path = os.path.join(folder, "int8.onnx")
    write_onnx(dataclasses.replace(target, path=path))
    if any(node.op_type == "DeformConv" for node in onnx.load(path, load_external_data=False).graph.node):
        raise ConfigError(
            "OpenVINO takes no deformable convolutions beside 8-bit integers: export to ONNX, or without --int8"
        )
    return openvino.Core().read_model(path)


def _greedy_nms(node: Any) -> list[Any]:
    """Return :func:`centermask_solo.ops.fixed_nms.nms_operator` in the operators of OpenVINO."""
    class_scores = node.get_input(1)
    boxes = ops.reshape(
        node.get_input(0), ops.constant([0, 0, 4], dtype="int64"), special_zero=True
    )  # says that it is 4
    iou = node.get_values_from_const_input(2)
    found = ops.non_max_suppression(
        boxes,
        class_scores,
        max_output_boxes_per_class=ops.constant(MAX_BOXES, dtype="int64"),
        iou_threshold=ops.constant(float(iou), dtype="float32"),
        score_threshold=ops.constant(0.0, dtype="float32"),
        sort_result_descending=False,
        output_type="i64",
    )
    nothing = ops.less(class_scores, ops.constant(-1.0, dtype="float32"))
    rows = found.output(0)
    ones = ops.broadcast(ops.constant(True, dtype="bool"), ops.gather(ops.shape_of(rows), [0], 0))
    return ops.scatter_nd_update(nothing, rows, ones).outputs()
