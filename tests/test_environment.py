"""constraints.txt pins what setup.py asks for, and never replaces the torch of an environment."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from centermask_solo.utils.packages import DETECTRON2
from scripts.select_constraints import select_constraints

ROOT = Path(__file__).parents[1]
LINES = ["# a comment", "numpy==2.2.6; python_version < '3'", "numpy==2.4.6", "scipy==1.17.1", "torch==2.14.1"]


def requirements(name):
    """A list of setup.py, which may contain others."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    lists = {x.targets[0].id: x.value for x in tree.body if isinstance(x, ast.Assign)}
    found = []
    for entry in lists[name].elts:
        found += requirements(entry.value.id) if isinstance(entry, ast.Starred) else [Requirement(entry.value)]
    return found


@pytest.mark.parametrize(
    "name",
    [f"{x}REQUIREMENTS" for x in ("", "EXPORT_", "RCNN_", "TIMM_", "TEST_", "LINT_")],
)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(name):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    for python_version in ("3.10", "3.11", "3.12", "3.13"):
        environment = {"python_version": python_version}
        valid = [x for x in pins if x.marker is None or x.marker.evaluate(environment)]
        versions = {canonicalize_name(x.name): str(x.specifier).removeprefix("==") for x in valid}
        assert len(versions) == len(valid)
        for requirement in requirements(name):
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_a_new_environment_gets_the_tested_versions():
    assert select_constraints(LINES, {}) == (["numpy==2.4.6", "scipy==1.17.1", "torch==2.14.1"], [])


def test_installed_packages_get_the_tested_versions_unless_they_are_to_be_kept():
    installed = {"torch": "2.14.1+cpu", "scipy": "1.16.0"}
    constraints, others = select_constraints(LINES, installed)
    assert "scipy==1.17.1" in constraints and not others
    assert select_constraints(LINES, installed, keep_installed=True) == (["numpy==2.4.6"], [])


def test_another_torch_stays_and_nothing_else_is_pinned():
    installed = {"torch": "2.13.0+cpu", "numpy": "2.4.6"}
    assert select_constraints(LINES, installed) == (["torch==2.13.0+cpu", "numpy==2.4.6"], ["torch==2.13.0+cpu"])


def test_one_detectron2_is_named_everywhere():
    for name in ("scripts/setup_env.sh", "README.md"):
        assert DETECTRON2 in (ROOT / name).read_text()


def find_detectron2(*arguments, path="", flags=()):
    """Exit code and output of the script, in a Python that also looks in ``path``."""
    command = [sys.executable, *flags, str(ROOT / "scripts" / "find_detectron2.py"), *arguments]
    env = {**os.environ, "PYTHONPATH": str(path)}
    result = subprocess.run(command, cwd=os.sep, env=env, capture_output=True, text=True)
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_a_detectron2_built_from_source_is_found(tmp_path):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text("__version__ = '0.6'")
    assert find_detectron2(path=tmp_path) == (0, f"Detectron2 0.6 in {tmp_path / 'detectron2'}\n")
    (tmp_path / "detectron2" / "__init__.py").write_text("raise ImportError('undefined symbol: x\\nmore')")
    message = f"the Detectron2 in {tmp_path / 'detectron2'} cannot be imported (ImportError: undefined symbol: x)\n"
    assert find_detectron2(path=tmp_path) == (2, message)


def test_a_detectron2_of_another_environment_is_named():
    bare = ("-I", "-S")  # without installed packages
    assert find_detectron2(flags=bare) == (1, "no Detectron2 is installed\n")
    code, text = find_detectron2(sys.executable, flags=bare)
    assert code == 1
    assert text.startswith(
        f"no Detectron2 is installed here; {sys.executable} has one, which this environment does not"
    )
