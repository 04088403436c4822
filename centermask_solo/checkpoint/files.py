"""Weight files as they are on disk, read without running code from them."""

from __future__ import annotations

import os
import pickle
import re
import shlex
from typing import Any, NamedTuple
from zipfile import is_zipfile

import torch
from detectron2.utils.file_io import PathManager

from ..utils.errors import UserError, WeightsError
from ..utils.pickles import UnsafePickleError, load_arrays
from ..utils.text import first_line

# Where the weights are in the files of Detectron2, of mmdetection, and of pycls and timm.
WEIGHTS_KEYS = ("model", "state_dict", "model_state")
DAMAGED = (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, ValueError, AttributeError, KeyError, IndexError)
# For users who trust a file that holds more than tensors: a program that keeps only its tensors.
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
    """The content of a weight file.

    Attributes:
        values: Tensors and arrays under the names in the file, without the "module." of data-parallel training.
        metadata: Everything else in the file. A true "matching_heuristics" asks for Detectron2's matching of names.
    """

    values: dict[str, Any]
    metadata: dict[str, Any]


def read_weights(path: str, *, mapped: bool = False) -> Weights:
    """Return the content of a weight file: .pth and the like of PyTorch, .pkl of Detectron2 and Caffe2, .pyth of pycls.

    Args:
        path: Path of the file, or a URL that can be fetched.
        mapped: Map a file of PyTorch into memory instead of reading all of it: faster where only names and shapes
            matter, but the file must not be written to as long as the weights are used.

    Raises:
        WeightsError: The file is missing or damaged, holds no weights, or holds something that could run code.
    """
    filename = check_weights_file(path)
    query = path.partition("?")[2]
    if query not in ("", "matching_heuristics=True"):
        raise WeightsError(f"{path}: of what may follow '?', only matching_heuristics=True is known")
    suffix = os.path.splitext(filename)[1]
    try:
        content = _read_pkl(filename) if suffix == ".pkl" else _read_torch(filename, mapped)
    except UnsafePickleError as error:
        program = SAVE_TENSORS.format(load=LOAD.get(suffix, LOAD[".pth"]))
        names = shlex.join((filename, f"{filename}.tensors.pth"))
        raise WeightsError(
            f"{path} holds more than tensors and plain values ({error}) and is not loaded because it could run code; "
            "if you trust its author, keep only its tensors with the following command, and give the new file: "
            f'python -c "{program}" {names}'
        ) from error
    except DAMAGED as error:
        raise WeightsError(f"{path} is not a readable checkpoint: it is damaged or of another format") from error
    values = content.pop("model")
    if not isinstance(values, dict) or not values:
        raise WeightsError(f"{path} holds no weights under 'model': give a checkpoint")
    if not any(hasattr(value, "shape") for value in values.values()):
        raise WeightsError(f"{path} holds no tensors: give a checkpoint")
    if all(key.startswith("module.") for key in values):
        values = {key.removeprefix("module."): value for key, value in values.items()}
    if query:
        content["matching_heuristics"] = True
    return Weights(values, content)


def check_weights_file(path: str, option: str = "") -> str:
    """Raise WeightsError unless a weight file is there; return where it is on this machine.

    Args:
        path: Path of the file, or a URL that can be fetched.
        option: The option of a config that names it, and may be empty instead.

    Raises:
        WeightsError: The file does not exist or cannot be fetched.
    """
    plain = path.split("?")[0]
    origin, way_out = (f"{option}: ", f", or give {option} '' for no weights") if option else ("", "")
    if "://" not in plain:
        if not os.path.isfile(plain):
            raise WeightsError(f"{origin}there is no file {plain}; correct the path{way_out}")
        return plain
    import detectron2.checkpoint.catalog  # noqa: F401  (registers detectron2://; slow to import)

    try:
        return PathManager.get_local_path(plain)
    except UserError:
        raise  # from the model zoo, whose message says more
    except Exception as error:  # whatever the handler of the URL raises
        raise WeightsError(
            f"{origin}{plain} cannot be fetched ({first_line(error)}); give the path of a copy{way_out}"
        ) from error


def _read_pkl(filename: str) -> dict[str, Any]:
    with open(filename, "rb") as file:
        data = load_arrays(file)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    data = data.get("blobs", data)
    weights = {key: value for key, value in data.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _read_torch(filename: str, mapped: bool) -> dict[str, Any]:
    try:
        mmap = mapped and is_zipfile(filename)  # older files are no archives and cannot be mapped
        data = torch.load(filename, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise UnsafePickleError(f"it holds a {refused[1]}") from error
        raise
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    if filename.endswith(".pyth"):
        return {**data, "model": data["model_state"], "matching_heuristics": True}  # pycls's names have no prefix
    key = next((key for key in WEIGHTS_KEYS if key in data), None)
    return {"model": data} if key is None else {**data, "model": data[key]}
