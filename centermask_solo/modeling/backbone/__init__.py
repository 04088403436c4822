"""Backbones; importing this package registers their builders with Detectron2."""

from . import mobilenet, resnet, vovnet

__all__ = ["mobilenet", "resnet", "vovnet"]
