"""Files are written by ``atomic_write``, so that neither a full disk, a kill nor a second run loses anything."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob("centermask_solo/**/*.py"), *ROOT.glob("datasets/*.py"), ROOT / "train_net.py"])
# Where files are written otherwise, and why that loses nothing.
OTHERWISE = {
    "centermask_solo/utils/files.py": "atomic_write itself",
    "centermask_solo/cli/__init__.py": "os.devnull",
    "centermask_solo/data/validation/gate.py": "a copy in a temporary folder",
    "centermask_solo/inference/benchmark.py": "images and weights in a temporary folder",
    "centermask_solo/inference/video_file.py": "FFmpeg writes into the file of atomic_write",
    "centermask_solo/utils/memory.py": "/proc/self/clear_refs, which is a command to Linux",
}
WRITERS = {"write_text", "write_bytes", "imwrite", "savefig", "touch", "tofile", "savez", "savez_compressed", "savetxt"}
WRITERS |= {"copyfile", "copy2", "copytree", "mkstemp", "NamedTemporaryFile", "hardlink_to", "symlink_to"}
MODE = re.compile(r"[rwaxbt+]{1,4}")
FLAG = re.compile(r"O_(WRONLY|RDWR|CREAT|APPEND|TRUNC)")


def opens_to_write(call: ast.Call) -> bool:
    """Whether a call of a function or method "open" may write: by its mode or flags, or because these are unknown."""
    values = [*call.args, *(x.value for x in call.keywords if x.arg in ("mode", "flags"))]
    modes = [x.value for x in values if isinstance(x, ast.Constant) and MODE.fullmatch(str(x.value))]
    unknown = isinstance(call.func, ast.Name) and call.args[1:2] and not isinstance(call.args[1], ast.Constant)
    return bool(unknown or set("".join(modes)) & set("wax+") or FLAG.search(ast.unparse(call)))


def saves_to(call: ast.Call) -> str:
    """Where a call of a method "save" or "dump" writes to; "" for one that returns a text."""
    module = ast.unparse(call.func.value) in ("torch", "torch.export", "json", "pickle", "yaml", "np")
    position = 1 if module and ast.unparse(call.func) != "np.save" else 0
    return "".join(ast.unparse(x) for x in call.args[position : position + 1])


def written(text: str) -> list[str]:
    """The calls of a program that open a file for writing, or save to something else than a file of atomic_write."""
    nodes = list(ast.walk(ast.parse(text)))
    items = [item for node in nodes if isinstance(node, ast.With) for item in node.items if item.optional_vars]
    kinds = ("atomic_write(", "io.BytesIO(")  # the latter is in memory
    atomic = {ast.unparse(x.optional_vars) for x in items if ast.unparse(x.context_expr).startswith(kinds)}
    atomic |= {"", *({"file"} & {node.arg for node in nodes if isinstance(node, ast.arg)})}  # that of a function
    found = []
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        saves = name in ("save", "dump") and isinstance(call.func, ast.Attribute)
        saves = saves and not ast.unparse(call.func).endswith("checkpointer.save")  # whose files are atomic
        if name in WRITERS or (name == "open" and opens_to_write(call)) or (saves and saves_to(call) not in atomic):
            found.append(ast.unparse(call))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_written_by_atomic_write(path):
    found = written(path.read_text())
    if str(path.relative_to(ROOT)) in OTHERWISE:
        assert found, "it needs no exception"
    else:
        assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "open(path, 'w')",
        "open(path, mode='ab')",
        "open(path, mode)",
        "path.open('x')",
        "PathManager.open(path, 'w')",
        "os.open(path, os.O_CREAT | os.O_WRONLY)",
        "path.write_text('')",
        "cv2.imwrite(path, image)",
        "torch.save(weights, path)",
        "np.save(path, weights)",
        "json.dump({}, open_file)",
        "image.save(path, format='PNG')",
        "with open(path) as file:\n    json.dump({}, file)",
    ],
)
def test_what_writes_is_found(text):
    assert written(text)


@pytest.mark.parametrize(
    "text",
    [
        "open(path)",
        "open(path, 'rb')",
        "path.open()",
        "Image.open(file)",
        "text = yaml.dump(options, sort_keys=False)",
        "with atomic_write(path, 'wb') as file:\n    torch.save(weights, file)",
        "with atomic_write(path, 'wb') as output:\n    image.save(output, format='PNG')",
        "def write(image, file):\n    image.save(file, format='PNG')",
    ],
)
def test_what_only_reads_or_is_atomic_is_not(text):
    assert not written(text)
