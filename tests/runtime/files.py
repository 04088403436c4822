"""Small files with the inputs and outputs of exported models, which need no export."""

from dataclasses import replace

import numpy as np
import pytest

from centermask_solo.runtime.metadata import KEY, Masks, Resize
from tests.runtime.test_metadata import INPUT, METADATA

OUTPUTS = ("boxes", "scores", "classes", "masks", "num_detections", "exact")
# Images become 32 x 48, which is padded to 32 x 64, where masks have 8 x 16 pixels.
ABOUT = replace(
    METADATA,
    input=replace(INPUT, resize=Resize(short_edge=32, max_long_edge=100, stretch=False), min_size=(1, 1)),
    masks=Masks(frame="input", stride=4, threshold=0.5, whole_boxes=False, boxes=True),
    max_detections=3,
    outputs={name: name for name in OUTPUTS},
)


def constants():
    """What the files find in every image: two objects, and one without a pixel in between."""
    masks = np.zeros((1, 3, 8, 16), np.float32)
    masks[0, 0, 1:4, 2:6] = 0.9
    masks[0, 1] = 0.4
    masks[0, 2, 3:7, 3:12] = np.linspace(0.2, 1, 36).reshape(4, 9)
    return {
        "boxes": np.float32([[[7, 3, 26, 18], [0, 0, 9, 9], [10, 11, 50, 29]]]),
        "scores": np.float32([[0.9, 0.8, 0.7]]),
        "classes": np.int64([[1, 0, 0]]),
        "masks": masks,
        "num_detections": np.int64([3]),
        "exact": np.array([True]),
    }


def onnx_model(about=ABOUT, *, inputs=("images", "image_sizes"), size=("H", "W"), function=False):
    """A model of ONNX that finds :func:`constants`; with a function if that is asked for, as exported ones have."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"images": (TensorProto.UINT8, ["N", *size, 3]), "image_sizes": (TensorProto.INT64, ["N", 2])}
    found = constants()
    nodes = [helper.make_node("Identity", [f"{name}_constant"], [name]) for name in found]
    domains, functions = [helper.make_opsetid("", 20)], []
    if function:
        domains.append(helper.make_opsetid("own", 1))
        body = [helper.make_node("Identity", ["x"], ["y"])]
        functions.append(helper.make_function("own", "Same", ["x"], ["y"], body, domains[:1]))
        nodes[0] = helper.make_node("Same", ["boxes_constant"], ["boxes"], domain="own")
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *kinds[name]) for name in inputs],
        [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for k, x in found.items()],
        [numpy_helper.from_array(x, f"{name}_constant") for name, x in found.items()],
    )
    model = helper.make_model(graph, opset_imports=domains, functions=functions, ir_version=10)
    onnx.checker.check_model(model)
    if about is not None:
        model.metadata_props.add(key=KEY, value=about.to_json())
    return model


def write_onnx(path, about=ABOUT, **options):
    """Write :func:`onnx_model` as an exported file; return its path."""
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    from centermask_solo.export.onnx_file import save

    save(onnx_model(about, **options), str(path))
    return str(path)


def write_openvino(path, about=ABOUT):
    """Write a model of OpenVINO that finds :func:`constants` as an exported file; return its path."""
    openvino, ops = pytest.importorskip("openvino"), pytest.importorskip("openvino.opset14")
    from centermask_solo.export.openvino_file import save

    images = ops.parameter([-1, -1, -1, 3], np.uint8, name="images")
    sizes = ops.parameter([-1, 2], np.int64, name="image_sizes")
    results = []
    for name, x in constants().items():
        results.append(ops.result(ops.constant(x)))
        results[-1].get_output_tensor(0).set_names({name})
    model = openvino.Model(results, [images, sizes])
    for i, x in enumerate(model.inputs):
        x.get_tensor().set_names({x.get_node().get_friendly_name(), f"{i}"})  # as some conversions add others
    folder = path.parent / "temporary"
    folder.mkdir()
    save(model, about, str(path), str(folder))
    return str(path)
