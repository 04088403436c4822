"""Warnings of other packages that users can do nothing about."""

from __future__ import annotations

import logging
import os
import warnings

# What PyTorch has deprecated, and fvcore calls on import and Detectron2 in training with several processes and for
# anchors: how the warnings begin
DEPRECATED = ("`torch.jit.script` is deprecated", "`broadcast_buffers` is deprecated", "torch.meshgrid")


def hide_foreign_warnings() -> None:
    """Hide, here and in child processes, what PyTorch has deprecated, and here that CUDA has no GPU.

    Only programs call this; importing the package leaves the filters of an application alone.
    """
    known = os.environ.get("PYTHONWARNINGS", "")
    rules = [f"ignore:{text}:Warning" for text in DEPRECATED]
    os.environ["PYTHONWARNINGS"] = ",".join([*filter(None, [known]), *(x for x in rules if x not in known)])
    for text in DEPRECATED:
        warnings.filterwarnings("ignore", message=text)
    logging.raiseExceptions = False  # of a log that cannot be written, as on a full disk, whose error is reported once
    for name in ("torch.utils.cpp_extension", "torch.fx._symbolic_trace"):  # the latter for Detectron2's R-CNNs
        logging.getLogger(name).setLevel(logging.ERROR)
