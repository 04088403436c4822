"""The models, their backbones and the NMS rules; importing this module registers them with Detectron2.

Every folder beside this file is a system (or ``backbone``) and is found by itself.
"""

from ..utils.modules import import_modules
from . import nms_rules

for _name in ("", ".backbone"):
    import_modules(f"{__package__}{_name}")

__all__ = ["nms_rules"]
