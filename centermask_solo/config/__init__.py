"""The options that this package adds to Detectron2's config, and how config files are found, merged and converted."""

from .files import config_dir, config_names, find_config_file, load_config, merge_config, read_config_file, value_of
from .options import add_centermask_solo_config

__all__ = [
    "add_centermask_solo_config",
    "config_dir",
    "config_names",
    "find_config_file",
    "load_config",
    "merge_config",
    "read_config_file",
    "value_of",
]
