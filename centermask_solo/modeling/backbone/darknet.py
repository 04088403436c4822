"""DarkNet-53, the backbone of YOLOv3, as YOLACT uses it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..layers import init_conv_xavier_
from .fpn import YOLACTFPN, build_yolact_fpn
from .norms import BN_FROM_6, norm_for_batch

__all__ = ["DarkNet", "DarkNetBlock", "build_darknet_backbone", "build_darknet_yolact_fpn_backbone"]

STEM_CHANNELS = 32
BLOCKS = (1, 2, 8, 8, 4)  # of stages 1 to 5; each stage halves the size and doubles the channels
NORMS = ("FrozenBN", "BN", "SyncBN")
NEGATIVE_SLOPE = 0.1


def _unit(in_channels: int, out_channels: int, kernel_size: int, *, norm: str, stride: int = 1) -> Conv2d:
    """Return a convolution without bias, normalization and leaky ReLU: keys ``weight`` and ``norm.*``."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        bias=False,
        norm=get_norm(norm, out_channels),
        activation=partial(F.leaky_relu, negative_slope=NEGATIVE_SLOPE),
    )
    init_conv_xavier_(conv)
    return conv


class DarkNetBlock(nn.Module):
    """1x1 to half the channels, 3x3 back to all, added to the input; no activation after the sum."""

    def __init__(self, channels: int, *, norm: str) -> None:
        """
        Args:
            channels: Number of input and output channels.
            norm: Name of a normalization in Detectron2's ``get_norm``.
        """
        super().__init__()
        self.conv1 = _unit(channels, channels // 2, 1, norm=norm)
        self.conv2 = _unit(channels // 2, channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the block, of the shape of ``x``."""
        return x + self.conv2(self.conv1(x))


def _stage(in_channels: int, num_blocks: int, *, norm: str) -> nn.Sequential:
    """Return a unit of stride 2, key ``downsample``, and blocks, keys ``0``, ``1``, ..."""
    channels = 2 * in_channels
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        downsample=_unit(in_channels, channels, 3, norm=norm, stride=2),
    )
    for i in range(num_blocks):
        layers[str(i)] = DarkNetBlock(channels, norm=norm)
    return nn.Sequential(layers)


class DarkNet(Backbone):
    """The convolutional part of DarkNet-53: features stage1..stage5 of stride 2..32 and 64..1024 channels.

    Source: Redmon and Farhadi, arXiv 1804.02767, table 1.
    """

    def __init__(
        self, *, in_channels: int = 3, out_features: Sequence[str], norm: str = "BN", freeze_at: int = 0
    ) -> None:
        """
        Args:
            in_channels: Number of channels of the image.
            out_features: Which of stage1..stage5 to return; nothing beyond the last of them is built.
            norm: "FrozenBN", "BN" or "SyncBN".
            freeze_at: Number of parts to freeze, of the stem and the five stages.

        Raises:
            ConfigError: An output or the norm is unknown, or there is no output.
        """
        super().__init__()
        known = [f"stage{i + 1}" for i in range(len(BLOCKS))]
        if norm not in NORMS:  # the builder resolves BNFrom6
            raise ConfigError(f"MODEL.DARKNET.NORM must be one of {', '.join((*NORMS, BN_FROM_6))}, not {norm!r}")
        if not out_features or not set(out_features) <= set(known):
            raise ConfigError(f"DarkNet gives {', '.join(known)}, not {', '.join(out_features) or 'none'}")
        self._out_features = [name for name in known if name in out_features]
        self._out_feature_channels: dict[str, int] = {}
        self._out_feature_strides: dict[str, int] = {}
        self.stem = nn.Sequential(OrderedDict(conv1=_unit(in_channels, STEM_CHANNELS, 3, norm=norm)))
        self.stages: list[str] = known[: known.index(self._out_features[-1]) + 1]
        channels, stride = STEM_CHANNELS, 1
        for name, num_blocks in zip(self.stages, BLOCKS, strict=False):
            self.add_module(name, _stage(channels, num_blocks, norm=norm))
            channels, stride = 2 * channels, 2 * stride
            self._out_feature_channels[name], self._out_feature_strides[name] = channels, stride
        for name in ["stem", *self.stages][: max(freeze_at, 0)]:
            part = self.get_submodule(name)
            part.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(part)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name, in order of stride, from images (N, in_channels, T_h, T_w)."""
        x = self.stem(x)
        outputs = {}
        for name in self.stages:
            x = self.get_submodule(name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_darknet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DarkNet:
    """Return DarkNet-53 with the outputs that ``MODEL.DARKNET.OUT_FEATURES`` names (stage1..stage5)."""
    return DarkNet(
        in_channels=input_shape.channels,
        out_features=cfg.MODEL.DARKNET.OUT_FEATURES,
        norm=norm_for_batch(cfg, cfg.MODEL.DARKNET.NORM),
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


@BACKBONE_REGISTRY.register()
def build_darknet_yolact_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLACTFPN:
    """Return the pyramid of YOLACT on DarkNet-53."""
    return build_yolact_fpn(cfg, build_darknet_backbone(cfg, input_shape))
