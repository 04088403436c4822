"""Datasets and how they reach the models; importing this registers ``shapes_train`` and ``shapes_val``."""

from . import datasets  # noqa: F401  (registers the generated datasets)
