"""MobileNetV2 of width 1.0, with the parameter names of the widely used ImageNet weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..option_checks import check_choice
from .fpn import YOLACTFPN, build_fcos_fpn, build_fpn, build_yolact_fpn

__all__ = [
    "InvertedResidual",
    "MobileNetV2",
    "build_fcos_mobilenetv2_fpn_backbone",
    "build_mobilenetv2_backbone",
    "build_mobilenetv2_fpn_backbone",
    "build_mobilenetv2_yolact_fpn_backbone",
]

# (expansion, channels, repeats, stride of the first); arXiv 1801.04381, table 2, without its last convolution
INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
NORMS = ("FrozenBN", "BN", "SyncBN")  # others do not divide 16 or 24 channels, or do not fit the weights
OUTPUTS = {3: "res2", 6: "res3", 13: "res4", 17: "res5"}  # index in ``features``: the last one of its stride


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, *, norm: str, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias and its normalization."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
    )
    nn.init.normal_(conv.weight, std=math.sqrt(2.0 / (kernel_size * kernel_size * out_channels)))
    return [conv, get_norm(norm, out_channels)]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3, linear 1x1 projection; added to its input if both have the same shape."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int, norm: str) -> None:
        """
        Args:
            in_channels: Number of input channels.
            out_channels: Number of output channels.
            stride: Stride of the depthwise convolution.
            expansion: Inner width relative to ``in_channels``; 1 omits the first convolution.
            norm: Name of a normalization in Detectron2's ``get_norm``.
        """
        super().__init__()
        width = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv_norm(in_channels, width, 1, norm=norm), nn.ReLU6(inplace=True)]
        layers += [*_conv_norm(width, width, 3, norm=norm, stride=stride, groups=width), nn.ReLU6(inplace=True)]
        layers += _conv_norm(width, out_channels, 1, norm=norm)
        self.conv = nn.Sequential(*layers)
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the block, (N, out_channels, ceil(Hi / stride), ceil(Wi / stride))."""
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileNetV2(Backbone):
    """The convolutional part of MobileNetV2, up to its 320 channels: features res2..res5 of stride 4..32.

    Source: Sandler et al., arXiv 1801.04381. The outputs are the linear ones, before the next block's expansion.
    """

    # The sums of its residual blocks pass no activation: rounded to bfloat16, they cost 4 points of box AP and 2 of
    # mask AP on overfitted photographs, where the rest of the networks costs nothing.
    needs_float32 = True

    def __init__(
        self, *, in_channels: int = 3, out_features: Sequence[str], norm: str = "FrozenBN", freeze_at: int = 0
    ) -> None:
        """
        Args:
            in_channels: Number of channels of the image.
            out_features: Which of res2, res3, res4, res5 to return; nothing beyond the last of them is built.
            norm: "FrozenBN", "BN" or "SyncBN".
            freeze_at: Number of the 18 entries of ``features`` to freeze.

        Raises:
            ConfigError: An output or the norm is unknown, or there is no output.
        """
        super().__init__()
        check_choice("MODEL.MOBILENETV2.NORM", norm, NORMS)
        if not out_features or not set(out_features) <= set(OUTPUTS.values()):
            raise ConfigError(
                f"MobileNetV2 gives {', '.join(OUTPUTS.values())}, not {', '.join(out_features) or 'none'}"
            )
        self._out_feature_channels: dict[str, int] = {}
        self._out_feature_strides: dict[str, int] = {}
        self._out_features = [name for name in OUTPUTS.values() if name in out_features]
        last = max(index for index, name in OUTPUTS.items() if name in out_features)
        stem = nn.Sequential(*_conv_norm(in_channels, STEM_CHANNELS, 3, norm=norm, stride=2), nn.ReLU6(inplace=True))
        features: list[nn.Module] = [stem]
        channels, total_stride = STEM_CHANNELS, 2
        for expansion, out_channels, repeats, first_stride in INVERTED_RESIDUALS:
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                block = InvertedResidual(channels, out_channels, stride=stride, expansion=expansion, norm=norm)
                channels, total_stride = out_channels, total_stride * stride
                if len(features) in OUTPUTS:
                    name = OUTPUTS[len(features)]
                    self._out_feature_channels[name] = channels
                    self._out_feature_strides[name] = total_stride
                features.append(block)
        self.features = nn.Sequential(*features[: last + 1])
        for module in self.features[: max(freeze_at, 0)]:
            module.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(module)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name, in order of stride, from images (N, in_channels, T_h, T_w)."""
        outputs = {}
        for index, module in enumerate(self.features):
            x = module(x)
            name = OUTPUTS.get(index)
            if name in self._out_features:
                outputs[name] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_mobilenetv2_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> MobileNetV2:
    """Return MobileNetV2 with the outputs that ``MODEL.RESNETS.OUT_FEATURES`` names (res2..res5)."""
    return MobileNetV2(
        in_channels=input_shape.channels,
        out_features=cfg.MODEL.RESNETS.OUT_FEATURES,
        norm=cfg.MODEL.MOBILENETV2.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


@BACKBONE_REGISTRY.register()
def build_mobilenetv2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return Detectron2's FPN, whose P6 is a subsampled P5, on MobileNetV2."""
    return build_fpn(cfg, build_mobilenetv2_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_mobilenetv2_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return the FPN of FCOS (``MODEL.FCOS.TOP_LEVELS`` additional levels) on MobileNetV2."""
    return build_fcos_fpn(cfg, build_mobilenetv2_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_mobilenetv2_yolact_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLACTFPN:
    """Return the pyramid of YOLACT on MobileNetV2."""
    return build_yolact_fpn(cfg, build_mobilenetv2_backbone(cfg, input_shape))
