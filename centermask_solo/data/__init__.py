"""Datasets, their files, and the loaders that feed them to the models.

Importing this package registers the generated datasets ``shapes_train`` and ``shapes_val``.
"""

from . import datasets  # noqa: F401  (registers the generated datasets)
