"""Signatures of configs, by which weights are matched to them: computed once and kept in ``signatures.json``."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..checkpoint.backbones import OFFSETS, name_backbone, stage_of
from ..checkpoint.fit import parameters_of
from ..checkpoint.sources import PixelFormat
from ..checkpoint.sources.source import BACKBONE
from ..checkpoint.weight_file import WeightFile
from ..modeling.systems import find_system

if TYPE_CHECKING:
    from detectron2.config import CfgNode

COMMAND = "python -m centermask_solo.cli models --signatures > centermask_solo/model_zoo/signatures.json"
_FILE = Path(__file__).with_name("signatures.json")
# A number of classes that no other dimension of a model reaches: it shows which rows belong to the classes.
MANY_CLASSES = 1_000_003
# Options that prediction depends on besides MODEL's; options of MODEL that it does not depend on, or that are compared
# separately, as the images are.
PREDICTION_KEYS = ("INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "TEST.DETECTIONS_PER_IMAGE")
OTHER_KEYS = (
    *("MODEL.DEVICE", "MODEL.WEIGHTS", "MODEL.BACKBONE.FREEZE_AT", "MODEL.RESNETS.NORM"),
    *("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.EMA.ENABLED", "MODEL.EMA.DECAY", "MODEL.EMA.WARM_UP"),
)


@dataclass(frozen=True)
class Signature:
    """The properties of a config by which weights are matched to it.

    Attributes:
        config: Name of the config below ``configs``.
        system: ``MODEL.META_ARCHITECTURE``.
        num_classes: Number of classes; None if the system has no record.
        any_classes: Whether its options suit any number of classes; those for LVIS, such as low thresholds, do not.
        pixel_format: Images that the config gives its model.
        class_rows: Parameters with rows for each class: how many for each, and how many more.
        weights: Digest of the names and shapes of all parameters, without the rows of ``class_rows``.
        backbone_name: Common name of the backbone.
        stages: Stages of the backbone.
        backbone: Digest of the names and shapes of the backbone's parameters that ImageNet weights fill.
        prediction: Digest of the other options that prediction depends on.
    """

    config: str
    system: str
    num_classes: int | None
    any_classes: bool
    pixel_format: PixelFormat
    class_rows: dict[str, tuple[int, int]]
    weights: str
    backbone_name: str
    stages: tuple[str, ...]
    backbone: str
    prediction: str

    def matches(self, file: WeightFile) -> bool:
        """Return whether a file fills the config's model exactly, with any number of classes unless it is for its own.

        For a bare backbone: whether it fills the backbone; it may have more stages.
        """
        if file.is_backbone:
            inside = {key: value for key, value in file.weights.items() if stage_of(key) in self.stages}
            return digest(inside) == self.backbone
        if file.system is None or file.system.name != self.system or not file.weights.keys() >= self.class_rows.keys():
            return False
        num_classes = self.num_classes if file.num_classes is None else file.num_classes
        if not self.any_classes and num_classes != self.num_classes:
            return False
        return digest(file.weights, self.class_rows) == self.weights and all(
            num_classes is not None and file.weights[key].shape[0] == each * num_classes + more
            for key, (each, more) in self.class_rows.items()
        )


def digest(weights: Mapping[str, Any], class_rows: Collection[str] = ()) -> str:
    """Return a digest of names and shapes, without the rows of the parameters in ``class_rows``."""
    shapes = {key: list(weights[key].shape)[key in class_rows :] for key in parameters_of(weights)}
    return _digest(shapes)


@functools.cache
def load_signatures() -> tuple[Signature, ...]:
    """Return the signatures of all configs that are not a base of others, in the order of their names."""
    return tuple(map(_read_signature, json.loads(_FILE.read_text(encoding="utf-8"))))


def _read_signature(row: dict[str, Any]) -> Signature:
    images = row["pixel_format"]
    row["pixel_format"] = PixelFormat(images["channels"], tuple(images["mean"]), tuple(images["std"]))
    row["class_rows"] = {key: (each, more) for key, (each, more) in row["class_rows"].items()}
    row["stages"] = tuple(row["stages"])
    return Signature(**row)


def signatures_text() -> str:
    """Return the text of ``signatures.json``, computed from the configs, which takes about 20 seconds."""
    from ..config import config_names

    rows = [json.dumps(asdict(make_signature(name))) for name in config_names() if "Base" not in name]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def make_signature(name: str) -> Signature:
    """Return the signature of a config, whose model is built on the meta device."""
    from detectron2.data import MetadataCatalog

    from ..config import value_of
    from ..data.datasets import is_lvis
    from .verbs import get_config

    cfg = get_config(name)
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    key = system.num_classes_key if system else ""
    num_classes, pixel_format = value_of(cfg, key) if key else None, pixel_format_of(cfg)
    if key:
        cfg.merge_from_list([key, MANY_CLASSES])
    state = empty_state(cfg)
    rows = {k: divmod(v.shape[0], MANY_CLASSES) for k, v in state.items() if v.shape and v.shape[0] >= MANY_CLASSES}
    prefix = BACKBONE if any(key.startswith(BACKBONE) for key in state) else "backbone."
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    backbone = {key: value for key, value in inside.items() if not OFFSETS.fullmatch(key)}
    return Signature(
        config=name,
        system=cfg.MODEL.META_ARCHITECTURE,
        num_classes=num_classes,
        any_classes=not any(is_lvis(MetadataCatalog.get(x)) for x in {*cfg.DATASETS.TEST} & {*MetadataCatalog.list()}),
        pixel_format=pixel_format,
        class_rows=rows,
        weights=digest(state, rows),
        backbone_name=name_backbone(cfg, inside),
        stages=tuple(dict.fromkeys(map(stage_of, parameters_of(backbone)))),
        backbone=digest(backbone),
        prediction=_digest(_prediction_options(cfg)),
    )


def empty_state(cfg: CfgNode) -> Mapping[str, Tensor]:
    """Return the state dict of a config's model on the meta device, which takes no memory."""
    from ..modeling import models  # noqa: F401  (registers the models)
    from ..modeling.parts import build_empty

    return build_empty(cfg).state_dict()


def pixel_format_of(cfg: CfgNode) -> PixelFormat:
    """Return the images that a config gives its model."""
    return PixelFormat(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))


def _prediction_options(cfg: CfgNode) -> list[Any]:
    from ..config import value_of

    plain = cfg.clone()
    for key in OTHER_KEYS:
        plain.merge_from_list([key, type(value_of(plain, key))()])
    return [plain.MODEL, *(value_of(plain, key) for key in PREDICTION_KEYS)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
