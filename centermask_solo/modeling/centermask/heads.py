"""The networks on top of the feature pyramid: FCOS's head, the mask head with its attention, the mask IoU head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Scale, conv_tower, init_convs_normal_

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = "Heads that predict the IoU of a mask; called with ``(cfg, input_shape)``."


class FCOSPredictions(NamedTuple):
    """What FCOS says about each location of each of L levels."""

    class_logits: list[Tensor]  # L x (N, K, Hi, Wi)
    ltrb: list[Tensor]  # L x (N, 4, Hi, Wi), distances to left, top, right, bottom in strides, at least 0
    centerness_logits: list[Tensor]  # L x (N, 1, Hi, Wi)


class FCOSHead(nn.Module):
    """Towers and predictors that all levels share; the levels differ in a learned scale of the box distances."""

    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        num_classes: int,
        num_class_convs: int = 4,
        num_box_convs: int = 4,
        num_shared_convs: int = 0,
        norm: str = "GN",
        use_scale: bool = True,
        deformable: bool = False,
        prior_prob: float = 0.01,
    ) -> None:
        """
        Args:
            in_channels: C of every level, and the width of the towers.
            num_levels: L.
            num_classes: K.
            num_class_convs: convolutions of the class tower.
            num_box_convs: convolutions of the box tower, which also feeds the centerness.
            num_shared_convs: convolutions before the towers part.
            norm: of the towers, "GN" or "none".
            use_scale: whether a level scales its distances.
            deformable: whether the shared and the box tower consist of modulated deformable convolutions.
            prior_prob: class probability at initialization.
        """
        super().__init__()
        kind = "all" if deformable else "none"
        self.share_tower = conv_tower(in_channels, in_channels, num_shared_convs, norm=norm, bias=True, deformable=kind)
        self.cls_tower = conv_tower(in_channels, in_channels, num_class_convs, norm=norm, bias=True)
        self.bbox_tower = conv_tower(in_channels, in_channels, num_box_convs, norm=norm, bias=True, deformable=kind)
        self.cls_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.bbox_pred = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.ctrness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList([Scale() if use_scale else nn.Identity() for _ in range(num_levels)])
        init_convs_normal_(self, std=0.01)
        nn.init.constant_(self.cls_logits.bias, -math.log((1 - prior_prob) / prior_prob))  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> FCOSPredictions:
        """The predictions for ``features``: for each level (N, C, Hi, Wi)."""
        predictions = FCOSPredictions([], [], [])
        for feature, scale in zip(features, self.scales, strict=True):
            shared = self.share_tower(feature)
            box_features = self.bbox_tower(shared)
            predictions.class_logits.append(self.cls_logits(self.cls_tower(shared)))
            predictions.ltrb.append(F.relu(scale(self.bbox_pred(box_features))))
            predictions.centerness_logits.append(self.ctrness(box_features))
        return predictions


class SpatialAttention(nn.Module):
    """A gate a pixel, from the mean and the maximum over the channels.

    Source: CenterMask, section 3.3.
    Differs: before training the gate is 1/2 everywhere. Random weights of the authors' scale close it (or open it) all
        but completely, by chance: the sign of their sum; masks of a closed one learn only after hundreds of iterations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (R, C, h, w) times its gate, of the same shape."""
        statistics = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)
        return x * self.conv(statistics).sigmoid()


@ROI_MASK_HEAD_REGISTRY.register()
class SpatialAttentionMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's head with a spatial attention before its deconvolution (SAG-Mask).

    It serves in Detectron2's own RoI heads too: ``forward`` and ``layers`` are theirs.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, num_classes: int, conv_dims: list[int], **kwargs: Any) -> None:
        """
        Args:
            input_shape: of the pooled features.
            num_classes: K, or 1 for class-agnostic masks.
            conv_dims: width of each convolution and, last, of the deconvolution.
            kwargs: as of ``MaskRCNNConvUpsampleHead``.
        """
        super().__init__(input_shape, num_classes=num_classes, conv_dims=conv_dims, **kwargs)
        self.spatialAtt = SpatialAttention()

    def mask_features(self, x: Tensor) -> Tensor:
        """What the predictor sees: (R, conv_dims[-1], 2h, 2w) from pooled features (R, C, h, w)."""
        for layer in self.conv_norm_relus:
            x = layer(x)
        return F.relu(self.deconv(self.spatialAtt(x)))

    def layers(self, x: Tensor) -> Tensor:
        """The logits of all classes: (R, K, 2h, 2w) from pooled features (R, C, h, w)."""
        return self.predictor(self.mask_features(x))


def predict_class_masks(head: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """The mask logits of one class for each RoI: (R, 2h, 2w).

    Our own head applies to each RoI the predictor's row of its class alone, which gives the numbers of its K masks
    without the other K - 1 (and their gradient). Any other mask head predicts all, and one is taken.

    Args:
        head: a mask head with Detectron2's ``layers``.
        x: (R, C, h, w) pooled features.
        classes: (R,) int64; ignored by class-agnostic heads.
    """
    if not isinstance(head, SpatialAttentionMaskHead):
        logits = head.layers(x)  # type: ignore[operator]
        return logits[torch.arange(len(classes), device=classes.device), _effective(classes, logits.shape[1])]
    features = head.mask_features(x)
    predictor: Conv2d = head.predictor
    rows = _effective(classes, predictor.out_channels)
    kernels, biases = predictor.weight.flatten(1)[rows], predictor.bias[rows]  # (R, D), (R,)
    # Features on the left, so that their gradient, too, is in memory as (R, h, w, D): else the layers below are slow.
    logits = torch.bmm(features.flatten(2).transpose(1, 2), kernels[:, :, None])[:, :, 0] + biases[:, None]
    return logits.view(-1, *features.shape[2:])


def _effective(classes: Tensor, num_outputs: int) -> Tensor:
    """``classes``, or zeros where there is but one output for all."""
    return classes if num_outputs > 1 else torch.zeros_like(classes)


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """Predicts the IoU of a mask with the truth from the RoI's features and the mask itself.

    Source: Mask Scoring R-CNN, as in CenterMask's code.
    Differs: the number of input channels is that of the features, not of the mask head. With class-agnostic masks the
        first output stands for all classes in training and in inference (there: in training alone).
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        num_convs: int,
        conv_dim: int,
        fc_dim: int = 1024,
        class_agnostic: bool = False,
    ) -> None:
        """
        Args:
            input_shape: of the pooled features; height and width must be those of the mask halved.
            num_classes: K, the outputs.
            num_convs: convolutions, the last one with stride 2.
            conv_dim: their width.
            fc_dim: width of the two hidden layers.
            class_agnostic: whether the masks are.
        """
        super().__init__()
        channels = (input_shape.channels or 0) + 1
        self.num_convs = num_convs
        for i in range(num_convs):
            stride = 2 if i == num_convs - 1 else 1
            self.add_module(f"maskiou_fcn{i + 1}", nn.Conv2d(channels, conv_dim, 3, stride=stride, padding=1))
            channels = conv_dim
        cells = math.ceil((input_shape.height or 0) / 2) * math.ceil((input_shape.width or 0) / 2)
        self.maskiou_fc1 = nn.Linear(channels * cells, fc_dim)
        self.maskiou_fc2 = nn.Linear(fc_dim, fc_dim)
        self.maskiou = nn.Linear(fc_dim, num_classes)
        self.class_agnostic = class_agnostic
        for layer in [*self._convs(), self.maskiou_fc1, self.maskiou_fc2]:
            weight_init.c2_msra_fill(layer)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """The constructor's arguments, from a config."""
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_convs": cfg.MODEL.CENTERMASK.MASK_IOU.NUM_CONV,
            "conv_dim": cfg.MODEL.CENTERMASK.MASK_IOU.CONV_DIM,
            "class_agnostic": cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK,
        }

    def _convs(self) -> list[nn.Module]:
        return [self.get_submodule(f"maskiou_fcn{i + 1}") for i in range(self.num_convs)]

    def hidden(self, x: Tensor, masks: Tensor) -> Tensor:
        """What the last layer sees: (R, fc_dim); arguments as of :meth:`forward`."""
        x = torch.cat([x, F.max_pool2d(masks[:, None], 2).to(x.dtype)], dim=1)
        for conv in self._convs():
            x = F.relu(conv(x))
        x = F.relu(self.maskiou_fc1(x.flatten(1)))
        return F.relu(self.maskiou_fc2(x))

    def forward(self, x: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """The predicted IoU of each mask, (R,), not limited to 0..1.

        Args:
            x: (R, C, h, w), the features that the mask was predicted from.
            masks: (R, 2h, 2w) probabilities.
            classes: (R,) int64, the class of each mask.
        """
        rows = torch.zeros_like(classes) if self.class_agnostic else classes
        return (self.hidden(x, masks) * self.maskiou.weight[rows]).sum(dim=1) + self.maskiou.bias[rows]


def build_mask_iou_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """The mask IoU head called ``MODEL.CENTERMASK.MASK_IOU.NAME``, for pooled features of ``input_shape``."""
    return ROI_MASKIOU_HEAD_REGISTRY.get(cfg.MODEL.CENTERMASK.MASK_IOU.NAME)(cfg, input_shape)
