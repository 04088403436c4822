"""The log of a run: on the screen, or in its file alone without a trace in the process."""

import argparse
import logging
import warnings

from centermask_solo.training.logs import LOGGERS, output_in_log, set_up_run
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
