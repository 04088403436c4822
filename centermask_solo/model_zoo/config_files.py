"""Where this package's config files are."""

from __future__ import annotations

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """The folder ``configs``: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_config_file(name: str) -> str:
    """The path of a config file given by its path or by its name below ``configs``, such as "SOLOv2/x.yaml".

    Raises:
        FileNotFoundError: it is neither; the sentence names the nearest one.
    """
    if Path(name).is_file():
        return name
    root = config_dir()
    plain = name.removeprefix("configs/")
    if (root / plain).is_file():
        return str(root / plain)
    known = sorted(str(path.relative_to(root)) for path in root.rglob("*.yaml"))
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.0)
    hint = f"the nearest one is {root / near[0]}" if near else f"there are none in {root} either"
    raise FileNotFoundError(f"there is no config file {name}; {hint}")
