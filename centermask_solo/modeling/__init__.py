"""The models; importing this package registers them with Detectron2, and the NMS rules they can use."""

from . import backbone, centermask, fcos, nms_rules, solov2, yolact

__all__ = ["backbone", "centermask", "fcos", "nms_rules", "solov2", "yolact"]
