"""SSD's augmentation: colors, then one view of the image on a larger canvas, for models with a fixed input size."""

from __future__ import annotations

import detectron2.data.transforms as T
from detectron2.config import CfgNode

from ...utils.errors import ConfigError
from .geometric import OneView, RandomCropKeepingCenters, RandomExpand, RandomMirror, ResizeTo, ViewAugmentation
from .photometric import PhotometricDistortion

FILL_RGB = (123.68, 116.78, 103.94)  # of the canvas: ImageNet's mean, with every backbone


def build_ssd_augmentations(cfg: CfgNode, input_size: tuple[int, int]) -> list[T.Augmentation]:
    """Return SSD's augmentations with the options of ``INPUT.SSD``.

    Args:
        cfg: Config with the options of ``INPUT``.
        input_size: (height, width) of the results.

    Raises:
        ConfigError: Options contradict each other.
    """
    node, flip = cfg.INPUT.SSD, cfg.INPUT.RANDOM_FLIP
    if cfg.INPUT.CROP.ENABLED:
        raise ConfigError("INPUT.AUGMENTATION 'ssd' crops by INPUT.SSD.MIN_CROP: set INPUT.CROP.ENABLED False")
    if flip not in ("horizontal", "none"):
        raise ConfigError(
            f"INPUT.RANDOM_FLIP is {flip!r}, but INPUT.AUGMENTATION 'ssd' flips horizontally or not at all: set it to "
            "horizontal or none"
        )
    if node.MAX_EXPAND < 1 or not 0 < node.MIN_CROP <= 1:
        raise ConfigError(
            "INPUT.SSD.MAX_EXPAND must be at least 1, and INPUT.SSD.MIN_CROP above 0 and at most 1, not "
            f"{node.MAX_EXPAND} and {node.MIN_CROP}"
        )
    fill = FILL_RGB if cfg.INPUT.FORMAT == "RGB" else FILL_RGB[::-1]
    views: list[ViewAugmentation] = []
    if node.MAX_EXPAND > 1:
        views.append(RandomExpand(node.MAX_EXPAND, fill))
    if node.MIN_CROP < 1:
        views.append(RandomCropKeepingCenters(node.MIN_CROP))
    if flip == "horizontal":
        views.append(RandomMirror())
    views.append(ResizeTo(input_size))
    colors = [PhotometricDistortion(cfg.INPUT.FORMAT)] if node.PHOTOMETRIC else []
    return [*colors, OneView(views)]
