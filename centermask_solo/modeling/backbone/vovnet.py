"""VoVNetV2: one-shot aggregation with effective squeeze-excitation; plain, slim, depthwise and deformable bodies."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..option_checks import check_choice
from .fpn import build_fcos_fpn, build_fpn
from .vovnet_blocks import DeformOptions, OSABlock, conv3x3_unit, conv_unit, depthwise_unit, named_sequential
from .vovnet_bodies import BODIES, VoVNetBody

__all__ = [
    "BODIES",
    "VoVNet",
    "VoVNetBody",
    "build_fcos_vovnet_fpn_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]


STAGES = ("stage2", "stage3", "stage4", "stage5")
STRIDES = {"stem": 4, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32}
NORMS = ("FrozenBN", "BN", "SyncBN", "GN")


def _build_stage(
    body: VoVNetBody, index: int, in_channels: int, *, norm: str, deform: DeformOptions | None
) -> nn.Sequential:
    """Return stage ``index`` + 2: blocks, after a pooling layer in all but the first stage."""
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
    return named_sequential(stage)


class VoVNet(Backbone):
    """VoVNetV2: features "stem" (stride 4), "stage2" (4), "stage3" (8), "stage4" (16), "stage5" (32).

    Differs: ``freeze_at`` only turns the batch norms of the frozen stages into frozen ones, unlike the published code.
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
        deform: DeformOptions = DeformOptions(modulated=True, groups=1),  # noqa: B008  (immutable)
    ) -> None:
        """
        Args:
            body: Numbers of the body, of :data:`BODIES` or others.
            in_channels: Number of channels of the image.
            out_features: Features to return; nothing beyond the last of them is built.
            norm: "FrozenBN", "BN", "SyncBN" or "GN".
            freeze_at: Number of parts to freeze, of stem, stage2, stage3, stage4, stage5.
            deformable: Whether all 3x3 layers of stages 2, 3, 4, 5 are deformable.
            deform: Kind of the deformable layers.
        """
        super().__init__()
        self._out_features = [name for name in STRIDES if name in out_features]
        self._out_feature_strides = STRIDES
        channels = body.stem_channels
        unit = depthwise_unit if body.depthwise else conv3x3_unit
        self.stem = named_sequential(
            [
                *conv_unit("stem_1", in_channels, channels[0], 3, norm=norm, stride=2),
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
        """Return the features by name, in order of stride, from images (N, in_channels, T_h, T_w)."""
        x = self.stem(x)
        outputs = {"stem": x} if "stem" in self._out_features else {}
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            if name in self._out_features:
                outputs[name] = x
        return outputs


@BACKBONE_REGISTRY.register()
def build_vovnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VoVNet:
    """Return the VoVNetV2 of ``MODEL.VOVNET``.

    Raises:
        ConfigError: The body, an output or the norm is unknown, or a depthwise body has deformable stages.
    """
    options = cfg.MODEL.VOVNET
    check_choice("MODEL.VOVNET.CONV_BODY", options.CONV_BODY, list(BODIES))
    unknown = [name for name in options.OUT_FEATURES if name not in STRIDES]
    if unknown or not options.OUT_FEATURES:
        raise ConfigError(
            f"MODEL.VOVNET.OUT_FEATURES may name {', '.join(STRIDES)}, not {', '.join(unknown) or 'nothing'}"
        )
    check_choice("MODEL.VOVNET.NORM", options.NORM, NORMS)
    if len(options.DEFORM_ON_PER_STAGE) != len(STAGES):
        raise ConfigError(
            "MODEL.VOVNET.DEFORM_ON_PER_STAGE must have 4 entries, for stages 2 to 5, but has "
            f"{len(options.DEFORM_ON_PER_STAGE)}"
        )
    body = BODIES[options.CONV_BODY]
    if body.depthwise and any(options.DEFORM_ON_PER_STAGE):
        raise ConfigError(
            f"MODEL.VOVNET.DEFORM_ON_PER_STAGE: the layers of {options.CONV_BODY} are depthwise and cannot be "
            "deformable; set all four to False, or choose another MODEL.VOVNET.CONV_BODY"
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
    """Return Detectron2's FPN, whose P6 is a subsampled P5, on the VoVNetV2 of ``MODEL.VOVNET``."""
    return build_fpn(cfg, build_vovnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return the FPN of FCOS (``MODEL.FCOS.TOP_LEVELS`` additional levels) on the VoVNetV2 of ``MODEL.VOVNET``."""
    return build_fcos_fpn(cfg, build_vovnet_backbone(cfg, input_shape))
