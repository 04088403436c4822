"""CenterMask, SOLOv2 and YOLACT as Detectron2 meta-architectures.

Importing this package registers its models and the generated datasets with Detectron2;
:func:`add_centermask_solo_config` adds their options to a config. Nothing of Detectron2's own defaults changes.
"""

from . import data, model_zoo, modeling  # noqa: F401  (registers the datasets, the published weights and the models)
from .config.options import add_centermask_solo_config

__all__ = ["__version__", "add_centermask_solo_config"]
__version__ = "0.1.0"
