"""Readers of annotation formats."""

from .coco import CocoData, read_coco_json, take_images

__all__ = ["CocoData", "read_coco_json", "take_images"]
