"""The models, their backbones and the NMS rules; importing this module registers them with Detectron2."""

from . import centermask, fcos, nms_rules, solov2, yolact
from .backbone import darknet, mobilenet, resnet, vovnet

__all__ = ["centermask", "darknet", "fcos", "mobilenet", "nms_rules", "resnet", "solov2", "vovnet", "yolact"]
