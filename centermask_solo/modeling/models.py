"""The models, their backbones and the NMS rules; importing this module registers them with Detectron2.

Every folder beside this file is a system (or ``backbone``), and is found by itself.
"""

from ..utils.modules import import_modules

for _package in (__package__, f"{__package__}.backbone"):
    import_modules(_package)
