"""What a weight file holds, and which config it belongs to: as data, and as text."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..checkpoint.backbones import Backbone
from ..checkpoint.sources import PixelFormat
from ..checkpoint.weight_file import read_weight_file
from ..utils.text import counted, name_some
from . import hub_files  # noqa: F401  (reads its addresses)
from .matching import match_configs


def inspect_weights(path: str) -> dict[str, Any]:
    """Return what a weight file holds, in plain values; None where the file does not say.

    Args:
        path: Path of the file, or a URL that can be fetched.

    Returns:
        "file"; "source", the code base that wrote it; "system", the meta-architecture, None for a bare backbone;
        "entries"; "backbone" with "kind", "body", "deformable" (stages) and "modulated"; "num_classes";
        "thing_classes"; "images" with "format", "mean", "std" and "certain"; "has_config"; "configs", those of this
        package that fit, with "name" and the "options" to change; "config", the name of the one that it belongs to;
        "left_out", lists of keys by the reason.

    Raises:
        WeightsError: The file is missing or cannot be read, or no source knows it.
    """
    file = read_weight_file(path, mapped=True)
    candidates, chosen = match_configs(file)
    left_out = defaultdict(list)
    for key, reason in file.dropped.items():
        left_out[reason].append(key)
    images = file.pixel_format and {
        "format": file.pixel_format.channels,
        "mean": list(file.pixel_format.mean),
        "std": list(file.pixel_format.std),
        "certain": file.format_is_certain,
    }
    return {
        "file": path,
        "source": file.source_name,
        "system": file.system and file.system.name,
        "entries": file.num_entries,
        "backbone": {**file.backbone._asdict(), "deformable": list(file.backbone.deformable)},
        "num_classes": file.num_classes,
        "thing_classes": file.thing_classes,
        "images": images,
        "has_config": file.config is not None,
        "configs": [{"name": candidate.name, "options": candidate.options} for candidate in candidates],
        "config": chosen and chosen.name,
        "left_out": dict(left_out),
    }


def format_inspection(found: dict[str, Any]) -> str:
    """Return what :func:`inspect_weights` found as text: one or more lines per question, without a final newline."""
    bare = found["system"] is None
    rows = {
        "file": [f"{found['file']}, {counted(found['entries'], 'entry')}"],
        "source": [found["source"]],
        "system": ["none: a bare backbone, which training can start from" if bare else found["system"]],
        "backbone": [str(Backbone(**found["backbone"])) or "unknown"],
        "classes": [] if bare else [_classes(found)],
        "images": [_expected_images(found["images"])],
        "config": _configs(found),
        "left out": [_left_out(reason, keys) for reason, keys in found["left_out"].items()] or ["nothing"],
    }
    width = max(map(len, rows)) + 2
    lines = [f"{'' if i else label:{width}}{line}" for label, lines in rows.items() for i, line in enumerate(lines)]
    return "\n".join(lines)


def _classes(found: dict[str, Any]) -> str:
    number, names = found["num_classes"], found["thing_classes"]
    if names is None:
        return f"{'unknown' if number is None else number}; the file does not name them"
    return f"{number}: {name_some(names)}"


def _expected_images(images: dict[str, Any] | None) -> str:
    if images is None:
        return "unknown: use the config of the training"
    pixel_format = PixelFormat(images["format"], tuple(images["mean"]), tuple(images["std"]))
    return f"{pixel_format}{'' if images['certain'] else ', unless the training was not the published one'}"


def _configs(found: dict[str, Any]) -> list[str]:
    """Return the config that the file belongs to, or all that fit if that is not certain."""
    if found["has_config"]:
        return ["the one inside the file"]
    configs = [_config(**config) for config in found["configs"]]
    if found["config"] is not None:
        return configs[:1] + [f"(the shapes also fit {', '.join(configs[1:])})"] * (len(configs) > 1)
    if found["system"] is not None and configs:
        return ["one of these, which predict differently:", *configs]
    return configs or ["none of this package fits"]


def _config(name: str, options: dict[str, Any]) -> str:
    """Return a config with the number of classes to give on the command line; the images are in a line above."""
    plain = [f"{key} {value}" for key, value in options.items() if key.endswith("NUM_CLASSES")]
    return " ".join([name, *plain]) + (", with the images above" if "INPUT.FORMAT" in options else "")


def _left_out(reason: str, keys: list[str]) -> str:
    return f"{reason}: {name_some(keys, 1)}"
