"""Detectron2's ResNet with deformable stages that need no compiled extension and run on a CPU, too."""

from __future__ import annotations

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, BottleneckBlock, ResNet, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..layers import Deformable, deform_conv_from_logits, offset_channels
from ..option_checks import check_choice
from .fpn import YOLACTFPN, build_fcos_fpn, build_fpn, build_yolact_fpn
from .norms import norm_for_batch
from .resnet_d import DeepStem, pool_shortcuts

__all__ = [
    "DeformBottleneckBlock",
    "FixedStatsBatchNorm2d",
    "build_deform_resnet_backbone",
    "build_deform_resnet_fpn_backbone",
    "build_fcos_resnet_fpn_backbone",
    "build_resnet_yolact_fpn_backbone",
]

FIXED_STATS_BN = "FixedStatsBN"
STEM_TYPES = ("basic", "deep")


class DeformBottleneckBlock(CNNBlockBase, Deformable):
    """A bottleneck block whose 3x3 convolution is deformable, built from an ordinary block.

    Parameters have the names of Detectron2's block of this name: those of the ordinary block, so that its weights load,
    and ``conv2_offset.{weight,bias}``, which start at 0.
    """

    def __init__(self, block: BottleneckBlock, *, modulated: bool, deform_groups: int = 1) -> None:
        """
        Args:
            block: Block whose convolutions to use.
            modulated: Whether it is DCNv2 (offsets and masks) instead of DCN v1.
            deform_groups: Number of channel groups with their own offsets.
        """
        super().__init__(block.in_channels, block.out_channels, block.stride)
        self.modulated = modulated
        self.shortcut, self.conv1, self.conv2, self.conv3 = block.shortcut, block.conv1, block.conv2, block.conv3
        self.conv2_offset = nn.Conv2d(
            self.conv2.in_channels,
            offset_channels(self.conv2.kernel_size[0], deform_groups, modulated),
            self.conv2.kernel_size,
            stride=self.conv2.stride,
            padding=self.conv2.padding,
            dilation=self.conv2.dilation,
        )
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of the block, (N, out_channels, Hi / stride, Wi / stride), from (N, C, Hi, Wi)."""
        out = F.relu_(self.conv1(x))
        out = deform_conv_from_logits(
            out,
            self.conv2_offset(out),
            self.conv2.weight,
            self.conv2.bias,
            stride=self.conv2.stride[0],
            padding=self.conv2.padding[0],
            dilation=self.conv2.dilation[0],
            modulated=self.modulated,
        )
        if self.conv2.norm is not None:
            out = self.conv2.norm(out)
        out = self.conv3(F.relu_(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class FixedStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that uses its running statistics in training too, with a trained scale and shift.

    As in the original training of SOLO; ``FrozenBN`` does not train the scale and the shift.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> FixedStatsBatchNorm2d:
        """Return the same normalization with fixed statistics; it shares parameters and buffers with ``norm``."""
        fixed = cls(norm.num_features, eps=norm.eps)
        fixed.weight, fixed.bias = norm.weight, norm.bias
        fixed.running_mean, fixed.running_var = norm.running_mean, norm.running_var
        fixed.num_batches_tracked = None  # nothing to count
        return fixed.train(norm.training)

    def train(self, mode: bool = True) -> FixedStatsBatchNorm2d:
        """Return this module; it never leaves evaluation mode."""
        super().train(False)
        return self


def fix_batch_norm_statistics(module: nn.Module) -> None:
    """Turn every batch norm below ``module`` into a :class:`FixedStatsBatchNorm2d`, in place.

    The state dict then has the entries of a model with ``FrozenBN``, also in frozen stages.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FixedStatsBatchNorm2d.of(child))
        elif isinstance(child, FrozenBatchNorm2d):
            child.num_batches_tracked = None
        else:
            fix_batch_norm_statistics(child)


@BACKBONE_REGISTRY.register()
def build_deform_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Return Detectron2's ResNet, deformable in the stages of ``MODEL.RESNETS.DEFORM_ON_PER_STAGE`` (res2..res5).

    In these stages every ``MODEL.RESNETS.DEFORM_INTERVAL``-th block is deformable, starting with the first.
    ``MODEL.RESNETS.NORM`` may also be "FixedStatsBN" (:class:`FixedStatsBatchNorm2d`) or "BNFrom6"
    (:func:`norm_for_batch`); stages that ``MODEL.BACKBONE.FREEZE_AT`` freezes are frozen entirely.
    ``MODEL.RESNETS.STEM_TYPE`` and ``MODEL.RESNETS.POOL_SHORTCUTS`` make it a ResNet-D.

    Raises:
        ConfigError: A ResNet without bottleneck blocks has deformable stages, there is not one entry per stage, the
            interval is below 1, or the stem is unknown.
    """
    options = cfg.MODEL.RESNETS
    check_choice("MODEL.RESNETS.STEM_TYPE", options.STEM_TYPE, STEM_TYPES)
    deformable = options.DEFORM_ON_PER_STAGE
    if options.DEFORM_INTERVAL < 1:
        raise ConfigError(
            f"MODEL.RESNETS.DEFORM_INTERVAL must be 1 (every block) or more, not {options.DEFORM_INTERVAL}; "
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE turns deformable blocks off"
        )
    if len(deformable) != 4:
        raise ConfigError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE must have 4 entries, for res2..res5, but has {len(deformable)}"
        )
    if any(deformable) and options.DEPTH in (18, 34):
        raise ConfigError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE: only bottleneck blocks can be deformable, and ResNet-{options.DEPTH} "
            "has none; set all four to False, or MODEL.RESNETS.DEPTH to 50 or more"
        )
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False] * 4  # Detectron2's need its compiled extension
    plain.MODEL.RESNETS.NORM = "BN" if options.NORM == FIXED_STATS_BN else norm_for_batch(cfg, options.NORM)
    resnet = build_resnet_backbone(plain, input_shape)
    if options.STEM_TYPE == "deep":
        resnet.stem = DeepStem(input_shape.channels, options.STEM_OUT_CHANNELS, plain.MODEL.RESNETS.NORM)
    if options.POOL_SHORTCUTS:
        pool_shortcuts(resnet.stages)
    for stage, deform in zip(resnet.stages, deformable, strict=False):  # stages without outputs are not built
        if deform:
            for i in range(0, len(stage), options.DEFORM_INTERVAL):
                stage[i] = DeformBottleneckBlock(
                    stage[i], modulated=options.DEFORM_MODULATED, deform_groups=options.DEFORM_NUM_GROUPS
                )
    resnet.freeze(cfg.MODEL.BACKBONE.FREEZE_AT)  # includes the offset convolutions
    if options.NORM == FIXED_STATS_BN:
        fix_batch_norm_statistics(resnet)
    return resnet


@BACKBONE_REGISTRY.register()
def build_deform_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return Detectron2's FPN, whose P6 is a subsampled P5, on :func:`build_deform_resnet_backbone`."""
    return build_fpn(cfg, build_deform_resnet_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return the FPN of FCOS (``MODEL.FCOS.TOP_LEVELS`` additional levels) on :func:`build_deform_resnet_backbone`."""
    return build_fcos_fpn(cfg, build_deform_resnet_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_resnet_yolact_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLACTFPN:
    """Return the pyramid of YOLACT on :func:`build_deform_resnet_backbone`."""
    return build_yolact_fpn(cfg, build_deform_resnet_backbone(cfg, input_shape))
