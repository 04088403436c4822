"""What is wrong with an ONNX graph before anything runs it: what some runtime refuses or silently gets wrong."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import numpy_helper

MAX_TOPK = 3840  # of TensorRT


def lint(model: onnx.ModelProto, free_sizes: bool) -> list[str]:
    """Return the faults of a graph, in words; empty if there are none.

    Args:
        model: The graph.
        free_sizes: Whether the height and width of its images are free.
    """
    nodes = list(_nodes(model))
    constants = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer if x.ByteSize() < 4096}
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    faults = []
    for node in nodes:
        if node.op_type == "TopK":
            k = constants.get(node.input[1])
            if k is None:
                faults.append(f"{node.name}: the number of values of TopK is not constant")
            elif int(k.ravel()[0]) > MAX_TOPK:
                faults.append(f"{node.name}: TopK of {int(k.ravel()[0])} values, more than {MAX_TOPK}")
        if any(x.name == "antialias" and x.i for x in node.attribute):
            faults.append(f"{node.name}: antialiased resizing, which OpenVINO gets wrong")
        if node.op_type in ("Loop", "If", "Scan", "NonZero"):
            faults.append(f"{node.name}: {node.op_type}, whose work depends on data")
    if free_sizes:
        faults += [f"the input {x} has a fixed size" for x in _fixed_inputs(model)]
    return faults


def _fixed_inputs(model: onnx.ModelProto) -> Iterator[str]:
    """Yield the inputs whose number of images, height or width is fixed."""
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        free = 3 if value.name == "images" else 1
        if not all(x.dim_param for x in dimensions[:free]):
            yield value.name


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from model.graph.node
    for function in model.functions:
        yield from function.node
