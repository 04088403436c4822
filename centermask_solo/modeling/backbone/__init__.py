"""Backbones; importing this package registers their builders with Detectron2."""

from . import darknet, mobilenet, resnet, vovnet

__all__ = ["darknet", "mobilenet", "resnet", "vovnet"]
