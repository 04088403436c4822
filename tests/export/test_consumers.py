"""The programs of the documentation run files with the inputs and outputs of exported ones."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.programs import ROOT, assert_the_program_finds_the_same
from tests.runtime.files import ABOUT, write_onnx


@pytest.mark.parametrize("size", [(48, 72), (20, 30), (40, 40)])
@pytest.mark.parametrize("boxes", [True, False])
def test_the_program_in_python_finds_what_this_package_finds(boxes, size, tmp_path):
    """Of three objects the one without a pixel is dropped where boxes are those around masks."""
    about = replace(ABOUT, masks=replace(ABOUT.masks, boxes=boxes))
    write_onnx(tmp_path / "model.onnx", about)
    height, width = size
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(
        tmp_path / "photo.jpg"
    )
    found = assert_the_program_finds_the_same(tmp_path)
    names = ["b", "a"] if boxes else ["b", "a", "a"]
    assert [row[0] for row in found] == names[: len(found)] and len(found) >= 2


def package():
    """The folder of OpenVINO's package, with what a compiler needs."""
    found = Path(pytest.importorskip("openvino").__file__).parent
    if shutil.which("g++") is None or not (found / "include").is_dir():
        pytest.skip("there is no C++ compiler, or this OpenVINO has no headers")
    return found


def compiled(folder):
    (source,) = re.findall(r"```cpp\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
    program, (library,) = folder / "detect", package().glob("libs/libopenvino.so.*")
    (folder / "detect.cpp").write_text(source)
    command = ["g++", "-std=c++17", "-I", package() / "include", folder / "detect.cpp", library, "-o", program]
    subprocess.run(command, check=True)
    return program


def small_model(path):
    """A file with two detections, whose scores are the mean of the pixels and half of it."""
    import openvino
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


@pytest.mark.slow
def test_the_program_in_cpp_prints_the_detections(tmp_path):
    small_model(tmp_path / "model.xml")
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    (tmp_path / "photo.ppm").write_bytes(b"P6\n56 40\n255\n" + image.tobytes())
    command = [compiled(tmp_path), tmp_path / "model.xml", tmp_path / "photo.ppm"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(package() / "libs")}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows = [[float(x) for x in line.split()] for line in result.stdout.splitlines()]
    score = image.mean() / 255
    np.testing.assert_allclose(rows, [[7, score, 0, 0, 56, 40], [3, score / 2, 0, 0, 56, 40]], rtol=1e-4)
