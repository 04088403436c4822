import gc
import logging
import os
import random
from collections import Counter
from contextlib import contextmanager

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, and for subprocesses too: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger

import centermask_solo
from centermask_solo.training.logs import LOGGERS

SLOW, OTHER = 5.0, 0.05  # seconds that a test may take

# PyTorch waits this long, not 5 seconds, for each worker of a loader that ended in an error, whenever it is collected
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2
centermask_solo.register()  # first, because it makes Detectron2's model zoo importable with any version of setuptools


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no worker has such a file left when the others are done.

    pytest-xdist keeps this order with ``--no-loadscope-reorder``; by itself it begins with the files of most tests.
    """
    seconds = Counter()
    for item in items:
        seconds[item.path] += SLOW if item.get_closest_marker("slow") else OTHER
    items.sort(key=lambda item: -seconds[item.path])


def pytest_collection_finish():
    """Spare the garbage collector the tests and the libraries, which stay."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Start the random generators of every test alike, whatever ran before it in its process."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Undo the log setup of a test, which writes to the streams of that test."""
    yield
    setup_logger.cache_clear()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


@contextmanager
def _catalogs_as_before():
    """Forget the datasets that are registered inside: names derived for others depend on which are taken."""
    before = [(catalog, set(catalog.list())) for catalog in (DatasetCatalog, MetadataCatalog)]
    yield
    for catalog, names in before:
        for name in set(catalog.list()) - names:
            catalog.remove(name)


@pytest.fixture(autouse=True, scope="module")
def catalogs_as_before_the_module():
    """Forget what the fixtures of a module register."""
    with _catalogs_as_before():
        yield


@pytest.fixture(autouse=True)
def catalogs_as_before(catalogs_as_before_the_module):
    """Forget what a test registers."""
    with _catalogs_as_before():
        yield
