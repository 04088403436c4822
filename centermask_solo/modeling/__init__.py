"""The models; importing this package registers them with Detectron2."""

from . import backbone, centermask, fcos, solov2, yolact

__all__ = ["backbone", "centermask", "fcos", "solov2", "yolact"]
