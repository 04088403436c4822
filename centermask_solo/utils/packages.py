"""Packages that pip does not install with this one: Detectron2, and what only some datasets need."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig

from .errors import MissingPackageError

# A wheel of Detectron2 on PyPI, which has none under the name detectron2, as in scripts/setup_env.sh. It is tagged for
# Python 3.10, but runs on later versions, because its compiled part is not needed; pip must be told so.
DETECTRON2 = "sal-detectron2==0.7.2"
AV = "av>=14,<19"  # PyAV, which brings FFmpeg; of the extra "video", too

# lvis requires opencv-python, which would overwrite opencv-python-headless; everything else that it needs is installed
_COMMANDS = {"lvis": "pip install lvis --no-deps"}


def require(package: str, dataset_name: str) -> None:
    """Raise MissingPackageError, with the command to run, unless a package that a dataset needs is installed."""
    if importlib.util.find_spec(package) is None:
        raise missing_package(package, dataset_name)


def missing_package(package: str, dataset_name: str) -> MissingPackageError:
    """Return the error for a package that a dataset needs and that is not installed."""
    command = _COMMANDS.get(package, f"pip install {package}")
    return MissingPackageError(f"the dataset '{dataset_name}' needs the package {package}: run '{command}'")


def require_av(what: str) -> None:
    """Raise MissingPackageError, with the command to run, unless PyAV is installed, which ``what`` needs."""
    if importlib.util.find_spec("av") is None:
        raise MissingPackageError(f"{what} needs the package av: run 'pip install \"{AV}\"'")


def missing_supervision() -> MissingPackageError:
    """Return the error for supervision, which users of it install, because it brings another OpenCV."""
    return MissingPackageError("supervision is not installed: run 'pip install supervision'")


def missing_detectron2() -> MissingPackageError:
    """Return the error for a Detectron2 that is not installed, with the command that installs it where Python looks."""
    pip = f"{sys.executable} -m pip install --no-deps --only-binary=:all: --python-version 3.10"
    return MissingPackageError(
        f"Detectron2 is not installed, and pip knows it under another name: run '{pip} --target "
        f"{sysconfig.get_path('purelib')} {DETECTRON2}', or install it from source"
    )


def missing_backend(name: str) -> MissingPackageError:
    """Return the error for a backend of ``TEST.EVAL_BACKEND`` that is not installed."""
    if name == "detectron2":
        fix = "this Detectron2 has no compiled part for this version of Python: choose another one"
    else:
        fix = f"its package is not installed: run 'pip install {name}', or choose \"auto\""
    return MissingPackageError(f'TEST.EVAL_BACKEND is "{name}", but {fix}')
