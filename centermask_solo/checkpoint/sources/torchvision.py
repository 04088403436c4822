"""ImageNet ResNets and ResNeXts as torchvision stores them, under Detectron2's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

__all__ = ["from_torchvision_resnet", "is_torchvision_resnet"]

Value = TypeVar("Value")

# In this order; what is left after the prefix stays.
RENAMES = (
    (re.compile(r"^(conv1|bn1)\."), r"stem.\1."),
    (re.compile(r"^layer([1-4])\."), lambda match: f"res{int(match.group(1)) + 1}."),
    (re.compile(r"\bbn([123])\."), r"conv\1.norm."),
    (re.compile(r"\bdownsample\.0\."), "shortcut."),
    (re.compile(r"\bdownsample\.1\."), "shortcut.norm."),
)
CLASSIFIER = ("fc.weight", "fc.bias")


def is_torchvision_resnet(state_dict: Mapping[str, object]) -> bool:
    """Whether these are the names of a bare ResNet of torchvision: no prefix, no detector around it."""
    return all(
        key in state_dict for key in ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.0.bn1.bias")
    )


def from_torchvision_resnet(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """The same values under the names of Detectron2's ResNet, such as ``res2.0.conv1.norm.weight``.

    The classifier and the counters of batch normalization have no place there and are left out.

    Args:
        state_dict: of torchvision's ``resnet...`` or ``resnext...``.

    Returns:
        Names without a prefix: where the ResNet sits in a model is for the caller to find.
    """
    renamed = {}
    for key, value in state_dict.items():
        if key in CLASSIFIER or key.endswith("num_batches_tracked"):
            continue
        for pattern, name in RENAMES:
            key = pattern.sub(name, key)
        renamed[key] = value
    return renamed
