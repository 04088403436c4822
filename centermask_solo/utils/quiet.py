"""Warnings of other packages that users can do nothing about."""

from __future__ import annotations

import logging
import os
import warnings

# How the warnings begin about what PyTorch has deprecated and others still call: fvcore on import, and Detectron2 in
# training with several processes and for anchors.
DEPRECATED = ("`torch.jit.script` is deprecated", "`broadcast_buffers` is deprecated", "torch.meshgrid")


def hide_foreign_warnings() -> None:
    """Hide warnings about deprecated parts of PyTorch, in child processes too, and about a CUDA without GPUs.

    Only programs call this; importing the package leaves the filters of an application alone.
    """
    rules = list(filter(None, os.environ.get("PYTHONWARNINGS", "").split(",")))
    for text in DEPRECATED:
        for kind in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=text, category=kind)
            rules.append(f"ignore:{text}:{kind.__name__}")
    os.environ["PYTHONWARNINGS"] = ",".join(dict.fromkeys(rules))  # each once
    logging.raiseExceptions = False  # of a log that cannot be written, as on a full disk, whose error is reported once
    for name in ("torch.utils.cpp_extension", "torch.fx._symbolic_trace"):  # the latter for Detectron2's R-CNNs
        logging.getLogger(name).setLevel(logging.ERROR)
