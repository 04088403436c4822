"""Every option that this package adds to Detectron2's config, one module per subject.

The comments are the documentation: ``centermask-solo config docs`` turns them into ``docs/configuration.md``. The lines
directly above an option and the comment behind it describe it; ``# --- Heading ---`` starts a group.
"""

from __future__ import annotations

from types import ModuleType

import torch
from detectron2.config import CfgNode, get_cfg

from ...utils.modules import import_modules
from ..old_names import register_old_names

_FIRST = ("general", "backbones")  # then the systems


def _find_subjects() -> tuple[ModuleType, ...]:
    """Return the modules of this folder that add options, in the order of the documentation."""
    modules = {name: module for name, module in import_modules(__name__).items() if hasattr(module, "add_options")}
    return tuple(modules[name] for name in (*_FIRST, *sorted(modules.keys() - set(_FIRST))))


SUBJECTS = _find_subjects()


def add_centermask_solo_config(cfg: CfgNode) -> None:
    """Add the options of all systems to ``cfg``, in place, and leave Detectron2's own defaults as they are.

    The one exception is ``MODEL.DEVICE``, which becomes "cpu" where no GPU is usable.
    """
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    for subject in SUBJECTS:
        subject.add_options(cfg)
    register_old_names(cfg)


def default_config() -> CfgNode:
    """Return a config with the defaults of Detectron2 and of this package."""
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return cfg
