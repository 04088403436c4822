import logging

import pytest
from detectron2.utils.logger import setup_logger

import centermask_solo
from centermask_solo.training.logs import LOGGERS

centermask_solo.register()  # first, because it makes Detectron2's model zoo importable with any version of setuptools


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Undo the log setup of a test, which writes to the streams of that test."""
    yield
    setup_logger.cache_clear()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
