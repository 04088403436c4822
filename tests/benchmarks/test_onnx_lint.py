"""The lint of exported graphs finds what runtimes get wrong."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from benchmarks.onnx_lint import lint


def model_of(*nodes, size=("N", "H", "W"), constants=()):
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [*size, 3])
    initializers = [numpy_helper.from_array(np.int64([k]), name) for name, k in dict(constants).items()]
    return helper.make_model(helper.make_graph(nodes, "graph", [images], [], initializers))


def top_k(k):
    return helper.make_node("TopK", ["scores", k], ["values", "indices"], name="best")


def test_graphs_in_order():
    assert lint(model_of(top_k("k"), constants={"k": 3840}), free_sizes=True) == []
    assert lint(model_of(size=(1, 800, 1216)), free_sizes=False) == []


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (model_of(top_k("k"), constants={"k": 3841}), "best: TopK of 3841 values, more than 3840"),
        (model_of(top_k("count")), "best: the number of values of TopK is not constant"),
        (model_of(helper.make_node("Resize", ["x"], ["y"], name="r", antialias=1)), "r: antialiased resizing"),
        (model_of(helper.make_node("NonZero", ["x"], ["y"], name="n")), "n: NonZero, whose work depends on data"),
        (model_of(size=("N", 800, 1216)), "the input images has a fixed size"),
    ],
    ids=lambda x: x.split(":")[0] if isinstance(x, str) else "",
)
def test_faults(model, fault):
    (found,) = lint(model, free_sizes=True)
    assert found.startswith(fault)
