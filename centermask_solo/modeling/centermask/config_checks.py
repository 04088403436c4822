"""Options of CenterMask that must agree with each other."""

from __future__ import annotations

from detectron2.config import CfgNode

from ...utils.errors import ConfigError


def check_config(cfg: CfgNode) -> None:
    """Raise ConfigError unless the options shared with FCOS and Panoptic FPN agree with ``CenterROIHeads``."""
    own, of_fcos = cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.FCOS.NUM_CLASSES
    if of_fcos not in (0, own):
        raise ConfigError(
            f"MODEL.FCOS.NUM_CLASSES is {of_fcos} but MODEL.ROI_HEADS.NUM_CLASSES is {own}: set the former to 0, which "
            "means the latter"
        )
    if cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT != 1.0:
        raise ConfigError(
            f"MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT is {cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT}, but "
            "CenterROIHeads has no box losses to weight: leave it at 1.0 and set MODEL.SEM_SEG_HEAD.LOSS_WEIGHT instead"
        )
