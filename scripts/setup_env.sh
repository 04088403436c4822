#!/usr/bin/env bash
# Installs what this repository needs and says what it does and why. Run by `make env`.
#
#   VENV     the virtual environment, made if missing; default .venv; empty: the active environment
#   PYTHON   the Python that makes a new virtual environment; default: the newest of 3.10 to 3.13 that is found
#
# A stamp in the environment holds a checksum of what decides its content, so that a second run ends at once.
set -euo pipefail
cd "$(dirname "$0")/.."

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
        is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.10 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 or newer was found: install one, or name it with PYTHON=/path/to/python"
}

checksum() {
    "$PY" - <<'EOF'
import hashlib, pathlib, sys
content = b"".join(pathlib.Path(p).read_bytes() for p in ("setup.py", "pyproject.toml", "scripts/setup_env.sh"))
print(hashlib.sha256(content + sys.version.encode() + str(pathlib.Path.cwd()).encode()).hexdigest())
EOF
}

lacking() { # prints which of the modules named cannot be found
    (cd / && "$PY" -c 'import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])' "$@")
}

if [ -n "$VENV" ]; then
    PY="$VENV/bin/python"
    if [ ! -x "$PY" ]; then
        base="$(find_python)"
        say "making the virtual environment $VENV with $("$base" --version), to leave your own Python alone"
        "$base" -m venv "$VENV" || {
            rm -rf "$VENV"
            fail "'$base -m venv' failed: on Debian and Ubuntu, 'apt install python3-venv' provides it"
        }
    fi
    PY="$(cd "$VENV/bin" && pwd)/python"
else
    PY="$(command -v python || command -v python3 || fail "VENV is empty, but no environment with a 'python' is active")"
    say "using the active environment: $PY"
fi
is_new_enough "$PY" || fail "$PY is older than Python 3.10: remove $VENV, or choose another with VENV=path"

STAMP="$("$PY" -c 'import sys; print(sys.prefix)')/.centermask_solo-env"
MODULES="torch torchvision detectron2 cv2 pycocotools centermask_solo pytest ruff mypy"
# shellcheck disable=SC2086
if [ "$(cat "$STAMP" 2>/dev/null)" = "$(checksum)" ] && [ -z "$(lacking $MODULES)" ]; then
    say "nothing to do: $(dirname "$STAMP") has all that is needed"
    exit 0
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
say "installing this package (editable) and what it needs to run and to be tested; what is there already stays"
quiet="-qq"
if [ -n "$(lacking torch torchvision)" ]; then
    say "  $(lacking torch torchvision) missing: from PyPI, some GB and some minutes the first time"
    quiet="" # so that the downloads are seen
fi
# shellcheck disable=SC2086
"$PY" -m pip install $quiet --editable '.[dev]'

if "$PY" -c 'import detectron2' 2>/dev/null; then
    say "Detectron2 can be imported: it stays as it is"
else
    site="$("$PY" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    say "Detectron2 cannot be imported: installing $DETECTRON2 into $site"
    say "  (its wheel is marked for Python 3.10, but its Python files run on later ones; no compiled part is needed)"
    "$PY" -m pip install --quiet --no-deps --only-binary=:all: --python-version 3.10 --target "$site" "$DETECTRON2" ||
        fail "no Detectron2 for this machine: install it from its source, then repeat"
fi

say "checking that everything can be imported"
(cd / && "$PY" -W ignore -c 'import torch, torchvision, cv2, pycocotools, detectron2.engine, centermask_solo
print(f"[env] torch {torch.__version__}, torchvision {torchvision.__version__},",
      "GPU" if torch.cuda.is_available() else "no usable GPU: everything runs on the CPU")')
checksum >"$STAMP"
say "done: $PY"
