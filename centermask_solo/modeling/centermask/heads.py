"""The networks of the second stage: the mask head with spatial attention, and the mask IoU head."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead
from torch import Tensor, nn
from torch.nn import functional as F

from ...ops.precision import finite_scores


class RoIPredictions(NamedTuple):
    """The outputs of the mask heads for R RoIs, in at least float32."""

    mask_logits: Tensor  # (R, side, side), of each RoI's class
    mask_ious: Tensor | None  # (R,), predicted IoU of these masks; None without a mask IoU head


class SpatialAttention(nn.Module):
    """A gate per pixel, computed from the mean and the maximum over the channels.

    Source: CenterMask, section 3.3.
    Differs: before training the gate is 1/2 everywhere. Random weights of the authors' scale saturate it: depending on
        the sign of their sum it is almost closed or open, and a closed gate delays the masks by hundreds of iterations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (R, C, h, w) times its gate, of the same shape."""
        statistics = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)
        return x * self.conv(statistics).sigmoid()


@ROI_MASK_HEAD_REGISTRY.register()
class SpatialAttentionMaskHead(MaskRCNNConvUpsampleHead):
    """Mask R-CNN's head with spatial attention before the deconvolution (SAG-Mask).

    Also works in Detectron2's own RoI heads, through ``forward`` and ``layers``.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, num_classes: int, conv_dims: list[int], **kwargs: Any) -> None:
        """
        Args:
            input_shape: Shape of the pooled features.
            num_classes: K, or 1 for class-agnostic masks.
            conv_dims: Width of each convolution and, last, of the deconvolution.
            kwargs: Arguments of ``MaskRCNNConvUpsampleHead``.
        """
        super().__init__(input_shape, num_classes=num_classes, conv_dims=conv_dims, **kwargs)
        self.spatialAtt = SpatialAttention()
        for layer in self.conv_norm_relus:
            layer.activation = nn.ReLU(inplace=True)  # one pass less over fresh memory

    def mask_features(self, x: Tensor) -> Tensor:
        """Return the input of the predictor, (R, conv_dims[-1], 2h, 2w), from pooled features (R, C, h, w)."""
        for layer in self.conv_norm_relus:
            x = layer(x)
        return F.relu_(self.deconv(self.spatialAtt(x)))

    def layers(self, x: Tensor) -> Tensor:
        """Return the logits of all classes, (R, K, 2h, 2w), from pooled features (R, C, h, w)."""
        return self.predictor(self.mask_features(x))


def predict_class_masks(head: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """Return the mask logits of one class per RoI, (R, 2h, 2w).

    :class:`SpatialAttentionMaskHead` applies only the predictor's row of each RoI's class, which saves the other K - 1
    masks and their gradients. Any other mask head predicts all masks, and one is selected.

    Args:
        head: A mask head with Detectron2's ``layers``.
        x: (R, C, h, w), pooled features.
        classes: (R,) int64; ignored by class-agnostic heads.
    """
    if not isinstance(head, SpatialAttentionMaskHead):
        logits = head.layers(x)  # type: ignore[operator]
        return logits[torch.arange(len(classes), device=classes.device), _effective(classes, logits.shape[1])]
    features = head.mask_features(x)
    predictor: Conv2d = head.predictor
    rows = _effective(classes, predictor.out_channels)
    kernels, biases = predictor.weight.flatten(1)[rows], predictor.bias[rows]  # (R, D), (R,)
    # With the features on the left, their gradient has the layout (R, h, w, D) too, or the layers below would be slow.
    logits = torch.bmm(features.flatten(2).transpose(1, 2), kernels[:, :, None])[:, :, 0] + biases[:, None]
    return logits.view(-1, *features.shape[2:])


def _effective(classes: Tensor, num_outputs: int) -> Tensor:
    """Return ``classes``, or zeros if a single output serves all of them."""
    return classes if num_outputs > 1 else torch.zeros_like(classes)


class MaskIoUHead(nn.Module):
    """A head that predicts the IoU of a mask with the ground truth from the RoI's features and the mask itself.

    Source: Mask Scoring R-CNN, as in CenterMask's code.
    Differs: the number of input channels is that of the features, not of the mask head. With class-agnostic masks the
        first output serves all classes in training and at inference (in the authors' code only in training).
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
        exponent: float = 1.0,
    ) -> None:
        """
        Args:
            input_shape: Shape of the pooled features; height and width must be half those of the mask.
            num_classes: K, the number of outputs.
            num_convs: Number of convolutions; the last one has stride 2.
            conv_dim: Width of the convolutions.
            fc_dim: Width of the two hidden layers.
            class_agnostic: Whether the masks are class-agnostic.
            exponent: Power of the IoU in the scores of masks.
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
        self.class_agnostic, self.exponent = class_agnostic, exponent
        for layer in [*self._convs(), self.maskiou_fc1, self.maskiou_fc2]:
            weight_init.c2_msra_fill(layer)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Return the constructor's arguments from a config."""
        return {
            "input_shape": input_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "num_convs": cfg.MODEL.CENTERMASK.MASK_IOU.NUM_CONVS,
            "conv_dim": cfg.MODEL.CENTERMASK.MASK_IOU.CONV_DIM,
            "class_agnostic": cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK,
            "exponent": cfg.MODEL.CENTERMASK.MASK_IOU.EXPONENT,
        }

    def _convs(self) -> list[nn.Module]:
        return [self.get_submodule(f"maskiou_fcn{i + 1}") for i in range(self.num_convs)]

    def hidden(self, x: Tensor, masks: Tensor) -> Tensor:
        """Return the input of the last layer, (R, fc_dim); arguments as in :meth:`forward`."""
        x = torch.cat([x, F.max_pool2d(masks[:, None], 2).to(x.dtype)], dim=1)
        for conv in self._convs():
            x = F.relu_(conv(x))
        x = F.relu_(self.maskiou_fc1(x.flatten(1)))
        return F.relu_(self.maskiou_fc2(x))

    def forward(self, x: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Return the predicted IoU of each mask, (R,), not limited to 0..1.

        Args:
            x: (R, C, h, w), the features that the mask was predicted from.
            masks: (R, 2h, 2w), probabilities.
            classes: (R,) int64, class of each mask.
        """
        rows = torch.zeros_like(classes) if self.class_agnostic else classes
        return (self.hidden(x, masks) * self.maskiou.weight[rows]).sum(dim=1) + self.maskiou.bias[rows]

    def factor(self, ious: Tensor) -> Tensor:
        """Return what the scores of boxes are multiplied by for those of masks, from the result of :meth:`forward`."""
        ious = finite_scores(ious)
        return ious if self.exponent == 1 else ious.clamp(min=0) ** self.exponent
