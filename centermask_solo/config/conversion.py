"""Convert config files of AdelaiDet, CenterMask2 and earlier versions of this package to today's options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from detectron2.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.files import atomic_write, claim_file
from ..utils.text import printable
from .files import merge_config, read_config_file
from .old_names import OLD_NAMES
from .options import default_config
from .trees import flatten, to_yaml

_DROPBOX = re.compile(r"https://www\.dropbox\.com/(\S+?)(?:\?dl=[01])?$")


@dataclass
class Conversion:
    """Options under today's names, and how they came about.

    Attributes:
        options: Full names to values, in the order of the original.
        changes: One line for each option that was renamed, changed or dropped.
        unknown: Options that neither this package nor Detectron2 has; they are not in ``options``.
    """

    options: dict[str, Any] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def set(self, key: str, value: Any, change: str = "") -> None:
        """Set an option, and record the change if there is one.

        Raises:
            ConfigError: It already has another value.
        """
        if self.options.get(key, value) != value:
            raise ConfigError(f"{key} would be both {self.options[key]} and {value}: remove one of its old names")
        self.options[key] = value
        if change:
            self.changes.append(change)


def convert_options(options: Mapping[str, Any]) -> Conversion:
    """Return options with today's names and values.

    Args:
        options: Nested options of a config file without ``_BASE_``.

    Raises:
        ConfigError: Two options that have become one have different values.
    """
    defaults = flatten(default_config())
    result = Conversion()
    for key, value in flatten(options).items():
        old = OLD_NAMES.get(key)
        if old is not None and old.new is None:
            result.changes.append(f"dropped {key} {value}: {old.note}")
        elif old is not None and old.new is not None:
            new = _match_type(old.translate(value) if old.translate else value, defaults.get(old.new))
            note = f" ({old.note})" if old.note else ""
            result.set(old.new, new, f"{key} {value} -> {old.new} {new}{note}")
        elif key in defaults:
            result.set(key, _match_type(value, defaults[key]))
        else:
            result.unknown.append(key)
    _adapt_values(result, flatten(options))
    return result


def convert_file(path: str, target: str, *, drop_unknown: bool = False, overwrite: bool = False) -> Conversion:
    """Write a config file with today's options; ``_BASE_`` files are merged into it, since they may need it as well.

    Args:
        path: File to convert.
        target: File to write.
        drop_unknown: Leave out unknown options instead of failing.
        overwrite: Replace ``target`` if it exists.

    Raises:
        ConfigError: A file is missing, not a config or in the way, or it has unknown options or values of a wrong type.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"there is no config file {path}")
    claim_file(target, [path], overwrite=overwrite)
    result = convert_options(read_config_file(path))
    if result.unknown and not drop_unknown:
        raise ConfigError(f"{path} has unknown options: {', '.join(result.unknown)}; --drop-unknown leaves them out")
    text = to_yaml(result.options)
    merge_config(default_config(), CfgNode.load_cfg(text), None)
    with atomic_write(target) as file:
        file.write(f"# Converted from {printable(os.path.basename(path))}.\n{text}")
    return result


def _match_type(value: Any, default: Any) -> Any:
    """Return an integer as a float where the option is one; other values as they are."""
    return float(value) if isinstance(default, float) and type(value) is int else value


def _adapt_values(result: Conversion, old: Mapping[str, Any]) -> None:
    """Translate what depends on more than one option, or is not renamed."""
    options = result.options
    architecture, generator = "MODEL.META_ARCHITECTURE", "MODEL.PROPOSAL_GENERATOR.NAME"
    if options.get(architecture) == "GeneralizedRCNN" and options.get(generator) == "FCOS":
        options[architecture] = "CenterMask"
        result.changes.append(f"{architecture} GeneralizedRCNN -> CenterMask")
    weights = options.get("MODEL.WEIGHTS")
    dropbox = _DROPBOX.match(weights) if isinstance(weights, str) else None
    if dropbox:
        options["MODEL.WEIGHTS"] = f"https://dl.dropbox.com/{dropbox.group(1)}"
        result.changes.append(f"MODEL.WEIGHTS {weights} -> {options['MODEL.WEIGHTS']}")
    mask_threshold = old.get("MODEL.SOLOV2.MASK_THR")
    if old.get("MODEL.SOLOV2.NMS_TYPE") == "mask" and mask_threshold is not None:
        key = "MODEL.SOLOV2.NMS.IOU_THRESH"
        result.set(key, float(mask_threshold), f"added {key} {mask_threshold}, for which AdelaiDet takes MASK_THR")
