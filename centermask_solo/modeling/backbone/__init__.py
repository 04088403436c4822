"""Backbones; importing this package registers their builders with Detectron2."""

from . import mobilenet, resnet

__all__ = ["mobilenet", "resnet"]
