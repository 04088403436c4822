"""CenterMask, SOLOv2 and YOLACT as Detectron2 meta-architectures.

Importing this package registers its models and the generated datasets with Detectron2;
:func:`add_centermask_solo_config` adds their options to a config. Nothing of Detectron2's own defaults changes.
"""

from . import data, modeling  # noqa: F401  (registers the datasets and the models)
from .checkpoint import Checkpointer
from .config import add_centermask_solo_config
from .model_zoo.verbs import provide

__all__ = ["__version__", "add_centermask_solo_config"]
__version__ = "0.1.0"

provide(add_centermask_solo_config, Checkpointer)  # to the model zoo, whose parts import neither
