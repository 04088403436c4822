"""What a weight file holds, and which config it belongs to: as data, and as text to be read."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..checkpoint.backbones import Backbone
from ..checkpoint.contents import Contents, read_contents
from ..checkpoint.fit import name_some
from ..checkpoint.sources import PixelFormat
from .candidates import choose_candidate, find_candidates


def inspect_weights(path: str) -> dict[str, Any]:
    """What a weight file holds, in plain values; None is what it does not tell.

    Args:
        path: of the file, or a URL that can be fetched.

    Returns:
        "file"; "source", the code base that wrote it; "system", the meta-architecture, None for a bare backbone;
        "entries"; "backbone" with "kind", "body", "deformable" (stages) and "modulated"; "num_classes";
        "thing_classes"; "images" with "format", "mean", "std" and "certain"; "has_config"; "configs", those of this
        package that fit, with "name" and "options" to be changed in them; "config", the name of the one that it
        belongs to; "left_out", lists of keys by the reason.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is of no known source.
    """
    contents = read_contents(path)
    candidates = find_candidates(contents)
    chosen = choose_candidate(contents, candidates) if contents.system else None
    images, left_out = contents.pixel_format, defaultdict(list)
    for key, reason in contents.dropped.items():
        left_out[reason].append(key)
    return {
        "file": path,
        "source": contents.source.name,
        "system": contents.system or None,
        "entries": contents.num_entries,
        "backbone": {**contents.backbone._asdict(), "deformable": list(contents.backbone.deformable)},
        "num_classes": contents.num_classes,
        "thing_classes": contents.thing_classes,
        "images": images and _images(contents, images),
        "has_config": contents.config is not None,
        "configs": [{"name": candidate.name, "options": candidate.options} for candidate in candidates],
        "config": chosen and chosen.name,
        "left_out": dict(left_out),
    }


def _images(contents: Contents, images: PixelFormat) -> dict[str, Any]:
    mean, std = list(images.mean), list(images.std)
    return {"format": images.channels, "mean": mean, "std": std, "certain": contents.format_is_certain}


def format_inspection(found: dict[str, Any]) -> str:
    """The text of what :func:`inspect_weights` has found: a line or some for each question, without a final newline."""
    bare = found["system"] is None
    rows = {
        "file": [f"{found['file']}, {found['entries']} entries"],
        "source": [found["source"]],
        "system": ["none: a bare backbone, from which a training can start" if bare else found["system"]],
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
        return "not known: the config has to be the one of the training"
    pixel_format = PixelFormat(images["format"], tuple(images["mean"]), tuple(images["std"]))
    return f"{pixel_format}{'' if images['certain'] else ', unless the training was not the published one'}"


def _configs(found: dict[str, Any]) -> list[str]:
    """The config that the file belongs to; or all that fit, where it does not tell."""
    if found["has_config"]:
        return ["the one inside the file"]
    configs = [_config(**config) for config in found["configs"]]
    if found["config"] is not None:
        return configs[:1] + [f"(the shapes also fit {', '.join(configs[1:])})"] * (len(configs) > 1)
    if found["system"] is not None and configs:
        return ["one of these, which predict differently:", *configs]
    return configs or ["none of this package fits"]


def _config(name: str, options: dict[str, Any]) -> str:
    """With the number of classes, if it has to be changed, as on a command line; the images stand in a line above."""
    plain = [f"{key} {value}" for key, value in options.items() if key.endswith("NUM_CLASSES")]
    return " ".join([name, *plain]) + (", with the images above" if "INPUT.FORMAT" in options else "")


def _left_out(reason: str, keys: list[str]) -> str:
    return f"{reason}: {keys[0]}" + (f" and {len(keys) - 1} more" if keys[1:] else "")
