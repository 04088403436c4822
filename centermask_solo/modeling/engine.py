"""From a model to a fast model: fused norms, memory layout, precision, threads."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from torch import nn

from ..utils.errors import ConfigError
from ..utils.rules import check_count
from .channels_last import to_channels_last, to_contiguous, use_native_norms, use_onednn
from .cuda_graphs import check_replays, replay_networks
from .fusion import fuse_norms
from .quantization import QUANTIZED_CONVOLUTION, Range, quantize, read_ranges

logger = logging.getLogger(__name__)

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES = (*FLOATS, "int8")
PREPARED = "_is_prepared"  # attribute of models that are
Model = TypeVar("Model", bound=nn.Module)


def prepare(
    model: Model,
    *,
    dtype: str = "float32",
    fuse: bool = True,
    channels_last: bool = True,
    threads: int | None = None,
    ranges: Mapping[str, Range] | None = None,
    compile: bool = False,
    cuda_graphs: bool = False,
) -> Model:
    """Make a model fast for prediction, in place, and return it. It can no longer be trained or saved.

    What it predicts stays the same to rounding, except for what another ``dtype`` costs.

    Args:
        model: Any of this package's models or of Detectron2's, with its weights loaded.
        dtype: Precision of the networks: "float32", "bfloat16", "float16" (GPU only) or "int8" (CPU only, needs
            ``ranges``). Decoding, NMS, coordinates, masks and deformable convolutions stay in float32.
        fuse: Fold batch norms into the convolutions before them.
        channels_last: Store feature maps as (N, H, W, C), which is faster on CPUs, and on GPUs in half precision;
            otherwise as (N, C, H, W).
        threads: Number of CPU threads of this process; by default as it is.
        ranges: For "int8", the ranges of the feature maps: see :func:`~.quantization.calibrate`.
        compile: Compile the networks with ``torch.compile`` at the first call of each input size; takes minutes.
        cuda_graphs: Replay the networks as CUDA graphs: see :func:`~.cuda_graphs.replay_networks`.

    Raises:
        ConfigError: The model is prepared already, or is none with parameters; the precision is unknown, or impossible
            on the device of the model, or CUDA graphs are; or an argument has no use.
    """
    device = _device_of(model)
    check_dtype(dtype, device)
    if threads is not None:
        check_count(threads, "threads", "give 1 or more, or None to leave them as they are")
    if ranges is not None and dtype != "int8":
        raise ConfigError(f"ranges are for int8, not for {dtype}: leave them out, or set dtype to int8")
    if dtype == "int8" and not ranges:
        raise ConfigError(
            "int8 needs the ranges of the feature maps: name the file that centermask-solo calibrate wrote in "
            "TEST.INT8_RANGES"
        )
    if compile:
        _check_has_networks(model)
    if cuda_graphs:
        check_replays(model)
    if threads is not None:
        torch.set_num_threads(threads)
    setattr(model, PREPARED, True)
    model.eval()
    if fuse or dtype == "int8":
        fuse_norms(model)
    if channels_last:
        to_channels_last(model)
    else:
        to_contiguous(model)
    if dtype != "float32":
        use_native_norms(model)
    elif channels_last and device.type == "cpu":
        use_onednn(model)
    if ranges is not None:
        rest = torch.bfloat16 if cpu_has_bfloat16() else torch.float32  # of what does not gain from integers
        quantize(model, ranges)
        _run_networks_in(model, device.type, rest)
    elif dtype != "float32":
        _run_networks_in(model, device.type, FLOATS[dtype])
    if compile:
        model.predict = torch.compile(model.predict)  # type: ignore[assignment, arg-type]
    if cuda_graphs:
        replay_networks(model)
    return model


def _device_of(model: nn.Module) -> torch.device:
    """Return the device of a model.

    Raises:
        ConfigError: It is no model with parameters, or prepared already.
    """
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if parameter is None:
        raise ConfigError(f"this {type(model).__name__} has no parameters: prepare a model with its weights loaded")
    if hasattr(model, PREPARED):
        raise ConfigError("this model is prepared already: load it again to prepare it in another way")
    return parameter.device


def _check_has_networks(model: nn.Module) -> None:
    """Raise ConfigError unless the networks of ``model`` are one function, ``predict``."""
    if not hasattr(model, "predict"):
        raise ConfigError(
            f"the networks of a {type(model).__name__} cannot be compiled: set TEST.COMPILE False, or choose a model "
            "of this package"
        )


def prepare_as_configured(model: Model, cfg: CfgNode) -> Model:
    """Call :func:`prepare` with the options of ``cfg.TEST``, and ``cfg.MODEL.CHANNELS_LAST``.

    Raises:
        ConfigError: See :func:`prepare`, or the ranges of ``TEST.INT8_RANGES`` cannot be read.
    """
    is_int8 = cfg.TEST.DTYPE == "int8"
    ranges = read_ranges(cfg.TEST.INT8_RANGES) if is_int8 and cfg.TEST.INT8_RANGES else None
    return prepare(
        model,
        dtype=cfg.TEST.DTYPE,
        channels_last=cfg.MODEL.CHANNELS_LAST,
        ranges=ranges,
        compile=cfg.TEST.COMPILE,
        cuda_graphs=cfg.TEST.CUDA_GRAPHS,
    )


def check_dtype(dtype: str, device: torch.device) -> None:
    """Raise ConfigError unless networks can compute in ``dtype`` on ``device``; log a warning if that is slow."""
    if dtype not in DTYPES:
        raise ConfigError(f"the precision {dtype!r} is unknown: use {', '.join(DTYPES)}")
    if dtype == "int8" and device.type != "cpu":
        raise ConfigError("int8 needs a CPU: use float16 or bfloat16 on a GPU")
    if dtype == "int8" and not hasattr(torch.ops.onednn, QUANTIZED_CONVOLUTION):
        raise ConfigError("int8 needs oneDNN, which this PyTorch lacks: use bfloat16 or float32")
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

    They run in ``predict`` of the model and of its RoI heads; in a model without these, in ``forward``. Parts that say
    that they need it stay in float32.
    """

    def in_autocast(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with torch.autocast(device_type, dtype=dtype, enabled=dtype != torch.float32):
                return function(*args, **kwargs)

        return run

    for module in model.modules():
        if getattr(module, "needs_float32", False):
            module.forward = _in_float32(module.forward, device_type)
    parts: list[Any] = [part for part in (model, getattr(model, "roi_heads", None)) if hasattr(part, "predict")]
    for part in parts:
        part.predict = in_autocast(part.predict)
    if not parts:
        model.forward = in_autocast(model.forward)


def _in_float32(function: Callable[[Any], Any], device_type: str) -> Callable[[Any], Any]:
    """Return the function of a tensor that computes in float32 under autocast."""

    @functools.wraps(function)
    def run(x: Any) -> Any:
        with torch.autocast(device_type, enabled=False):
            return function(x.float())

    return run
