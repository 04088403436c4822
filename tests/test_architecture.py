"""Rules of the code base that no other tool checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

import centermask_solo
from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import SOURCES as WEIGHT_SOURCES
from centermask_solo.config.options import SUBJECTS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "centermask_solo"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
# From the top down: a part may import itself and what is below its line, nothing beside or above it.
LAYERS = [
    {"cli"},
    {"demo"},
    {"registration"},
    {"model_zoo"},
    {"export"},
    {"training", "inference"},
    {"evaluation", "visualization", "runtime"},
    {"data", "checkpoint"},
    {"modeling"},
    {"structures"},
    {"ops"},
    {"utils"},
]
READS_CONFIG = {"cli", "demo", "model_zoo", "training", "inference", "export"}
SYSTEMS = {path.parent.name for path in (PACKAGE / "modeling").glob("*/__init__.py")} - {"backbone"}
BUILT_ON = {"centermask": {"fcos"}, "solo": {"solov2"}}  # systems that a system may import
# Who may name a system: its own code, the layouts of its published files, its options and their old names.
NAMES_SYSTEMS = ("modeling", "checkpoint/sources", "config", "__init__.py")
# Names that contain that of a system and are something else: the package, and a meta-architecture of Detectron2.
OTHER_NAMES = re.compile("centermask[_-]solo|GeneralizedRCNN", re.IGNORECASE)
LIGHT = {"torch", "torchvision", "detectron2", "cv2", "fvcore"}  # too large for the ground floor
MAX_LINES = 300  # of a file of the package
MAX_TEST_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules, and of the names in them, that a file imports, wherever in it."""
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> list[list[str]]:
    """The imports from this package, as the parts of their names after the package's."""
    return [name.split(".")[1:] for name in imports(path) if name.split(".")[0] == "centermask_solo"]


def layer_of(part: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if part in layer), None)


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


# The package itself offers the public names of all parts
@pytest.mark.parametrize("path", [path for path in FILES if path != PACKAGE / "__init__.py"], ids=identify)
def test_imports_go_down(path):
    here = module_name(path).split(".")[1:]
    if here[0] == "config":
        assert {name[0] for name in own_imports(path)} <= {"config", "utils"}
        return
    layer = layer_of(here[0])
    assert layer is not None, f"{here[0]} has no place in LAYERS"
    for name in own_imports(path):
        if name[0] == "__version__":
            continue
        if name[0] in ("config", "add_centermask_solo_config"):
            assert here[0] in READS_CONFIG, f"{here[0]} imports the config"
            continue
        target = layer_of(name[0])
        assert target is not None, f"imports {name}"
        assert name[0] == here[0] or target > layer, f"{here[0]} imports {name[0]}"


@pytest.mark.parametrize("path", FILES, ids=identify)
def test_imports_from_this_package_are_relative(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in nodes if re.match(r"(from|import) centermask_solo", ast.unparse(node))] == []


CHOOSE_SYSTEMS = {PACKAGE / "modeling" / f"{name}.py" for name in ("models", "tta", "instance_part")}  # or register all
MODELING = [path for path in FILES if "modeling" in path.parts and path not in CHOOSE_SYSTEMS]


@pytest.mark.parametrize("path", MODELING, ids=identify)
def test_systems_do_not_know_each_other(path):
    here = module_name(path).split(".")[1:]
    for name in own_imports(path):
        if name[0] == "modeling" and len(name) > 1 and name[1] in SYSTEMS:
            assert name[1] in {here[1]} | BUILT_ON.get(here[1], set()), f"imports {'.'.join(name)}"


def test_parts_of_a_system_are_found_in_their_folders():
    """Its folder, its options and its sources of weights need to be listed nowhere."""
    options = {
        path.stem for path in (PACKAGE / "config" / "options").glob("*.py") if "def add_options" in path.read_text()
    }
    assert {module.__name__.rpartition(".")[2] for module in SUBJECTS} == options >= SYSTEMS
    assert [x.__name__.rpartition(".")[2] for x in SUBJECTS[:2]] == ["general", "backbones"]
    sources = [path.read_text() for path in (PACKAGE / "checkpoint" / "sources").glob("*.py")]
    assert len(WEIGHT_SOURCES) == sum(
        len(re.findall(r"^[A-Z0-9_]+ = Source\(", text, re.MULTILINE)) for text in sources
    )
    detectors = [source.system != "" for source in WEIGHT_SOURCES]
    assert detectors == sorted(detectors, reverse=True)
    centermask_solo.register()
    assert {f"centermask_solo.modeling.{system}" for system in SYSTEMS} <= sys.modules.keys()


def names_in_code(path: Path) -> set[str]:
    """Every name, attribute and string of a file, docstrings and texts with spaces aside."""
    tree = ast.parse(path.read_text())
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(value) for value in statements if isinstance(value, ast.Constant)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= {node.value} if " " not in node.value else set()
        elif isinstance(node, (ast.Name, ast.Attribute, ast.alias)):
            found.add(
                node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else node.name
            )
    return found


UNAWARE = [path for path in FILES if not path.relative_to(PACKAGE).as_posix().startswith(NAMES_SYSTEMS)]


@pytest.mark.parametrize("path", UNAWARE, ids=identify)
def test_nothing_outside_modeling_names_a_system(path):
    system = re.compile("|".join(SYSTEMS), re.IGNORECASE)
    assert [name for name in names_in_code(path) if system.search(OTHER_NAMES.sub("", name))] == []


@pytest.mark.parametrize("path", [path for path in FILES if "utils" in path.parts], ids=identify)
def test_the_ground_floor_is_light(path):
    assert not {name.split(".")[0] for name in imports(path)} & LIGHT


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "ops"], ids=identify)
def test_ops_are_functions_of_tensors(path):
    names = list(imports(path))
    assert not [name for name in names if name.startswith(("detectron2.structures", "detectron2.config"))]
    classes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    for node in classes:
        bases = {ast.unparse(base) for base in node.bases}
        assert not bases & {"Module", "nn.Module", "torch.nn.Module"}, node.name


PURE_MODULES = ("targets", "losses", "decode", "anchors", "matching")
PURE = [path for path in FILES if path.stem in PURE_MODULES and "modeling" in path.parts]


@pytest.mark.parametrize("path", PURE, ids=identify)
def test_targets_losses_and_decoding_know_no_instances(path):
    assert not [name for name in imports(path) if name.endswith(".Instances")]


def leaves(node: CfgNode, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name)


def added_keys() -> list[tuple[str, ...]]:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return sorted(set(leaves(cfg)) - set(leaves(get_cfg())))


ATTRIBUTES = {
    path: {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    for path in FILES
    if "options" not in path.parts
}


@pytest.mark.parametrize("key", added_keys(), ids=".".join)
def test_every_config_key_is_read(key):
    """A file reads the last part of its name and its group; a schema may be read where it is passed on as a whole."""
    group = key[-2] if len(key) > 2 else key[-1]
    schemas = {"NMS", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD", "SOLO", "SOLOV2"}  # passed as a whole to what reads them
    readers = [path for path, names in ATTRIBUTES.items() if key[-1] in names and (group in names | schemas)]
    assert readers, f"nothing reads {'.'.join(key)}"
    if group in schemas:
        assert [path for path, names in ATTRIBUTES.items() if group in names and key[-3] in names]


def test_importing_changes_nothing_of_detectron2():
    program = """
from detectron2.config import get_cfg
before = get_cfg().dump()
import centermask_solo
cfg = get_cfg()
centermask_solo.add_centermask_solo_config(cfg)
assert get_cfg().dump() == before
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_adding_options_changes_no_option_of_detectron2_but_the_device():
    ours, theirs = get_cfg(), get_cfg()
    add_centermask_solo_config(ours)
    ours.MODEL.DEVICE = theirs.MODEL.DEVICE
    for key in leaves(theirs):
        a, b = ours, theirs
        for name in key:
            a, b = a[name], b[name]
        assert a == b, ".".join(key)


SOURCES = [
    path
    for pattern in ("*.py", "centermask_solo/**/*.py", "tests/**/*.py", "datasets/*.py", "benchmarks/*.py", "scripts/*")
    for path in sorted(ROOT.glob(pattern))
    if path.is_file()
]


@pytest.mark.parametrize("path", SOURCES, ids=identify)
def test_no_file_is_long(path):
    limit = MAX_TEST_LINES if "tests" in path.relative_to(ROOT).parts else MAX_LINES
    assert len(path.read_text().splitlines()) <= limit


def test_nothing_names_the_place_it_was_written_in():
    texts = [
        path
        for pattern in (
            "*.md",
            "docs/**/*.md",
            "datasets/*.md",
            "benchmarks/*.md",
            "configs/**/*.yaml",
            "Makefile",
            ".ci/*",
        )
        for path in ROOT.glob(pattern)
    ]
    words = ["/work" + "/", ".." + "/shared", "/root" + "/", ".py" + "env", ".lib" + "rary"]
    for path in [*SOURCES, *texts]:
        found = [word for word in words if word in path.read_text()]
        assert not found, f"{path} has {found}"
