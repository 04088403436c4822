"""Fixtures of this folder."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture(autouse=True)
def _restore_registry():
    """Unregister the datasets that a test registers."""
    before = set(DatasetCatalog)
    metadata_before = set(MetadataCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog) - metadata_before:
        MetadataCatalog.remove(name)
