"""The models; importing this package registers them with Detectron2."""

from . import backbone, solov2

__all__ = ["backbone", "solov2"]
