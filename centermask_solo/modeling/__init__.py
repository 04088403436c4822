"""The models; importing this package registers them with Detectron2."""

from . import backbone

__all__ = ["backbone"]
