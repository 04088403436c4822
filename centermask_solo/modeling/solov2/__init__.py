"""SOLOv2: instance masks from dynamic kernels and one map of mask features."""

from centermask_solo.modeling.solov2.meta_arch import SOLOv2

__all__ = ["SOLOv2"]
