"""What ``import centermask_solo`` offers, what it costs, and that it registers everything with Detectron2."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import centermask_solo

ROOT = Path(__file__).resolve().parents[1]
# Processor time, on which other processes have little influence
MAX_IMPORT_SECONDS = 0.05
MAX_HELP_SECONDS = 0.5
COMMANDS = (
    "train",
    "predict",
    "compare",
    "evaluate",
    "analyze",
    "export",
    "demo",
    "data",
    "check-dataset",
    "models",
    "weights",
    "config",
)
# Prepended to a program: the environment of someone whose setuptools has no pkg_resources any more
WITHOUT_PKG_RESOURCES = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pkg_resources":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""
WITHOUT_DETECTRON2 = WITHOUT_PKG_RESOURCES.replace("pkg_resources", "detectron2")


def run(program, *arguments):
    """The standard output of a program in a fresh Python."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_import_is_fast_and_needs_no_other_package():
    program = """
import sys, time
start = time.process_time()
import centermask_solo
seconds = time.process_time() - start
assert not {"torch", "detectron2", "cv2", "numpy"} & set(sys.modules)
assert "Trainer" in dir(centermask_solo) and centermask_solo.__version__
print(seconds)
"""
    assert min(float(run(program)) for _ in range(5)) < MAX_IMPORT_SECONDS


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda x: " ".join(x) or "none")
def test_help_is_fast(arguments):
    program = """
import sys, time
start = time.process_time()
from centermask_solo.cli import main
try:
    main([*sys.argv[1:], "--help"])
except SystemExit as end:
    assert end.code == 0
assert not {"torch", "detectron2", "cv2", "numpy"} & set(sys.modules)
print(time.process_time() - start)
"""
    times = [float(run(program, *arguments).splitlines()[-1]) for _ in range(3)]
    assert min(times) < MAX_HELP_SECONDS


def test_errors_need_no_other_package():
    run("import sys; from centermask_solo import UserError, DataError; assert 'torch' not in sys.modules")


@pytest.mark.parametrize("name", centermask_solo.__all__)
def test_public_name(name):
    value = getattr(centermask_solo, name)
    assert getattr(value, "__name__", name).rpartition(".")[2] in (name, value)


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'SOLOv3'"):
        centermask_solo.SOLOv3  # noqa: B018


def test_type_checkers_see_the_names_that_python_loads():
    tree = ast.parse(Path(centermask_solo.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen.pop("model_zoo") is None
    assert seen == centermask_solo._MODULES
    assert {*seen, "model_zoo", "__version__"} == set(centermask_solo.__all__)


@pytest.mark.slow
def test_any_name_registers_everything():
    """A process for each name, forked from one that has imported Detectron2, which takes seconds."""
    run("""
import os
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY
from detectron2.utils.file_io import PathManager
assert "SOLOv2" not in META_ARCH_REGISTRY
for name in ("add_centermask_solo_config", "Predictor", "model_zoo", "System", "register"):
    if not os.fork():
        exec(f"from centermask_solo import {name}")
        assert "SOLOv2" in META_ARCH_REGISTRY and "build_fcos_vovnet_fpn_backbone" in BACKBONE_REGISTRY
        assert "shapes_train" in DatasetCatalog
        assert "centermask_solo://" in PathManager._path_handlers
        os._exit(0)
    assert os.wait()[1] == 0, name
""")


@pytest.mark.slow
def test_model_is_built_after_importing_the_package_alone():
    run("""
import centermask_solo
from detectron2.config import get_cfg
from detectron2.modeling import build_model
cfg = get_cfg()
centermask_solo.add_centermask_solo_config(cfg)
cfg.merge_from_file("configs/shapes/solov2_shapes.yaml")
cfg.MODEL.DEVICE = "cpu"
assert isinstance(build_model(cfg), centermask_solo.SOLOv2)
""")


@pytest.mark.slow
def test_works_without_pkg_resources():
    """Neither this package nor Detectron2's model zoo needs it, and the stand-in is not visible to other code."""
    run(
        WITHOUT_PKG_RESOURCES
        + """
import contextlib, importlib, io
import train_net
from centermask_solo import Predictor, Trainer, model_zoo
from centermask_solo.cli import main
for name in ("check_dataset", "compare", "config", "demo", "models", "predict", "train", "weights"):
    importlib.import_module(f"centermask_solo.cli.{name}")
for name in ("demo", "training.run", "training.launch", "inference.results", "inference.comparison"):
    importlib.import_module(f"centermask_solo.{name}")
with contextlib.redirect_stdout(io.StringIO()) as printed:
    main(["models", "--json"])
assert printed.getvalue()
from torch.utils.tensorboard import SummaryWriter
from detectron2 import model_zoo
name = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
assert model_zoo.get_config_file(name).endswith(f"configs/{name}")
assert "pkg_resources" not in sys.modules
"""
    )


def test_a_missing_detectron2_is_an_import_error_that_says_how_to_get_it():
    program = """
import importlib, sysconfig
import centermask_solo
from centermask_solo.utils.packages import DETECTRON2
for name in ("Trainer", "model_zoo"):
    try:
        getattr(centermask_solo, name)
    except ImportError as error:
        assert isinstance(error, centermask_solo.UserError)
        text = str(error)
        assert text.startswith("Detectron2 is not installed") and "\\n" not in text
        assert f"--target {sysconfig.get_path('purelib')} {DETECTRON2}'" in text
        print(name)
"""
    assert run(WITHOUT_DETECTRON2 + program).split() == ["Trainer", "model_zoo"]


def test_commands_without_detectron2_end_in_one_line():
    program = """
import contextlib, io
from centermask_solo.cli import main
for words in ("train --config-file x.yaml", "predict --weights x.pth --input x --output x", "demo", "config show x",
              "check-dataset x", "weights inspect x.pth", "compare --weights x.pth --output x.png"):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        try:
            main(words.split())
        except SystemExit as end:
            assert end.code == 2
    text = errors.getvalue()
    assert text.startswith("error: Detectron2 is not installed") and text.count("\\n") == 1, text
    print(words.split()[0])
"""
    assert len(run(WITHOUT_DETECTRON2 + program).split()) == 7
    another = "import centermask_solo.utils.errors as e\nwith e.reported_errors():\n    import no_such_package"
    result = subprocess.run([sys.executable, "-c", another], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and "ModuleNotFoundError" in result.stderr
