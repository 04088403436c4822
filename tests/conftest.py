import logging

import pytest
from detectron2.utils.logger import setup_logger


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Detectron2's log setup writes to the streams of one test: it must not outlive it."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
