"""From a model to a fast model: fused norms, memory layout, precision, threads."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ..utils.errors import ConfigError
from .channels_last import to_channels_last
from .fusion import fuse_norms

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Model = TypeVar("Model", bound=nn.Module)


def prepare(
    model: Model,
    *,
    dtype: str = "float32",
    fuse: bool = True,
    channels_last: bool = True,
    threads: int | None = None,
) -> Model:
    """Make a model fast for prediction, in place, and return it. It can no longer be trained or saved.

    Without any of these the model predicts the same, slower: to rounding for all but ``dtype``.

    Args:
        model: Any of this package's models or of Detectron2's, with its weights loaded.
        dtype: Precision of the networks: "float32", "bfloat16" or "float16" (GPU only). Decoding, NMS, coordinates,
            masks and deformable convolutions stay in float32.
        fuse: Fold batch norms into the convolutions before them.
        channels_last: Store feature maps as (N, H, W, C), which is faster on CPUs, and on GPUs in half precision.
        threads: Number of CPU threads of this process; by default as it is.

    Raises:
        ConfigError: The precision is unknown, or impossible on the device of the model.
    """
    device = next(model.parameters()).device
    check_dtype(dtype, device)
    if threads is not None:
        torch.set_num_threads(threads)
    model.eval()
    if fuse:
        fuse_norms(model)
    if channels_last:
        to_channels_last(model)
    if dtype != "float32":
        _run_networks_in(model, device.type, DTYPES[dtype])
    return model


def check_device(name: str) -> None:
    """Raise ConfigError unless ``name``, the value of ``MODEL.DEVICE``, is a device that PyTorch can use here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"MODEL.DEVICE '{name}' is not a device of PyTorch: give 'cuda' or 'cpu'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"MODEL.DEVICE is '{name}', but no GPU is usable: leave it out, or give 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"MODEL.DEVICE is '{name}', but the last GPU is 'cuda:{torch.cuda.device_count() - 1}'")


def check_dtype(dtype: str, device: torch.device) -> None:
    """Raise ConfigError unless networks can compute in ``dtype`` on ``device``; log a warning if that is slow."""
    if dtype not in DTYPES:
        raise ConfigError(f"the precision {dtype!r} is unknown: use {', '.join(DTYPES)}")
    if dtype == "float16" and device.type == "cpu":
        raise ConfigError("float16 needs a GPU: use bfloat16 on a CPU")
    if dtype == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16():
        logger.warning("this CPU has no instructions for bfloat16: float32 is faster")


def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers natively, as far as PyTorch can tell."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)) is not None)


def _run_networks_in(model: nn.Module, device_type: str, dtype: torch.dtype) -> None:
    """Make the networks of ``model`` compute in ``dtype``, in place.

    They run in ``predict`` of the model and of its RoI heads; in a model without these, in ``forward``.
    """

    def in_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(device_type, dtype=dtype):
                return function(*args, **kwargs)

        return run

    parts: list[Any] = [part for part in (model, getattr(model, "roi_heads", None)) if hasattr(part, "predict")]
    for part in parts:
        part.predict = in_autocast(part.predict)
    if not parts:
        model.forward = in_autocast(model.forward)
