"""SOLOv2: instance masks from dynamic kernels and one map of mask features."""

from .meta_arch import SOLOv2

__all__ = ["SOLOv2"]
