"""The program in C++ of the documentation runs a file with the inputs and outputs of an exported one."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")


ROOT = Path(__file__).parents[2]
PACKAGE = Path(openvino.__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler"),
    pytest.mark.skipif(not (PACKAGE / "include").is_dir(), reason="this OpenVINO has no headers"),
]


def compiled(folder):
    (source,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    program, (library,) = folder / "detect", PACKAGE.glob("libs/libopenvino.so.*")
    (folder / "detect.cpp").write_text(source)
    command = ["g++", "-std=c++17", "-I", PACKAGE / "include", folder / "detect.cpp", library, "-o", program]
    subprocess.run(command, check=True)
    return program


def small_model(path):
    """A file with two detections, whose scores are the mean of the pixels and half of it."""
    from openvino import opset14 as ops

    images = ops.parameter([-1, -1, -1, 3], np.uint8, name="images")
    sizes = ops.parameter([-1, 2], np.int64, name="image_sizes")
    mean = ops.reduce_mean(ops.convert(images, "f32"), [1, 2, 3], keep_dims=False)
    scores = ops.multiply(ops.unsqueeze(mean, 1), ops.constant(np.float32([[1 / 255, 0.5 / 255]])))
    height, width = (ops.convert(ops.gather(sizes, [i], 1), "f32") for i in (0, 1))
    nothing = ops.multiply(width, ops.constant(np.float32(0)))
    boxes = ops.unsqueeze(ops.concat([nothing, nothing, width, height], 1), 1)
    found = {
        "boxes": ops.concat([boxes, boxes], 1),
        "scores": scores,
        "classes": ops.constant(np.int64([[7, 3]])),
        "num_detections": ops.constant(np.int64([2])),
    }
    results = []
    for name, node in found.items():
        results.append(ops.result(node))
        results[-1].get_output_tensor(0).set_names({name})
    model = openvino.Model(results, [images, sizes])
    for x in model.inputs:
        x.get_tensor().set_names({x.get_node().get_friendly_name()})
    openvino.save_model(model, path, compress_to_fp16=False)


def test_the_program_in_cpp_prints_the_detections(tmp_path):
    small_model(tmp_path / "model.xml")
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    (tmp_path / "photo.ppm").write_bytes(b"P6\n56 40\n255\n" + image.tobytes())
    command = [compiled(tmp_path), tmp_path / "model.xml", tmp_path / "photo.ppm"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(PACKAGE / "libs")}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows = [[float(x) for x in line.split()] for line in result.stdout.splitlines()]
    score = image.mean() / 255
    np.testing.assert_allclose(rows, [[7, score, 0, 0, 56, 40], [3, score / 2, 0, 0, 56, 40]], rtol=1e-4)
