"""The models and their backbones; importing this module registers them with Detectron2."""

from . import centermask, solov2, yolact
from .backbone import darknet, mobilenet, resnet, vovnet

__all__ = ["centermask", "darknet", "mobilenet", "resnet", "solov2", "vovnet", "yolact"]
