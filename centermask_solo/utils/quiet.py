"""Warnings of other packages that users can do nothing about."""

from __future__ import annotations

import logging
import warnings


def hide_foreign_warnings() -> None:
    """Hide that PyTorch has deprecated ``torch.jit.script``, which fvcore calls, and that CUDA has no GPU here.

    Only programs call this; importing the package leaves the filters of an application alone.
    """
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=DeprecationWarning)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
