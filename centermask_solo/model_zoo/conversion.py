"""Convert weights of any source to this package's own layout, with class names and config inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from ..checkpoint.files import without_query, write_safetensors
from ..checkpoint.fit import Fit, fit_weights
from ..checkpoint.sources import PixelFormat
from ..checkpoint.weight_file import WeightFile, read_weight_file
from ..config import default_config, load_config, merge_config, value_of
from ..modeling.systems import System
from ..utils.errors import ConfigError, WeightsError
from ..utils.files import atomic_write, claim_file
from ..utils.text import counted, name_some
from .matching import adapt, match_configs
from .signatures import empty_state, pixel_format_of

SAFETENSORS = ".safetensors"
CONFIG_OPTION = "--config-file (in Python: config_file)"
COCO_CLASSES = [category["name"] for category in COCO_CATEGORIES if category["isthing"]]


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        source: Name of the source of the weights.
        num_entries: Number of parameters written.
        config: Where the config came from.
        cfg: The config.
        thing_classes: Names of the classes; None if they are unknown.
        images: Images that the config gives the model.
        left_out: Parts of the file that the config does not build.
    """

    source: str
    num_entries: int
    config: str
    cfg: CfgNode
    thing_classes: list[str] | None
    images: PixelFormat
    left_out: list[str]


def convert_weights(
    path: str,
    target: str,
    *,
    config_file: str = "",
    thing_classes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Converted:
    """Write the weights of a detector of any source in this package's own layout.

    Args:
        path: Path or URL of the weights.
        target: File to write, in the format of PyTorch (.pth) or of safetensors (.safetensors).
        config_file: Config of the model; by default the one inside the file, or the one of this package that the
            weights belong to.
        thing_classes: Names of the classes in order; by default those inside the file, or COCO's if there are 80.
        overwrite: Replace ``target`` if it exists.

    Raises:
        WeightsError: The weights cannot be read, are not a detector's, or do not fit the config.
        ConfigError: The target cannot be written, the config cannot be read, or the names do not fit the weights.
    """
    if not target.endswith((".pth", SAFETENSORS)):
        raise ConfigError(f"{target} has no known format: give it a name that ends in .pth or {SAFETENSORS}")
    claim_file(target, [without_query(path), *filter(None, [config_file])], overwrite=overwrite)
    file = read_weight_file(path)
    if file.system is None:
        raise WeightsError(
            f"{path} ({file.source_name}) is a backbone without a detector, which needs no conversion: "
            "give it to a training as it is, as MODEL.WEIGHTS"
        )
    names = _name_classes(file, thing_classes)
    cfg, config = make_config(file, file.system, config_file)
    fit = _check_fit(file, cfg, config)
    weights = {key: torch.as_tensor(value) for key, value in fit.weights.items()}
    content = {"model": weights, "config": cfg.dump(), **({"thing_classes": names} if names else {})}
    if target.endswith(SAFETENSORS):
        write_safetensors(target, content)
    else:
        with atomic_write(target, "wb") as output:
            torch.save(content, output)
    return Converted(file.source_name, len(weights), config, cfg, names, pixel_format_of(cfg), fit.unbuilt_parts)


def _name_classes(file: WeightFile, given: Sequence[str] | None) -> list[str] | None:
    """Return the names of the classes, or None if they are unknown."""
    number = file.num_classes
    if given is None:
        return file.thing_classes or (COCO_CLASSES if number == len(COCO_CLASSES) else None)
    if number is not None and len(given) != number:
        raise ConfigError(
            f"{file.path} has {counted(number, 'class')}, but {counted(len(given), 'name')} given: give all, in order"
        )
    return list(given)


def make_config(file: WeightFile, system: System, config_file: str) -> tuple[CfgNode, str]:
    """Return the config of a file, with the classes and images of the weights, and where it came from."""
    cfg = default_config()
    origin = config_file or (_only_config(file) if file.config is None else f"the one inside {file.path}")
    merge_config(cfg, load_config(file.config) if file.config is not None and not config_file else origin, [])
    if system.name != cfg.MODEL.META_ARCHITECTURE:
        raise WeightsError(
            f"{file.path} is {file.source_name}, a {system.name}, but {origin} is of a {cfg.MODEL.META_ARCHITECTURE}: "
            f"give one that fits with {CONFIG_OPTION}"
        )
    images = file.format_is_certain or not config_file
    num_classes = value_of(cfg, system.num_classes_key)
    for item in adapt(file, num_classes, pixel_format_of(cfg), images=images).items():
        cfg.merge_from_list(list(item))
    cfg.MODEL.WEIGHTS = ""
    return cfg, origin


def _only_config(file: WeightFile) -> str:
    candidates, chosen = match_configs(file)
    if chosen is not None:
        return chosen.name
    if not candidates:
        raise WeightsError(f"no config of this package fits {file.path}: name the right one with {CONFIG_OPTION}")
    raise WeightsError(
        f"{len(candidates)} configs fit {file.path} that predict differently: name the right one with "
        f"{CONFIG_OPTION}, of {', '.join(candidate.name for candidate in candidates)}"
    )


def _check_fit(file: WeightFile, cfg: CfgNode, config: str) -> Fit:
    """Return how the weights fit the model of a config; raise WeightsError unless they fill it."""
    fit = fit_weights(file, empty_state(cfg))
    faults = [*fit.faults, *(f"it lacks {part}" for part in fit.new_parts)]
    if fit.class_layers:
        faults.append(f"the number of classes differs in {name_some(fit.class_layers)}")
    if faults:
        raise WeightsError(
            f"{file.path} ({file.source_name}) does not fit {config}: {'; '.join(faults)}; "
            f"give one that fits with {CONFIG_OPTION}"
        )
    return fit
