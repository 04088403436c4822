"""The options that this package adds to Detectron2's config, and how config files are found, merged and converted."""

from ..utils.rules import value_of
from .files import (
    AUTO,
    AUTO_NUMBER,
    check_pairs,
    config_dir,
    config_names,
    find_config_file,
    given_options,
    load_config,
    merge_config,
    read_config_file,
)
from .options import add_centermask_solo_config, default_config

__all__ = [
    "AUTO",
    "AUTO_NUMBER",
    "add_centermask_solo_config",
    "check_pairs",
    "config_dir",
    "config_names",
    "default_config",
    "find_config_file",
    "given_options",
    "load_config",
    "merge_config",
    "read_config_file",
    "value_of",
]
