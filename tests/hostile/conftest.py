"""The files of this folder's tests, and a table of what the tries ended in."""

import os

import pytest

from centermask_solo.modeling import systems
from tests.hostile.results import FILES_VARIABLE, PROPERTY, RESULTS, table
from tests.hostile.world import RECORD, World, build_files


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The folder of valid files."""
    root = tmp_path_factory.mktemp("valid")
    build_files(root)
    return root


@pytest.fixture
def world(files, tmp_path, monkeypatch):
    """The valid files and an empty folder; registers the model."""
    monkeypatch.setattr(systems, "_SYSTEMS", {**systems._SYSTEMS, RECORD.name: RECORD})
    monkeypatch.setattr("detectron2.engine.defaults.collect_env_info", lambda: "")  # runs programs
    monkeypatch.chdir(tmp_path)
    return World(files, tmp_path)


def pytest_collection_modifyitems(config, items):
    """Without the variable, leave what is slow in this folder to ``make hostile``."""
    if FILES_VARIABLE not in os.environ:
        left = [x for x in items if "tests/hostile" in x.path.as_posix() and x.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=left)
        items[:] = [x for x in items if x not in set(left)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Escape what was printed of names that are not UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def pytest_runtest_logreport(report):
    for name, value in report.user_properties if report.when == "call" else ():
        if name == PROPERTY:
            RESULTS[tuple(value[:3])] += value[3]


def pytest_terminal_summary(terminalreporter):
    if RESULTS:
        terminalreporter.section("hostile input")
        for line in table(RESULTS):
            terminalreporter.write_line(line)
