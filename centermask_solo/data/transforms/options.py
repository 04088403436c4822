"""Augmentations that options of ``INPUT`` add to Detectron2's or SSD's: large-scale jitter, colors, erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import detectron2.data.transforms as T
from detectron2.config import CfgNode

from ...utils.errors import ConfigError
from .erase import RandomErase
from .photometric import PhotometricDistortion
from .resize import ResizeScale

GRAY = 128.0  # of what large-scale jitter pads


class Colors(NamedTuple):
    """Amounts of :class:`PhotometricDistortion`."""

    brightness: float
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: float


PRESETS = {
    "weak": Colors(16.0, (0.8, 1.25), (0.8, 1.25), 5.0),
    "medium": Colors(32.0, (0.65, 1.5), (0.65, 1.5), 10.0),
    "strong": Colors(48.0, (0.5, 2.0), (0.4, 1.8), 18.0),
}


def with_options(cfg: CfgNode, augmentations: Sequence[T.Augmentation]) -> list[T.Augmentation]:
    """Return the augmentations of a training with those that options of ``INPUT`` add.

    Args:
        cfg: Config with the options of ``INPUT``.
        augmentations: Those without the options.

    Raises:
        ConfigError: Options contradict each other.
    """
    jitter, erase = cfg.INPUT.LSJ, cfg.INPUT.ERASE
    made = list(augmentations)
    if jitter.ENABLED:
        if cfg.INPUT.AUGMENTATION != "default" or cfg.INPUT.CROP.ENABLED:
            raise ConfigError(
                "INPUT.LSJ.ENABLED resizes and crops itself: set INPUT.AUGMENTATION default INPUT.CROP.ENABLED False"
            )
        resize = ResizeScale(*jitter.SCALES, jitter.SIZE, jitter.SIZE)
        crop = T.FixedSizeCrop((jitter.SIZE, jitter.SIZE), pad_value=GRAY)
        flips = [x for x in made if isinstance(x, T.RandomFlip)]
        made = [resize, crop, *flips]
    if cfg.INPUT.COLOR != "none":
        if cfg.INPUT.CHANNELS != 3:
            raise ConfigError(
                f"INPUT.COLOR {cfg.INPUT.COLOR} is for images of three colors, but INPUT.CHANNELS is "
                f"{cfg.INPUT.CHANNELS}: set INPUT.COLOR none"
            )
        made.append(PhotometricDistortion(cfg.INPUT.FORMAT, **PRESETS[cfg.INPUT.COLOR]._asdict()))
    if erase.PROB > 0:
        made.append(RandomErase(erase.PROB, tuple(erase.AREA)))
    return made


def cuts_objects(cfg: CfgNode) -> bool:
    """Return whether an option leaves parts of objects whose boxes must be found again from their masks."""
    return cfg.INPUT.LSJ.ENABLED or cfg.INPUT.ERASE.PROB > 0
