"""CenterMask, FCOS, SOLO, SOLOv2 and YOLACT as Detectron2 meta-architectures.

The public names below are loaded on first use, so that importing the package itself needs neither PyTorch nor
Detectron2; nor does :class:`ExportedPredictor`. Loading any other also registers the models, the generated datasets and
the weights of the model zoo with Detectron2. :func:`add_centermask_solo_config` adds the package's options to a config;
Detectron2's own defaults stay as they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import model_zoo
    from .checkpoint import Checkpointer
    from .config import add_centermask_solo_config
    from .data.mapper import InstanceMapper
    from .evaluation import build_evaluator
    from .inference.predictions import predict
    from .inference.predictor import Predictor
    from .model_zoo.exporting import export_model
    from .model_zoo.hub import from_pretrained, push_to_hub
    from .model_zoo.loading import load
    from .modeling.centermask import CenterMask, CenterMaskWithTTA
    from .modeling.engine import prepare
    from .modeling.fcos import FCOS
    from .modeling.solo import SOLO
    from .modeling.solov2 import SOLOv2
    from .modeling.systems import ClassOutputs, System, register_system
    from .modeling.yolact import YOLACT
    from .registration import register
    from .runtime.predictor import ExportedPredictor
    from .training.evaluate import evaluate
    from .training.trainer import Trainer
    from .utils.errors import ConfigError, DataError, NonFiniteLossError, UserError, WeightsError

__all__ = [
    "FCOS",
    "SOLO",
    "YOLACT",
    "CenterMask",
    "CenterMaskWithTTA",
    "Checkpointer",
    "ClassOutputs",
    "ConfigError",
    "DataError",
    "ExportedPredictor",
    "InstanceMapper",
    "NonFiniteLossError",
    "Predictor",
    "SOLOv2",
    "System",
    "Trainer",
    "UserError",
    "WeightsError",
    "__version__",
    "add_centermask_solo_config",
    "build_evaluator",
    "evaluate",
    "export_model",
    "from_pretrained",
    "load",
    "model_zoo",
    "predict",
    "prepare",
    "push_to_hub",
    "register",
    "register_system",
]
__version__ = "0.1.0"

_MODULES = {  # where each public name is defined
    "CenterMask": "modeling.centermask",
    "CenterMaskWithTTA": "modeling.centermask",
    "Checkpointer": "checkpoint",
    "ClassOutputs": "modeling.systems",
    "ConfigError": "utils.errors",
    "DataError": "utils.errors",
    "ExportedPredictor": "runtime.predictor",
    "FCOS": "modeling.fcos",
    "InstanceMapper": "data.mapper",
    "NonFiniteLossError": "utils.errors",
    "Predictor": "inference.predictor",
    "SOLO": "modeling.solo",
    "SOLOv2": "modeling.solov2",
    "System": "modeling.systems",
    "Trainer": "training.trainer",
    "UserError": "utils.errors",
    "WeightsError": "utils.errors",
    "YOLACT": "modeling.yolact",
    "add_centermask_solo_config": "config",
    "build_evaluator": "evaluation",
    "evaluate": "training.evaluate",
    "export_model": "model_zoo.exporting",
    "from_pretrained": "model_zoo.hub",
    "load": "model_zoo.loading",
    "predict": "inference.predictions",
    "prepare": "modeling.engine",
    "push_to_hub": "model_zoo.hub",
    "register": "registration",
    "register_system": "modeling.systems",
}
_WITHOUT_DETECTRON2 = ("utils.errors", "runtime.predictor")


def __getattr__(name: str) -> Any:
    """Load a public name on first use.

    Raises:
        ImportError: Detectron2 is not installed; the message has the command that installs it.
    """
    if name == "model_zoo":
        _register()
        return import_module(".model_zoo", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] not in _WITHOUT_DETECTRON2:
        _register()
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def _register() -> None:
    try:
        import_module(".registration", __name__)
    except ModuleNotFoundError as error:
        from .utils.packages import missing_detectron2

        if error.name != "detectron2":
            raise
        raise missing_detectron2() from error


def __dir__() -> list[str]:
    """Return the public names, loaded or not, and the module's own."""
    return sorted({*globals(), *__all__})
