import logging
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, and for subprocesses too: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from detectron2.utils.logger import setup_logger


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Undo Detectron2's log setup, which writes to the streams of the test that called it."""
    yield
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
