"""Convolutions that multiply 8-bit integers, for prediction on a CPU: calibration on images, then replacement."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.reading import read_text

SAMPLED = 100_000  # numbers of a feature map that its range is estimated from
OUTLIERS = 1e-4  # share of a map's numbers that may lie beyond its range, and are cut
LEVELS = 255  # steps of the input, an unsigned byte
WEIGHT_LEVELS = 127  # steps of the weights on each side of 0
FORMAT = "centermask_solo int8 ranges, version 2"  # of files
SAME_WEIGHTS = 1e-4  # relative difference of sums of weights that fusing norms on another machine explains
QUANTIZED_CONVOLUTION = "qconv2d_pointwise"  # of torch.ops.onednn, which not every build has
TINY = 1e-12  # least range, against division by 0
CACHED = 2**18  # numbers that are rounded at a time
MAX_CHANNELS_TO_BYTES = 1024  # of a 1 x 1 convolution's input; oneDNN takes 30 times as long for 2048
MIN_CHANNELS = 16  # of a convolution's input and output; narrower ones gain nothing


class Range(NamedTuple):
    """The numbers that a feature map of a convolution's input takes.

    Attributes:
        low: Smallest number, at most 0.
        high: Largest number, at least 0.
        weights: Sum of the absolute weights of the convolution, which tells others apart; None fits any.
    """

    low: float
    high: float
    weights: float | None = None


def quantizable(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions that gain from integers, by name: dense ones of parts that can do without float32."""
    exact = {id(x) for part in model.modules() if getattr(part, "needs_float32", False) for x in part.modules()}
    return {
        name: module
        for name, module in model.named_modules()
        if type(module) in (nn.Conv2d, Conv2d)
        and id(module) not in exact
        and module.groups == 1
        and min(module.in_channels, module.out_channels) >= MIN_CHANNELS
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    }


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[list[dict[str, Any]]]) -> dict[str, Range]:
    """Return the range of each quantizable convolution's input, by its name.

    A range spans what all images take, without the most extreme numbers of each (``OUTLIERS``).

    Args:
        model: Model in evaluation mode, with its norms fused.
        batches: Inputs of the model, for calls in turn.
    """
    ranges: dict[str, Range] = {}

    def observe(name: str, x: Tensor) -> None:
        if x.numel():
            found = _range_of(x)
            known = ranges.get(name, found)
            ranges[name] = Range(min(found.low, known.low), max(found.high, known.high))

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: observe(name, inputs[0]))
        for name, module in quantizable(model).items()
    ]
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    convs = quantizable(model)
    return {name: x._replace(weights=_sum_of_weights(convs[name])) for name, x in ranges.items()}


def _sum_of_weights(conv: nn.Conv2d) -> float:
    return float(conv.weight.detach().double().abs().sum())


def _range_of(x: Tensor) -> Range:
    """Return the range of a map without its outliers; it contains 0, which padding needs."""
    values = x.flatten()[:: max(x.numel() // SAMPLED, 1)].float()
    values = values[values.isfinite()]
    if not len(values):
        return Range(0.0, 0.0)
    k = max(int(len(values) * OUTLIERS), 1)
    low, high = values.topk(k, largest=False).values[-1], values.topk(k).values[-1]
    return Range(min(float(low), 0.0), max(float(high), 0.0))


def write_ranges(ranges: Mapping[str, Range], path: str) -> None:
    """Write the result of :func:`calibrate` as a json file."""
    with atomic_write(path) as file:
        json.dump({"format": FORMAT, "ranges": ranges}, file, indent=1)


def read_ranges(path: str) -> dict[str, Range]:
    """Return what :func:`write_ranges` wrote.

    Raises:
        ConfigError: There is no such file, it cannot be read, or it is another one.
    """
    try:
        text = read_text(path, ConfigError)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}: write it with centermask-solo calibrate") from error
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError
        ranges = {str(name): Range(*map(float, numbers)) for name, numbers in content["ranges"].items()}
        if not ranges or not all(
            -math.inf < x.low <= 0 <= x.high < math.inf and x.weights is not None for x in ranges.values()
        ):
            raise ValueError
        return ranges
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} holds no ranges: write it with centermask-solo calibrate") from error


def quantize(model: nn.Module, ranges: Mapping[str, Range]) -> int:
    """Make the convolutions that have a range an :class:`Int8Conv2d`, in place; return their number.

    Args:
        model: Model in evaluation mode on a CPU, with its norms fused.
        ranges: Result of :func:`calibrate` for a model of the same config and weights.

    Raises:
        ConfigError: The ranges are of a model with other convolutions or weights.
    """
    convs = quantizable(model)
    unknown = sorted(ranges.keys() - convs.keys())
    if unknown or not ranges:
        raise ConfigError(
            f"the ranges are of another model: it has no convolution {unknown[0]} to quantize"
            if unknown
            else "there are no ranges to quantize with: calibrate the model on some images first"
        )
    for name, found in ranges.items():
        if found.weights is not None and not math.isclose(
            found.weights, _sum_of_weights(convs[name]), rel_tol=SAME_WEIGHTS
        ):
            raise ConfigError(
                f"the ranges were calibrated for other weights, as those of {name} show: write them again with "
                "centermask-solo calibrate"
            )
    for name, found in ranges.items():
        _convert(convs[name], found)
    for block in model.modules():
        if isinstance(block, BottleneckBlock):  # whose convolutions follow each other with nothing but a ReLU between
            _chain(block.conv1, block.conv2)
            _chain(block.conv2, block.conv3)
    return len(ranges)


def _chain(conv: nn.Module, following: nn.Module) -> None:
    """Let a convolution return the integers that the one behind the ReLU takes, if both multiply integers.

    The smallest integer stands for 0, so that the rounding is a ReLU, too.
    """
    if not (isinstance(conv, Int8Conv2d) and isinstance(following, Int8Conv2d)):
        return
    is_slow = conv.kernel_size == (1, 1) and conv.in_channels > MAX_CHANNELS_TO_BYTES
    if following.zero_point == 0 and not is_slow:
        conv.output_scale = following.scale


def _convert(conv: nn.Conv2d, found: Range) -> None:
    """Make ``conv`` an :class:`Int8Conv2d` in place, as Detectron2's FPN has references to its convolutions."""
    weight = conv.weight.detach().float()
    scales = weight.abs().amax(dim=(1, 2, 3)).clamp(min=TINY) / WEIGHT_LEVELS
    conv.register_parameter("weight", None)
    conv.__class__ = Int8Conv2d
    assert isinstance(conv, Int8Conv2d)
    conv.scale = max(found.high - found.low, TINY) / LEVELS
    conv.zero_point = round(-found.low / conv.scale)
    conv.offset = torch.tensor(conv.zero_point + 0.5)  # conversion to bytes cuts the fraction
    conv.integers, conv.packed = (weight / scales[:, None, None, None]).round().to(torch.int8), None
    conv.weight_scales, conv.weight_zeros = scales, torch.zeros(len(scales), dtype=torch.int32)


class Int8Conv2d(nn.Conv2d):
    """A convolution whose inputs and weights are 8-bit integers, with one scale per output channel.

    Its sums are 32-bit integers, so that only the rounding of inputs and weights changes the result.
    """

    output_scale: float | None = None  # of the integers that it returns, which are not negative; None for floats
    scale: float  # of the input's integers
    zero_point: int  # integer of the input's 0
    offset: Tensor
    integers: Tensor | None  # weights, until they are packed
    packed: Tensor | None  # weights in an order of the first input's size
    weight_scales: Tensor
    weight_zeros: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of ``x`` (N, C, H, W), normalized and activated as the layer is."""
        if x.numel() == 0:
            return F.conv2d(
                x, x.new_zeros(self.out_channels, *x.shape[1:2], *self.kernel_size), None, self.stride, self.padding
            )
        if self.packed is None:
            self.packed, self.integers = self._pack(list(x.shape)), None
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        output = (1.0, 0, dtype) if self.output_scale is None else (self.output_scale, 0, torch.uint8)
        y = torch.ops.onednn.qconv2d_pointwise(
            *(self._round(x), self.scale, self.zero_point),
            *(self.packed, self.weight_scales, self.weight_zeros, self.bias),
            *(self.stride, self.padding, self.dilation, self.groups),
            *output,  # its scale, zero and type
            *("none", [], ""),  # no activation
        )
        for layer in (getattr(self, "norm", None), getattr(self, "activation", None)):  # of Detectron2's Conv2d
            y = y if layer is None else layer(y)
        return y

    def _round(self, x: Tensor) -> Tensor:
        """Return the integers of ``x``, uint8; a part at a time, so that the steps between are in the cache."""
        if x.dtype == torch.uint8:
            return x
        if not x.is_contiguous():
            x = x.contiguous(memory_format=torch.channels_last)
        integers = torch.empty_like(x, dtype=torch.uint8)
        for part, out in zip(_in_memory(x).split(CACHED), _in_memory(integers).split(CACHED), strict=True):
            numbers = torch.add(self.offset, part.float(), alpha=1 / self.scale).clamp_(0, LEVELS)
            out.copy_(numbers.short())  # PyTorch vectorizes both conversions, but not the one from floats to bytes
        return integers

    def _pack(self, shape: list[int]) -> Tensor:
        """Return the weights in the best order for inputs of ``shape``; without a shape some take 25 times as long."""
        return torch.ops.onednn.qconv_prepack(
            self.integers,
            *(self.weight_scales, self.scale, self.zero_point),
            *(self.stride, self.padding, self.dilation, self.groups),
            shape,
        )


def _in_memory(x: Tensor) -> Tensor:
    """Return the numbers of a dense map in the order of its memory, as a view."""
    return x.as_strided((x.numel(),), (1,))
