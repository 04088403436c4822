"""The log of a run: on the screen, or in its file alone without a trace in the process."""

import argparse
import json
import logging
import warnings

import pytest

from centermask_solo.training.logs import LOGGERS, output_in_log, set_up_run
from centermask_solo.training.setup import setup_cfg
from centermask_solo.utils.errors import UserError
from tests.training.tiny import tiny_cfg, write_dataset

ARGS = argparse.Namespace(config_file="", eval_only=False)


def states():
    loggers = [logging.getLogger(name) for name in LOGGERS]
    return [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]


def test_log_is_printed_and_written(tmp_path, capsys):
    write_dataset(tmp_path / "data", num_images=1)
    set_up_run(tiny_cfg(tmp_path / "data", tmp_path), ARGS)
    logging.getLogger("centermask_solo.training").info("hello")
    assert "Full config saved" in capsys.readouterr().out
    assert "hello" in (tmp_path / "log.txt").read_text()


def test_log_off_the_screen(tmp_path, capfd):
    write_dataset(tmp_path / "data", num_images=1)
    cfg = tiny_cfg(tmp_path / "data", tmp_path)
    before, filters = states(), list(warnings.filters)
    for i in range(2):  # the second run in the same folder logs, too
        with output_in_log(str(tmp_path)):
            set_up_run(cfg, ARGS, on_screen=False)
            for name in LOGGERS:
                logging.getLogger(f"{name}.part").warning(f"warning of {name} {i}")
            print(f"printed {i}")
            warnings.warn("nobody reads this", stacklevel=1)
        assert states() == before
    assert list(warnings.filters) == filters
    assert capfd.readouterr() == ("", "")
    text = (tmp_path / "log.txt").read_text()
    assert "nobody reads this" not in text
    for i in range(2):
        assert text.count(f"printed {i}") == 1
        assert all(text.count(f"warning of {name} {i}") == 1 for name in LOGGERS)


@pytest.fixture
def suspicious(tmp_path):
    """The arguments of a training on data with a warning."""
    write_dataset(tmp_path / "data", num_images=2)
    path = tmp_path / "data" / "instances.json"
    data = json.loads(path.read_text())
    del data["annotations"][0]["area"]
    path.write_text(json.dumps(data))
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.MODEL.pop("TINY_DROPOUT")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return argparse.Namespace(config_file=str(tmp_path / "config.yaml"), opts=[], resume=False, eval_only=False)


WARNING = "instances.json: 1 x missing or negative area, such as annotation 1 (1.png): computed from the mask"


def test_warnings_before_the_log_is_set_up_reach_it(tmp_path, suspicious, capfd):
    for i in range(2):  # a second run in the same process
        setup_cfg(suspicious)
        captured = capfd.readouterr()
        (line,) = [x for x in captured.out.splitlines() if WARNING in x]
        assert "WARNING" in line and "data.validation.gate" in line
        assert WARNING not in captured.err
        assert (tmp_path / "output" / "log.txt").read_text().count(WARNING) == i + 1
    logging.getLogger("centermask_solo.x").info("once")
    assert capfd.readouterr().out.count("once") == 1


def test_warnings_before_an_error_are_printed(suspicious, capfd):
    suspicious.opts = ["MODEL.WEIGHTS", "absent.pth"]
    before = states()
    with pytest.raises(UserError, match="absent"):
        setup_cfg(suspicious)
    assert states() == before
