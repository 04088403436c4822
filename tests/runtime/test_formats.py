"""The table of formats: what is refused, with what words, and before anything heavy is imported."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from centermask_solo.runtime import formats
from centermask_solo.runtime.formats import (
    FORMATS,
    Format,
    Package,
    check_choice,
    check_packages,
    files_of,
    find_format,
)
from centermask_solo.utils.errors import ConfigError, MissingPackageError

ROOT = Path(__file__).parents[2]


def test_unknown_formats_name_the_nearest():
    with pytest.raises(ConfigError, match=r"'onxn' .* nearest one is onnx: use onnx, openvino, pt2"):
        find_format("onxn")


@pytest.mark.parametrize("name", ["model.pth", "model", "model.onnx.pth", "x.safetensors"])
def test_weights_are_no_exported_files(name):
    assert formats.format_of_file(name) is None


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_suffixes_choose_the_format(form):
    assert formats.format_of_file(f"a/b{form.suffix.upper()}") is form


def test_a_model_of_openvino_is_two_files():
    assert files_of("a.b/model.xml") == ["a.b/model.xml", "a.b/model.bin"]
    assert files_of("model.onnx") == ["model.onnx"]


def test_impossible_choices_are_refused():
    with pytest.raises(ConfigError, match=r"variant 'full' is unknown"):
        check_choice(FORMATS["onnx"], "full", False)
    with pytest.raises(ConfigError, match=r"torch.export cannot store weights as float16: use onnx, openvino"):
        check_choice(FORMATS["pt2"], "detections", True)
    with pytest.raises(ConfigError, match=r"torch.export has no 8-bit integers: use onnx, openvino"):
        check_choice(FORMATS["pt2"], "detections", False, int8=True)
    with pytest.raises(ConfigError, match=r"leave out --half or --int8"):
        check_choice(FORMATS["onnx"], "detections", True, int8=True)
    limited = Format("x", ".x", "X", (), (), "", "", variants=("raw",))
    with pytest.raises(ConfigError, match=r"X does not support the variant detections: use raw"):
        check_choice(limited, "detections", False)


def test_missing_and_old_packages_are_one_line():
    with pytest.raises(MissingPackageError) as missing:
        check_packages((Package("no-such-package", "1.2", "2"),), "the test")
    assert str(missing.value) == (
        "the test needs no-such-package>=1.2,<2, but no-such-package is not installed: run 'pip install "
        '"no-such-package>=1.2,<2"\', or install centermask_solo with its extra [export]'
    )
    version = importlib.metadata.version("numpy")
    with pytest.raises(MissingPackageError, match=rf"but numpy {re.escape(version)} does not work"):
        check_packages((Package("numpy", "99", "100"),), "the test")
    with pytest.raises(MissingPackageError, match="does not work"):
        check_packages((Package("numpy", "0.1", "0.9"),), "the test")
    check_packages((Package("numpy", "1.0", "99"),), "the test")


@pytest.mark.parametrize(
    "version, numbers", [("2.14.1+cpu", (2, 14, 1)), ("1.25", (1, 25)), ("3rc1", (3,)), ("unknown", ())]
)
def test_versions(version, numbers):
    assert formats._numbers(version) == numbers


def test_the_extra_installs_what_the_table_needs():
    text = (ROOT / "setup.py").read_text()
    extra = re.search(r"^EXPORT_REQUIREMENTS = (\[.*?\])", text, re.MULTILINE | re.DOTALL)[1]
    needed = {p for form in FORMATS.values() for p in (*form.to_write, *form.to_run)} - {formats.TORCH}
    assert set(re.findall(r'"(.+?)"', extra)) == {f"{p.name}>={p.least},<{p.below}" for p in needed}


def test_every_function_of_the_table_exists():
    for form in FORMATS.values():
        for name in (form.writer, form.session):
            module, attribute = name.split(":")
            path = ROOT / "centermask_solo" / f"{module.replace('.', '/')}.py"
            assert re.search(rf"^(def|class) {attribute}\b", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("arguments", ["--format nnx --output x.onnx", "--output x.pt2 --half", "--output x.pth"])
def test_the_command_refuses_before_heavy_imports(arguments):
    program = f"""
import sys
from centermask_solo.cli import main
try:
    main("export --weights w.pth {arguments}".split())
except SystemExit as end:
    assert end.code == 2
assert not {{"torch", "detectron2", "onnx", "onnxruntime", "openvino"}} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
