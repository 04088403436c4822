"""Write ONNX files."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxscript import opset20

from ..runtime.checksum import ONNX as ENDING
from ..runtime.metadata import KEY
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.memory import without_garbage_collection
from .program import symbols
from .target import Target

OPSET = 20  # the first with all operators that are needed, and known to every runtime of the last years
MAX_BYTES = 2**31 - 1000  # of a file without its checksum; the format of its messages limits them
MIN_HALF = 1024  # elements of a weight that is worth storing as float16


def write(target: Target) -> None:
    """Write an ONNX file with its metadata.

    Raises:
        ConfigError: The model is too large for one file, or the file cannot be written.
    """
    model = to_onnx(target)
    if target.metadata.half:
        store_in_half(model)
    if target.calibration is not None:
        from .int8 import quantize

        model = quantize(model, target.calibration, target.metadata.input)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, target.metadata.to_json()
    if model.ByteSize() > MAX_BYTES:
        raise ConfigError(f"{target.path} would exceed the 2 GiB of an ONNX file: export with --half, or to OpenVINO")
    onnx.checker.check_model(model)
    save(model, target.path)


def save(model: onnx.ModelProto, path: str) -> None:
    """Write a model to a file that ends in its checksum.

    Raises:
        ConfigError: The file cannot be written.
    """
    content = model.SerializeToString()
    with atomic_write(path, "wb") as file:
        file.write(content)
        file.write(ENDING.of(hashlib.sha256(content).hexdigest()))


@without_garbage_collection()
def to_onnx(target: Target) -> onnx.ModelProto:
    """Return the model of a program, with the sizes of its inputs and outputs named N, H and W."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported: Any = torch.onnx.export(
            target.program,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            output_names=target.outputs,
            custom_translation_table={torch.ops.centermask_solo.nms.default: _greedy_nms},
        )
    model: onnx.ModelProto = exported.model_proto
    names = symbols(target.program)
    pattern = re.compile("|".join(rf"\b{re.escape(x)}\b" for x in names)) if names else None
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for dimension in (d for v in values for d in v.type.tensor_type.shape.dim if d.dim_param):
        if pattern is not None:
            dimension.dim_param = pattern.sub(lambda found: names[found[0]], dimension.dim_param)
    _drop_traces(model)
    return model


def _greedy_nms(boxes: Any, class_scores: Any, iou_thresh: float) -> Any:
    """Return :func:`centermask_solo.ops.fixed_nms.nms_operator` in the operators of ONNX."""
    op: Any = opset20
    most = op.Constant(value_ints=[2**31 - 1])
    iou, zero = op.Constant(value_floats=[iou_thresh]), op.Constant(value_floats=[0.0])
    selected = op.NonMaxSuppression(boxes, class_scores, most, iou, zero)  # (S, 3): image, class, box
    nothing = op.Less(class_scores, op.Constant(value_float=-1.0))
    count = op.Slice(op.Shape(selected), op.Constant(value_ints=[0]), op.Constant(value_ints=[1]))
    kept = op.Cast(op.Expand(op.Constant(value_ints=[1]), count), to=onnx.TensorProto.BOOL)
    return op.ScatterND(nothing, selected, kept)


def _drop_traces(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the source code, most of the size of a graph, and the paths of this machine."""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]
    for function in model.functions:
        for node in function.node:
            del node.metadata_props[:]


def store_in_half(model: onnx.ModelProto) -> None:
    """Store the large float32 weights of a model as float16, in place; runtimes turn them back when they load them."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < MIN_HALF:
            continue
        name = weight.name
        limit = float(np.finfo(np.float16).max)
        values = np.clip(numpy_helper.to_array(weight), -limit, limit).astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


logging.getLogger("onnxscript").setLevel(logging.ERROR)  # its optimizer reports every constant that it leaves alone
