"""Find config files, read them safely, and merge them with overrides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from ..utils.errors import ConfigError
from ..utils.text import first_line, nearest_hint, one_line
from ..utils.yaml import DAMAGED
from .old_names import OLD_NAMES
from .ranges import check_values
from .trees import flatten, keys_of

AUTO = "auto"  # a number of classes that is to come from the data
AUTO_NUMBER = 0  # the same in a config, whose numbers must be numbers

BASE = "_BASE_"
MAX_VALUES = 100_000  # of a config file, whose aliases could otherwise fill the memory
_INTEGER = re.compile(r"[+-]?\d+")
_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Return the folder ``configs``: inside an installed package, next to the package in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """Return the sorted names of all config files in ``configs``, such as "SOLOv2/solov2_R_50_3x.yaml"."""
    root = config_dir()
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))


def find_config_file(name: str) -> str:
    """Return the path of a config file.

    Args:
        name: Path of the file, or its name in ``configs``, such as "SOLOv2/solov2_R_50_3x.yaml".

    Raises:
        ConfigError: There is no such file.
    """
    if os.path.isfile(name):  # which, unlike Path's, is False for any name that the file system refuses
        return name
    root = config_dir()
    plain = name.removeprefix("configs/")
    if os.path.isfile(root / plain):
        return str(root / plain)
    hint = nearest_hint(plain, config_names()) or f", neither here nor in {root}"
    raise ConfigError(f"there is no config file {name}{hint}")


def read_config_file(path: str) -> dict[str, Any]:
    """Return the options of a config file and of the files that its ``_BASE_`` names, as nested dicts.

    No file can run code: YAML tags of Python objects are an error.

    Raises:
        ConfigError: A file is missing or not a config, or the chain of ``_BASE_`` has no end.
    """
    try:
        options = CfgNode.load_yaml_with_base(path, allow_unsafe=False)
    except OSError as error:
        needs = f"needs the config file {error.filename}" if error.filename not in (None, path) else "cannot be read"
        raise ConfigError(f"{path} {needs}: {error.strerror or error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is its own _BASE_, or is nested too deeply: remove one of the levels") from error
    except MemoryError as error:
        raise ConfigError(f"{path} is too large for a config file") from error
    except DAMAGED as error:
        raise ConfigError(f"{path} is not a config file: {one_line(error)}") from error
    if not isinstance(options, dict):
        raise ConfigError(f"{path} is not a config file: it has no options")
    if _count_values(options) > MAX_VALUES:
        raise ConfigError(f"{path} is not a config file: its aliases (*name) expand to over {MAX_VALUES} values")
    return options


def _count_values(options: Any) -> int:
    """Return the number of values with those that YAML's aliases repeat; any above ``MAX_VALUES`` is cut short."""
    count, rest = 0, [options]
    while rest and count <= MAX_VALUES:
        value = rest.pop()
        count += 1
        if isinstance(value, dict | list):
            rest += value.values() if isinstance(value, dict) else value
    return count


def load_config(text: str) -> CfgNode:
    """Return the options of a config inside a checkpoint, without the device, which may be another machine's."""
    try:
        config = CfgNode.load_cfg(text)
        config.MODEL.pop("DEVICE", None)
    except DAMAGED as error:
        raise ConfigError(
            f"the config inside the weights is damaged ({first_line(error)}): give --config-file"
        ) from error
    return config


def merge_config(cfg: CfgNode, config: str | CfgNode, opts: Sequence[str] | None) -> None:
    """Merge a config and KEY VALUE overrides into ``cfg``, in place.

    Args:
        cfg: Config with the options of this package.
        config: Path of a config file or its name in ``configs``, or options; "" for none.
        opts: Keys and values in turn.

    Raises:
        ConfigError: There is no such file, it is not a config, an option does not exist or has been renamed, or a value
            has the wrong type or is out of range.
    """
    opts = list(opts or [])
    check_pairs(opts)
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        node = cfg
        for part in key.split("."):
            node = node.get(part) if isinstance(node, CfgNode) else None
        if isinstance(node, CfgNode):
            raise ConfigError(f"{key} is a group of options, but was given {value}")
    if isinstance(config, CfgNode):
        config = config.clone()
        _replace_integers(cfg, config)
        with _explained(cfg, "the config inside the weights"):
            cfg.merge_from_other_cfg(config)
    elif config:
        path = find_config_file(config)
        options = read_config_file(path)
        _check_groups(cfg, options)
        with _explained(cfg, path):
            if _replace_auto(options) | _replace_integers(cfg, options):
                cfg.merge_from_other_cfg(CfgNode(options))
            else:
                cfg.merge_from_file(path, allow_unsafe=False)
    values = [_value(cfg, *pair) for pair in zip(opts[::2], opts[1::2], strict=True)]
    with _explained(cfg, "the overrides"):
        cfg.merge_from_list([x for pair in zip(opts[::2], values, strict=True) for x in pair])
    check_values(cfg)


def check_pairs(opts: Sequence[str]) -> None:
    """Raise ConfigError unless ``opts`` are keys and values in turn."""
    flag = next((x for x in opts if isinstance(x, str) and x.startswith("--")), None)
    if flag:
        raise ConfigError(f"{flag} follows overrides KEY VALUE: give flags first, and the overrides at the end")
    if len(opts) % 2:
        raise ConfigError(f"the overrides at the end must be pairs KEY VALUE, but {opts[-1]!r} has no value")
    if not all(opts[::2]):
        raise ConfigError("the overrides at the end must be pairs KEY VALUE, but the name of an option is empty")


def given_options(config: str, opts: Sequence[str] | None) -> set[str]:
    """Return the full names of the options that the user's own config files and the KEY VALUE overrides set.

    Args:
        config: Path of a config file or its name in ``configs``; "" for none. Files of this package do not count.
        opts: Keys and values in turn.
    """
    files = _own_files(Path(find_config_file(config))) if config else iter(())
    return {*list(opts or [])[::2], *(key for options in files for key in flatten(options))} - {BASE}


def _own_files(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the options of a config file and of its bases, down to those of this package or of the internet."""
    if path.resolve().is_relative_to(config_dir().resolve()):
        return
    options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    yield options
    bases = options.get(BASE, [])
    for base in bases if isinstance(bases, list) else [bases]:
        if "://" not in base:
            yield from _own_files(path.parent / os.path.expanduser(base))


def _is_auto(key: str, value: Any) -> bool:
    """Return whether a value asks for the number of classes of the data."""
    return value == AUTO and key.endswith(".NUM_CLASSES") and ".SEM_SEG_HEAD." not in key


def _replace_auto(options: dict[str, Any], prefix: str = "") -> bool:
    """Replace :data:`AUTO` in nested options, in place; return whether there was one."""
    found = False
    for name, value in options.items():
        if isinstance(value, dict):
            found |= _replace_auto(value, f"{prefix}{name}.")
        elif _is_auto(f"{prefix}{name}", value):
            options[name], found = AUTO_NUMBER, True
    return found


def _replace_integers(cfg: CfgNode, options: dict[str, Any]) -> bool:
    """Replace integers in nested options by floats where options are, in place; return whether there were some."""
    found = False
    for name, value in options.items():
        old = cfg.get(name)
        if isinstance(value, dict) and isinstance(old, CfgNode):
            found |= _replace_integers(old, value)
        elif isinstance(old, float) and type(value) is int:
            options[name], found = float(value), True
    return found


def _value(cfg: CfgNode, key: str, value: Any) -> Any:
    """Return the value of an override: 0 for :data:`AUTO`, and a float for an integer where the option is one."""
    if _is_auto(key, value):
        return str(AUTO_NUMBER)
    old: Any = cfg
    for part in key.split("."):
        old = old.get(part) if isinstance(old, CfgNode) else None
    is_integer = type(value) is int or (isinstance(value, str) and _INTEGER.fullmatch(value))
    return float(value) if isinstance(old, float) and is_integer else value


def _check_groups(cfg: CfgNode, options: Mapping[Any, Any], prefix: str = "") -> None:
    """Raise ConfigError unless names are strings, and groups of options are groups in ``cfg`` and ``options``."""
    for name, value in options.items():
        if not isinstance(name, str):
            raise ConfigError(f"there is no config key {prefix}{name}; names of options are words")
        group = cfg.get(name)
        if isinstance(group, CfgNode):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{prefix}{name} is a group of options, but was given {value}")
            _check_groups(group, value, f"{prefix}{name}.")


@contextmanager
def _explained(cfg: CfgNode, origin: str) -> Iterator[None]:
    """Turn what yacs raises on a wrong option or value into a ConfigError."""
    try:
        yield
    except (KeyError, ValueError, AssertionError, TypeError, AttributeError) as error:
        message = one_line(error.args[0] if error.args else error)
        raise ConfigError(_explain(cfg, origin, message)) from error


def _explain(cfg: CfgNode, origin: str, message: str) -> str:
    """Return the message for the user that corresponds to one of yacs's."""
    renamed = re.match(r"Key (\S+) was renamed to ", message)
    old = OLD_NAMES.get(renamed.group(1)) if renamed else None
    if renamed and old:
        note = f" ({old.note})" if old.note else ""
        fix = f"; centermask-solo config convert {origin} OUT.yaml rewrites the file" if os.path.isfile(origin) else ""
        return f"the option {renamed.group(1)} is now {old.new}{note}{fix}"
    unknown = re.match(r"Non-existent (?:config )?key: (\S+)", message)
    if unknown:
        key = unknown.group(1)
        return f"there is no config key {key}{nearest_hint(key, keys_of(cfg))}"
    wrong_type = re.match(
        r"Type mismatch \(<class '(.*?)'> vs\. <class '(.*?)'>\) with values \((.*) vs\. (.*)\) for config key: (\S+)",
        message,
    )
    if wrong_type:
        old_type, new_type, value, new, key = wrong_type.groups()
        return f"the config key {key} expects {old_type}, such as {value}, but was given {new} ({new_type})"
    return f"{origin}: {message}"
