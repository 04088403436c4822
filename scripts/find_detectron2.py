"""Say whether this Python finds a Detectron2, and where else there may be one. Run by scripts/setup_env.sh.

    python scripts/find_detectron2.py [OTHER_PYTHON ...]

Prints a line. Exit codes: 0, it can be imported; 1, there is none, so the other Pythons are asked; 2, there is one that
cannot be imported. Needs no other package.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence

WHERE = "import importlib.util as u; s = u.find_spec('detectron2'); print(s.origin or '' if s else '')"


def find_detectron2() -> tuple[int, str]:
    """Return the exit code, and what to print of the Detectron2 of this Python."""
    spec = importlib.util.find_spec("detectron2")
    if (
        spec is None or not spec.origin
    ):  # a folder of that name without the package, such as a checkout's parent, has none
        return 1, "no Detectron2 is installed"
    folder = os.path.dirname(spec.origin)
    try:
        package = importlib.import_module("detectron2")
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        return 2, f"the Detectron2 in {folder} cannot be imported ({type(error).__name__}: {reason})"
    return 0, f"Detectron2 {getattr(package, '__version__', 'of unknown version')} in {folder}"


def find_elsewhere(pythons: Sequence[str]) -> str:
    """Return the first Python that has a Detectron2, and "" if none of them does."""
    for python in pythons:
        found = subprocess.run([python, "-c", WHERE], cwd=os.sep, capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip():
            return python
    return ""


def main() -> None:
    """Print the line, and exit with its code."""
    code, text = find_detectron2()
    elsewhere = find_elsewhere(sys.argv[1:]) if code == 1 else ""
    if elsewhere:
        text += f" here; {elsewhere} has one, which this environment does not see (make env VENV= uses it)"
    print(text)
    sys.exit(code)


if __name__ == "__main__":
    main()
