"""CenterMask, SOLOv2 and YOLACT as Detectron2 meta-architectures.

Importing this package registers its models and the generated datasets with Detectron2;
:func:`add_centermask_solo_config` adds their options to a config. Nothing of Detectron2's own defaults changes.
"""

from . import data, model_zoo  # noqa: F401  (registers the datasets)
from .config.options import add_centermask_solo_config
from .model_zoo import weights  # noqa: F401  (registers the published weights)
from .modeling import models  # noqa: F401  (registers the models)

__all__ = ["__version__", "add_centermask_solo_config"]
__version__ = "0.1.0"
