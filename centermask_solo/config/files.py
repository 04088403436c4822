"""Config files: where this package's are, and how one is merged with overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """The folder ``configs``: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """The names of all config files below ``configs``, in order, such as "SOLOv2/solov2_R_50_3x.yaml"."""
    root = config_dir()
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))


def find_config_file(name: str) -> str:
    """The path of a config file given by its path or by its name below ``configs``, such as "SOLOv2/x.yaml".

    Raises:
        FileNotFoundError: it is neither; the sentence names the nearest one.
    """
    if Path(name).is_file():
        return name
    root = config_dir()
    plain = name.removeprefix("configs/")
    if (root / plain).is_file():
        return str(root / plain)
    near = difflib.get_close_matches(plain, config_names(), n=1, cutoff=0.0)
    hint = f"the nearest one is {root / near[0]}" if near else f"there are none in {root} either"
    raise FileNotFoundError(f"there is no config file {name}; {hint}")


def load_config(text: str) -> CfgNode:
    """The options of a config inside a checkpoint, except for the device, which may be another machine's."""
    config = CfgNode.load_cfg(text)
    config.MODEL.pop("DEVICE", None)
    return config


def merge_config(cfg: CfgNode, config: str | CfgNode, opts: Sequence[str] | None) -> None:
    """Merge a config (its path, or the name of one of this package's, or its options) and KEY VALUE pairs into ``cfg``.

    Raises:
        ValueError, FileNotFoundError: no such file, not YAML, an unknown key or a value of a wrong type.
    """
    opts = list(opts or [])
    if len(opts) % 2:
        raise ValueError(f"the overrides at the end must be pairs KEY VALUE, but {opts[-1]!r} has no value")
    try:
        if isinstance(config, CfgNode):
            cfg.merge_from_other_cfg(config)
        elif config:
            cfg.merge_from_file(find_config_file(config))
        cfg.merge_from_list(opts)
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        name = config if isinstance(config, str) else "what the weights have inside"
        raise ValueError(f"{name} is not a config file: {' '.join(str(error).split())}") from error
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(_explain_merge_error(cfg, str(error.args[0] if error.args else error))) from error


def _explain_merge_error(cfg: CfgNode, message: str) -> str:
    """The sentence for what yacs says on a wrong key or value."""
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", message)
    if unknown:
        key = unknown.group(1)
        near = difflib.get_close_matches(key, list(_keys(cfg)), n=1, cutoff=0.0)[0]
        return f"there is no config key {key}; the nearest one is {near}"
    pattern = (
        r"Type mismatch \(<class '(.*?)'> vs\. <class '(.*?)'>\) with values \((.*) vs\. (.*)\) for config key: (\S+)"
    )
    wrong_type = re.match(pattern, message)
    if wrong_type:
        old_type, new_type, old, new, key = wrong_type.groups()
        return f"the config key {key} takes a {old_type} such as {old}, but was given {new} ({new_type})"
    return " ".join(message.split())


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of an option, such as "MODEL.DEVICE"."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node
