"""Which detectors' options a system reads; the others are refused when they are changed.

A config has the options of all of Detectron2's detectors and of all of this package's at once. Tutorials set some, such
as ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``, whatever the model, and expect an effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..utils.errors import ConfigError
from ..utils.rules import value_of
from .systems import System, find_system, list_systems

# Options, and groups of them, that belong to a kind of detector, besides what the records of systems name.
SCOPED = (
    *("MODEL.PROPOSAL_GENERATOR", "MODEL.ANCHOR_GENERATOR", "MODEL.RPN", "MODEL.RETINANET", "MODEL.ROI_HEADS"),
    *("MODEL.ROI_BOX_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD", "MODEL.ROI_MASK_HEAD", "MODEL.ROI_KEYPOINT_HEAD"),
    *("MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN", "MODEL.CENTERMASK", "TEST.DETECTIONS_PER_IMAGE"),
)
READ_BY_BACKBONES = ("MODEL.FCOS.TOP_LEVELS",)
_ROI_HEADS = (
    *("MODEL.ROI_HEADS", "MODEL.ROI_BOX_HEAD", "MODEL.ROI_BOX_CASCADE_HEAD", "MODEL.ROI_MASK_HEAD"),
    *("MODEL.ROI_KEYPOINT_HEAD", "TEST.DETECTIONS_PER_IMAGE"),
)
_RPN = ("MODEL.PROPOSAL_GENERATOR", "MODEL.ANCHOR_GENERATOR", "MODEL.RPN")
_MATCHING = ("NUM_CLASSES", "IOU_THRESHOLDS", "IOU_LABELS", "BATCH_SIZE_PER_IMAGE", "POSITIVE_FRACTION")
# What the parts that an option chooses read. A part that is not here, such as a user's own, may read anything.
PARTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN"): _RPN,
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RRPN"): _RPN,
    # Configs with precomputed proposals inherit from Faster R-CNN's
    ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"): _RPN,
    ("MODEL.PROPOSAL_GENERATOR.NAME", "FCOS"): ("MODEL.PROPOSAL_GENERATOR.NAME", "MODEL.FCOS"),
    ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"): _ROI_HEADS,
    ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"): _ROI_HEADS,
    ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"): _ROI_HEADS,
    ("MODEL.ROI_HEADS.NAME", "CenterROIHeads"): (
        *(f"MODEL.ROI_HEADS.{name}" for name in ("NAME", "IN_FEATURES", "PROPOSAL_APPEND_GT", *_MATCHING)),
        *("MODEL.ROI_MASK_HEAD", "MODEL.ROI_KEYPOINT_HEAD", "MODEL.CENTERMASK"),
    ),
    ("TEST.AUG.ENABLED", "False"): (),
    ("TEST.AUG.ENABLED", "True"): ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "TEST.DETECTIONS_PER_IMAGE"),
}


def scoped_options() -> tuple[str, ...]:
    """Return the options, and groups of them, that belong to a kind of detector."""
    return (*SCOPED, *(key for system in list_systems() for key in system.reads or ()))


def check_options_are_read(cfg: CfgNode, defaults: CfgNode | None = None) -> None:
    """Raise ConfigError if an option of another kind of detector is not at its default.

    Args:
        cfg: Config of a model.
        defaults: Config with the defaults of all options; by default Detectron2's, without those of this package.
    """
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    reads = _reads(cfg, system) if system else None
    if system is None or reads is None:
        return
    for key, default in _options(get_cfg() if defaults is None else defaults, scoped_options()):
        value = value_of(cfg, key)
        if _plain(value) == _plain(default) or _is_in(key, reads):
            continue
        instead = _instead_of(key, system, reads)
        own = value_of(cfg, instead) if instead else None
        if own is not None and (own == value or (key.endswith(".NUM_CLASSES") and own == 0)):
            continue  # it says what the system's own option says, or stands in for it
        fix = f"set {instead} and leave the former at {default}" if instead else f"leave it at {default}"
        raise ConfigError(f"{key} is {value}, but {system.name} does not read this option: {fix}")


def max_detections(cfg: CfgNode) -> int:
    """Return the largest number of detections per image that the options of a config's system allow."""
    return value_of(cfg, _key_of_max_detections(cfg))


def with_max_detections(cfg: CfgNode, number: int) -> CfgNode:
    """Return a config for which :func:`max_detections` is this number."""
    changed = cfg.clone()
    changed.defrost()
    changed.merge_from_list([_key_of_max_detections(cfg), number])
    return changed


def _key_of_max_detections(cfg: CfgNode) -> str:
    system, key = find_system(cfg.MODEL.META_ARCHITECTURE), "TEST.DETECTIONS_PER_IMAGE"
    reads = _reads(cfg, system) if system else None
    if system is not None and reads is not None and not _is_in(key, reads):
        key = _instead_of(key, system, reads) or key
    return key


def _instead_of(key: str, system: System, reads: tuple[str, ...]) -> str:
    """Return the option that the system reads for what ``key`` means elsewhere; "" if there is none."""
    if _is_in(key, ("MODEL.SEM_SEG_HEAD",)):
        return ""  # has classes of another kind
    name = key.rpartition(".")[2]  # parts that the system has from another one have that one's options
    candidates = [x.instead[name] for x in (system, *list_systems()) if name in x.instead]
    return next((x for x in candidates if _is_in(x, reads)), "")


def _reads(cfg: CfgNode, system: System) -> tuple[str, ...] | None:
    """Return what the system and its parts read; None if that is unknown."""
    names = {option: str(value_of(cfg, option)) for option in system.parts}
    parts = [PARTS.get(pair) for pair in names.items()]
    fits = all(needed in ("", names[option]) for option, needed in system.parts.items())
    if system.reads is None or None in parts or not fits:  # the model itself refuses what does not fit
        return None
    return (*system.reads, *READ_BY_BACKBONES, *(key for part in parts for key in part or ()))


def _options(node: CfgNode, scoped: tuple[str, ...], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options among ``scoped`` with their values."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, CfgNode):
            yield from _options(value, scoped, f"{key}.")
        elif _is_in(key, scoped):
            yield key, value


def _is_in(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)


def _plain(value: Any) -> Any:
    """Return a value in which lists and tuples are the same."""
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value
