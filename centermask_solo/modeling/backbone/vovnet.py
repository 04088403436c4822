"""VoVNetV2: one-shot aggregation with effective squeeze-excitation; plain, slim, depthwise and deformable bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ..layers import ConvNormSequential, deform_conv_from_logits, offset_channels
from .fpn import build_fcos_fpn, build_fpn

__all__ = [
    "BODIES",
    "ESE",
    "DeformOptions",
    "OSABlock",
    "VoVNet",
    "VoVNetBody",
    "build_fcos_vovnet_fpn_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]


class VoVNetBody(NamedTuple):
    """The numbers of a body; four numbers are those of stages 2, 3, 4, 5."""

    stem_channels: tuple[int, int, int]
    conv_channels: tuple[int, int, int, int]  # of the 3x3 layers
    out_channels: tuple[int, int, int, int]
    num_layers: int  # 3x3 layers of a block
    num_blocks: tuple[int, int, int, int]
    depthwise: bool = False


_STEM, _DEPTHWISE_STEM = (64, 64, 128), (64, 64, 64)
_CONV, _OUT = (128, 160, 192, 224), (256, 512, 768, 1024)
_SLIM_CONV, _SLIM_OUT = (64, 80, 96, 112), (112, 256, 384, 512)

BODIES = {
    "V-19-slim-dw-eSE": VoVNetBody(_DEPTHWISE_STEM, _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-dw-eSE": VoVNetBody(_DEPTHWISE_STEM, _CONV, _OUT, 3, (1, 1, 1, 1), depthwise=True),
    "V-19-slim-eSE": VoVNetBody(_STEM, _SLIM_CONV, _SLIM_OUT, 3, (1, 1, 1, 1)),
    "V-19-eSE": VoVNetBody(_STEM, _CONV, _OUT, 3, (1, 1, 1, 1)),
    "V-39-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 1, 2, 2)),
    "V-57-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 1, 4, 3)),
    "V-99-eSE": VoVNetBody(_STEM, _CONV, _OUT, 5, (1, 3, 9, 3)),
}
STAGES = ("stage2", "stage3", "stage4", "stage5")
STRIDES = {"stem": 4, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
NORMS = ("FrozenBN", "BN", "SyncBN", "GN")


class DeformOptions(NamedTuple):
    """How the deformable layers of a stage are."""

    modulated: bool
    groups: int


def _conv_unit(
    name: str, in_channels: int, out_channels: int, kernel_size: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    """Convolution, normalization, ReLU under the names of the published checkpoints."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return [
        (f"{name}/conv", conv),
        (f"{name}/norm", get_norm(norm, out_channels)),
        (f"{name}/relu", nn.ReLU(inplace=True)),
    ]


def _depthwise_unit(
    name: str, in_channels: int, out_channels: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    """Depthwise 3x3, pointwise 1x1 (nothing between them), normalization, ReLU."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
    return [
        (f"{name}/dw_conv3x3", depthwise),
        (f"{name}/pw_conv1x1", nn.Conv2d(in_channels, out_channels, 1, bias=False)),
        (f"{name}/pw_norm", get_norm(norm, out_channels)),
        (f"{name}/pw_relu", nn.ReLU(inplace=True)),
    ]


def _sequential(layers: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = ConvNormSequential()
    for name, layer in layers:
        sequence.add_module(name, layer)
    return sequence


class DeformUnit(nn.Module):
    """A deformable 3x3 convolution, normalization, ReLU; the convolution's key is that of an ordinary unit."""

    def __init__(self, name: str, in_channels: int, out_channels: int, *, norm: str, deform: DeformOptions) -> None:
        """
        Args:
            name: what the keys begin with.
            in_channels: C of the input.
            out_channels: C of the output.
            norm: name of a normalization in Detectron2's ``get_norm``.
            deform: kind and groups of the deformable convolution.
        """
        super().__init__()
        self.name, self.modulated = name, deform.modulated
        offset = nn.Conv2d(in_channels, offset_channels(3, deform.groups, deform.modulated), 3, padding=1)
        nn.init.zeros_(offset.weight)
        nn.init.zeros_(offset.bias)  # type: ignore[arg-type]
        self.add_module(f"{name}/conv_offset", offset)
        for part, module in _conv_unit(name, in_channels, out_channels, 3, norm=norm):
            self.add_module(part, module)
        nn.init.kaiming_uniform_(self._part("conv").weight, nonlinearity="relu")

    def _part(self, kind: str) -> Any:  # a name with a slash cannot be written as an attribute
        return self.get_submodule(f"{self.name}/{kind}")

    def forward(self, x: Tensor) -> Tensor:
        """The unit's features, (N, out_channels, Hi, Wi)."""
        offset_logits = self._part("conv_offset")(x)
        x = deform_conv_from_logits(x, offset_logits, self._part("conv").weight, padding=1, modulated=self.modulated)
        return self._part("relu")(self._part("norm")(x))


class ESE(nn.Module):
    """Effective squeeze-excitation: each channel times a gate that all channels' means decide."""

    def __init__(self, channels: int) -> None:
        """
        Args:
            channels: of the input and the output.
        """
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, Hi, Wi) times its gates in 0..1."""
        return x * F.hardsigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class OSABlock(nn.Module):
    """One-shot aggregation: a chain of 3x3 layers, all outputs of which are concatenated once and reduced by a 1x1.

    Source: Lee and Park, arXiv 1911.06667, section 3.3; Lee et al., arXiv 1904.09730.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        conv_channels: int,
        out_channels: int,
        *,
        num_layers: int,
        norm: str,
        identity: bool,
        depthwise: bool = False,
        deform: DeformOptions | None = None,
    ) -> None:
        """
        Args:
            name: what the keys of its parts begin with.
            in_channels: C of the input.
            conv_channels: C of the 3x3 layers.
            out_channels: C of the output.
            num_layers: 3x3 layers.
            norm: name of a normalization in Detectron2's ``get_norm``.
            identity: whether the input is added to the output; needs ``in_channels`` = ``out_channels``.
            depthwise: depthwise separable layers.
            deform: deformable layers of this kind; None for ordinary ones.
        """
        super().__init__()
        self.identity = identity
        self.conv_reduction: nn.Sequential | None = None
        channels = in_channels
        if depthwise and channels != conv_channels:
            self.conv_reduction = _sequential(_conv_unit(f"{name}_reduction_0", channels, conv_channels, 1, norm=norm))
            channels = conv_channels
        self.layers = nn.ModuleList()
        for i in range(num_layers):
            layer = f"{name}_{i}"
            if depthwise:
                self.layers.append(_sequential(_depthwise_unit(layer, channels, conv_channels, norm=norm)))
            elif deform is not None:
                self.layers.append(DeformUnit(layer, channels, conv_channels, norm=norm, deform=deform))
            else:
                self.layers.append(_sequential(_conv_unit(layer, channels, conv_channels, 3, norm=norm)))
            channels = conv_channels
        aggregated = in_channels + num_layers * conv_channels
        self.concat = _sequential(_conv_unit(f"{name}_concat", aggregated, out_channels, 1, norm=norm))
        self.ese = ESE(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """The block's features, (N, out_channels, Hi, Wi)."""
        outputs = [x]
        y = x if self.conv_reduction is None else self.conv_reduction(x)
        for layer in self.layers:
            y = layer(y)
            outputs.append(y)
        out = self.ese(self.concat(torch.cat(outputs, dim=1)))
        return out + x if self.identity else out


def _build_stage(
    body: VoVNetBody, index: int, in_channels: int, *, norm: str, deform: DeformOptions | None
) -> nn.Sequential:
    number, conv_channels, out_channels = index + 2, body.conv_channels[index], body.out_channels[index]
    stage: list[tuple[str, nn.Module]] = []
    if index > 0:
        stage.append(("Pooling", nn.MaxPool2d(3, stride=2, ceil_mode=True)))
    for i in range(body.num_blocks[index]):
        name = f"OSA{number}_{i + 1}"
        block = OSABlock(
            name,
            in_channels if i == 0 else out_channels,
            conv_channels,
            out_channels,
            num_layers=body.num_layers,
            norm=norm,
            identity=i > 0,
            depthwise=body.depthwise,
            deform=deform,
        )
        stage.append((name, block))
    return _sequential(stage)


class VoVNet(Backbone):
    """VoVNetV2: features "stem" (stride 4), "stage2" (4), "stage3" (8), "stage4" (16), "stage5" (32).

    Differs from the published code: ``freeze_at`` turns batch norms into frozen ones in the frozen stages alone.
    """

    def __init__(
        self,
        body: VoVNetBody,
        *,
        in_channels: int = 3,
        out_features: Sequence[str],
        norm: str = "FrozenBN",
        freeze_at: int = 0,
        deformable: Sequence[bool] = (False, False, False, False),
        deform: DeformOptions = DeformOptions(modulated=True, groups=1),  # noqa: B008  (it is immutable)
    ) -> None:
        """
        Args:
            body: the numbers, of :data:`BODIES` or others.
            in_channels: of the image.
            out_features: which features to give; nothing beyond the last of them is built.
            norm: "FrozenBN", "BN", "SyncBN" or "GN".
            freeze_at: how many of stem, stage2, stage3, stage4, stage5 to freeze.
            deformable: whether all 3x3 layers of stages 2, 3, 4, 5 are deformable.
            deform: how they are.
        """
        super().__init__()
        self._out_features = [name for name in STRIDES if name in out_features]
        self._out_feature_strides = STRIDES
        channels = body.stem_channels
        unit = _depthwise_unit if body.depthwise else _conv3x3_unit
        self.stem = _sequential(
            [
                *_conv_unit("stem_1", in_channels, channels[0], 3, norm=norm, stride=2),
                *unit("stem_2", channels[0], channels[1], norm=norm),
                *unit("stem_3", channels[1], channels[2], norm=norm, stride=2),
            ]
        )
        self._out_feature_channels = {"stem": channels[2], **dict(zip(STAGES, body.out_channels, strict=True))}
        current, self.stage_names = channels[2], STAGES[: list(STRIDES).index(self._out_features[-1])]
        for index, name in enumerate(self.stage_names):
            options = deform if deformable[index] else None
            self.add_module(name, _build_stage(body, index, current, norm=norm, deform=options))
            current = body.out_channels[index]
        for name in ("stem", *self.stage_names)[: max(freeze_at, 0)]:
            module = self.get_submodule(name).requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(module)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The features by name, in order of stride, from images (N, in_channels, T_h, T_w)."""
        x = self.stem(x)
        outputs = {"stem": x} if "stem" in self._out_features else {}
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs


def _conv3x3_unit(
    name: str, in_channels: int, out_channels: int, *, norm: str, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    return _conv_unit(name, in_channels, out_channels, 3, norm=norm, stride=stride)


@BACKBONE_REGISTRY.register()
def build_vovnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VoVNet:
    """The VoVNetV2 of ``MODEL.VOVNET``.

    Raises:
        ValueError: an unknown body, output or norm; deformable stages in a depthwise body.
    """
    options = cfg.MODEL.VOVNET
    if options.CONV_BODY not in BODIES:
        raise ValueError(f"MODEL.VOVNET.CONV_BODY must be one of {', '.join(BODIES)}, not {options.CONV_BODY!r}")
    unknown = [name for name in options.OUT_FEATURES if name not in STRIDES]
    if unknown or not options.OUT_FEATURES:
        raise ValueError(
            f"MODEL.VOVNET.OUT_FEATURES may name {', '.join(STRIDES)}, not {', '.join(unknown) or 'nothing'}"
        )
    if options.NORM not in NORMS:
        raise ValueError(f"MODEL.VOVNET.NORM must be one of {', '.join(NORMS)}, not {options.NORM!r}")
    if len(options.DEFORM_ON_PER_STAGE) != len(STAGES):
        raise ValueError(
            "MODEL.VOVNET.DEFORM_ON_PER_STAGE must have 4 entries, for stages 2 to 5, "
            f"but has {len(options.DEFORM_ON_PER_STAGE)}"
        )
    body = BODIES[options.CONV_BODY]
    if body.depthwise and any(options.DEFORM_ON_PER_STAGE):
        raise ValueError(
            f"MODEL.VOVNET.DEFORM_ON_PER_STAGE: the layers of {options.CONV_BODY} are depthwise and cannot be "
            "deformable; set it to four times False, or choose another MODEL.VOVNET.CONV_BODY"
        )
    return VoVNet(
        body,
        in_channels=input_shape.channels,
        out_features=options.OUT_FEATURES,
        norm=options.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        deformable=options.DEFORM_ON_PER_STAGE,
        deform=DeformOptions(modulated=options.DEFORM_MODULATED, groups=options.DEFORM_NUM_GROUPS),
    )


@BACKBONE_REGISTRY.register()
def build_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's FPN, with a P6 that is P5 subsampled, on the VoVNetV2 of ``MODEL.VOVNET``."""
    return build_fpn(cfg, build_vovnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The FPN of FCOS (``MODEL.FCOS.TOP_LEVELS`` levels on top) on the VoVNetV2 of ``MODEL.VOVNET``."""
    return build_fcos_fpn(cfg, build_vovnet_backbone(cfg, input_shape))
