"""Backbones; importing this package registers their builders with Detectron2."""

from . import resnet

__all__ = ["resnet"]
