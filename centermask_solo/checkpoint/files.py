"""Weight files are read here, without running code from them."""

from __future__ import annotations

import os
import pickle
import re
import shlex
from typing import Any, NamedTuple

import torch
from detectron2.utils.file_io import PathManager

SAFE_GLOBALS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    *(
        (f"numpy{core}.multiarray", name)
        for core in (".core", "._core")
        for name in ("_reconstruct", "scalar", "_frombuffer")
    ),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
# Where the weights are in the files of Detectron2, of mmdetection, and of pycls and timm.
WEIGHTS_KEYS = ("model", "state_dict", "model_state")
NOT_READ = "which is not loaded because it could run code"
# For whoever trusts a file that holds more than tensors: a program that keeps its tensors alone.
LOAD = {
    ".pkl": "c = pickle.load(open(path, 'rb'), encoding='latin1')",
    ".pth": "c = torch.load(path, map_location='cpu', weights_only=False)",
}
SAVE_TENSORS = (
    "import pickle, sys, torch; path = sys.argv[1]; {load}; "
    "c = c.state_dict() if hasattr(c, 'state_dict') else c; "
    f"c = next((c[k] for k in {(*WEIGHTS_KEYS, 'blobs')} if k in c), c); "
    "torch.save({{'model': {{k: torch.as_tensor(v) for k, v in c.items() if hasattr(v, 'shape')}}}}, sys.argv[2])"
)


class Weights(NamedTuple):
    """The content of a weight file."""

    values: dict[str, Any]  # tensors and arrays, by the names of the file, without "module." of data parallel training
    metadata: dict[str, Any]  # what else is in it


def read_weights(path: str) -> Weights:
    """The content of a weight file: .pth and the like of PyTorch, .pkl of Detectron2 and Caffe2, .pyth of pycls.

    Args:
        path: of the file, or a URL that can be fetched.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be fetched.
        ValueError: it holds no weights, is damaged, or holds what could run code.
    """
    check_weights_file(path)
    content = read_file(PathManager.get_local_path(path.split("?")[0]), path)
    values = content.pop("model")
    return Weights(values, content)


def check_weights_file(path: str) -> None:
    """Nothing, if ``path`` (a file, or a URL that can be fetched) is there.

    Raises:
        FileNotFoundError: it is not, in one sentence.
    """
    plain = path.split("?")[0]
    if "://" not in plain:
        if not os.path.isfile(plain):
            raise FileNotFoundError(
                f"MODEL.WEIGHTS: there is no file {plain}; correct the path, or give MODEL.WEIGHTS '' for no weights"
            )
        return
    try:
        PathManager.get_local_path(plain)
    except FileNotFoundError:
        raise  # by the model zoo, whose sentence says more
    except Exception as error:  # whatever the handler of the URL raises
        raise FileNotFoundError(
            f"MODEL.WEIGHTS: {plain} cannot be fetched ({_first_line(error)}); give the path of a copy, "
            "or give MODEL.WEIGHTS '' for no weights"
        ) from error


def read_file(filename: str, path: str) -> dict[str, Any]:
    """The content of a file in Detectron2's form: the weights under "model", the metadata beside it.

    Args:
        filename: of a local file.
        path: by which the user knows it, for errors.

    Raises:
        ValueError: it holds no weights, is damaged, or holds what could run code.
    """
    suffix = os.path.splitext(filename)[1]
    try:
        content = _read_pkl(filename) if suffix == ".pkl" else _read_torch(filename)
    except _NotPlain as error:
        program = SAVE_TENSORS.format(load=LOAD.get(suffix, LOAD[".pth"]))
        names = shlex.join((filename, f"{filename}.tensors.pth"))
        raise ValueError(
            f"{path} holds more than tensors and plain values ({error}), {NOT_READ}; if you trust whoever made it, "
            f'keep its tensors alone by the command that follows, and give the new file: python -c "{program}" {names}'
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged, or of another kind ({_first_line(error)})"
        ) from error
    values = content["model"]
    if not isinstance(values, dict) or not values:
        raise ValueError(f"{path} holds no weights under 'model'")
    if not any(hasattr(value, "shape") for value in values.values()):
        raise ValueError(f"{path} holds no tensors: is it a checkpoint?")
    if all(key.startswith("module.") for key in values):
        content["model"] = {key.removeprefix("module."): value for key, value in values.items()}
    return content


class _NotPlain(Exception):
    """The file needs a class or a function that is not known to be harmless; the message names it."""


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values, refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            raise _NotPlain(f"it holds a {module}.{name}")
        return super().find_class(module, name)


def _read_pkl(filename: str) -> dict[str, Any]:
    with open(filename, "rb") as file:
        data = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    data = data.get("blobs", data)
    weights = {key: value for key, value in data.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _read_torch(filename: str) -> dict[str, Any]:
    try:
        data = torch.load(filename, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise _NotPlain(f"it holds a {refused[1]}") from error
        raise
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    key = next((key for key in WEIGHTS_KEYS if key in data), None)
    content = {"model": data} if key is None else {**data, "model": data[key]}
    if filename.endswith(".pyth"):
        content["model"] = data["model_state"]
        content["matching_heuristics"] = True  # the names of pycls have no prefix
    return content


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
