#!/usr/bin/env bash
# Installs what this repository needs and reports each step. Run by `make env`.
#
#   VENV     virtual environment, created if missing; default: .venv; empty: use the active environment
#   PYTHON   Python that creates it; default: the first that is 3.10 or newer of python3, python3.13, ..., python
#
# Versions come from constraints.txt, the ones that the tests pass with. To update them, edit that file, run `make env
# VENV=/tmp/new` and `make check VENV=/tmp/new`. An installed torch, torchvision, NumPy or Detectron2 is never replaced.
#
# A stamp in the environment holds a checksum of what determines its content, so that a second run is a no-op.
set -euo pipefail
cd "$(dirname "$0")/.."

LVIS="lvis==0.5.3" # evaluates LVIS; installed without what it asks for, as opencv-python would overwrite cv2
DETECTRON2="sal-detectron2==0.7.2" # a wheel of Detectron2 on PyPI, which has none under the name detectron2
VENV="${VENV-.venv}"

say() { echo "[env] $*"; }
fail() {
    echo "[env] error: $*" >&2
    exit 1
}
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() { # prints a Python >= 3.10
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.10 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 or newer found: install one, or set PYTHON=/path/to/python"
}

checksum() {
    "$PY" - <<'EOF'
import hashlib, pathlib, sys
names = ("setup.py", "pyproject.toml", "constraints.txt", "scripts/setup_env.sh", "scripts/select_constraints.py",
         "scripts/find_detectron2.py")
content = b"".join(pathlib.Path(name).read_bytes() for name in names)
print(hashlib.sha256(content + sys.version.encode() + str(pathlib.Path.cwd()).encode()).hexdigest())
EOF
}

missing() { # prints which of the given modules cannot be found
    (cd / && "$PY" -c 'import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])' "$@")
}

if [ -n "$VENV" ]; then
    PY="$VENV/bin/python"
    if [ ! -x "$PY" ]; then
        base="$(find_python)"
        say "creating the virtual environment $VENV with $("$base" --version)"
        "$base" -m venv "$VENV" || {
            rm -rf "$VENV"
            fail "'$base -m venv' failed: on Debian and Ubuntu, 'apt install python3-venv' provides it"
        }
    fi
    PY="$(cd "$VENV/bin" && pwd)/python"
else
    PY="$(command -v python || command -v python3 || fail "VENV is empty, but no active environment has a 'python'")"
    say "using the active environment: $PY"
fi
is_new_enough "$PY" || fail "$PY is older than Python 3.10: remove ${VENV:-it from PATH}, or choose another environment with VENV=path"

STAMP="$("$PY" -c 'import sys; print(sys.prefix)')/.centermask_solo-env"
MODULES="torch torchvision detectron2 cv2 pycocotools centermask_solo pytest xdist ruff mypy"
# shellcheck disable=SC2086
if [ "$(cat "$STAMP" 2>/dev/null)" = "$(checksum)" ] && [ -z "$(missing $MODULES)" ]; then
    say "$(dirname "$STAMP") is up to date"
    exit 0
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
constraints="$(mktemp)"
trap 'rm -f "$constraints"' EXIT
keep=()
if [ -z "$VENV" ]; then keep=(--keep-installed); fi
others="$("$PY" scripts/select_constraints.py constraints.txt ${keep[@]+"${keep[@]}"} 2>&1 >"$constraints")" ||
    fail "cannot select the versions to install: $others"
say "installing this package (editable) and its runtime, test and lint requirements"
if [ -n "$others" ]; then
    say "  keeping $others: other packages get the newest versions that fit, not the tested ones of constraints.txt"
fi
quiet="-qq"
if [ -n "$(missing torch torchvision)" ]; then
    say "  $(missing torch torchvision) missing: downloading a few GB from PyPI takes some minutes the first time"
    quiet="" # to show the progress of the downloads
fi
# shellcheck disable=SC2086
"$PY" -m pip install $quiet --constraint "$constraints" --editable '.[dev]'

"$PY" -m pip install --quiet --no-deps "$LVIS" || say "cannot install $LVIS: LVIS cannot be evaluated"

pythons="$(command -v python || true) $(command -v python3 || true)" # of the active environment
# shellcheck disable=SC2086
if found="$(cd / && "$PY" "$OLDPWD/scripts/find_detectron2.py" $pythons)"; then
    say "keeping $found"
elif [ $? -eq 2 ]; then
    fail "$found: repair or uninstall it, then rerun"
else
    site="$("$PY" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    say "$found: installing $DETECTRON2 into $site"
    say "  (its wheel is tagged for Python 3.10, but runs on later versions; its compiled part is not needed)"
    "$PY" -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.10 --target "$site" "$DETECTRON2" ||
        fail "cannot install $DETECTRON2: install Detectron2 from source, then rerun"
fi

say "checking imports"
(cd / && "$PY" -W ignore -c 'import torch, torchvision, cv2, pycocotools, detectron2.engine, centermask_solo
print(f"[env] torch {torch.__version__}, torchvision {torchvision.__version__},",
      "GPU" if torch.cuda.is_available() else "no usable GPU, running on the CPU")')
checksum >"$STAMP"
say "done: $PY"
