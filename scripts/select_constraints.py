"""Print the constraints for pip in this environment: the tested versions, or what is installed where that must stay.

    python scripts/select_constraints.py constraints.txt [--keep-installed]

A torch, torchvision or NumPy other than the tested one stays, and then no other version is pinned: the pinned ones are
those that fit the tested torch. ``--keep-installed`` leaves out everything that is installed, so that pip adds to the
environment but changes nothing in it. Needs nothing but pip.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # a new environment has pip's copy alone; importing pip keeps setuptools from working afterwards
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

HELD = ("torch", "torchvision", "numpy")  # what a compiled Detectron2 or a GPU's driver may depend on


def select_constraints(
    lines: Iterable[str], installed: Mapping[str, str], *, keep_installed: bool = False
) -> tuple[list[str], list[str]]:
    """Return the constraints for an environment, and which installed versions kept the tested ones away.

    Args:
        lines: Those of ``constraints.txt``; requirements with ``==``, perhaps with a marker.
        installed: Version of each distribution, by its canonical name.
        keep_installed: Whether to leave out what is installed.
    """
    entries = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    pins = {canonicalize_name(x.name): x for x in entries if x.marker is None or x.marker.evaluate()}
    held = {name: installed[name] for name in HELD if name in installed}
    others = [f"{name}=={v}" for name, v in held.items() if name in pins and v not in pins[name].specifier]
    if others:
        return [f"{name}=={v}" for name, v in held.items()], others
    return [f"{x.name}{x.specifier}" for name, x in pins.items() if not (keep_installed and name in installed)], []


def main() -> None:
    """Print the constraints, and to standard error what kept the tested versions away."""
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    installed = {canonicalize_name(x.metadata["Name"]): x.version for x in distributions()}
    constraints, others = select_constraints(lines, installed, keep_installed="--keep-installed" in sys.argv[2:])
    print(*constraints, sep="\n")
    print(*others, file=sys.stderr)


if __name__ == "__main__":
    main()
