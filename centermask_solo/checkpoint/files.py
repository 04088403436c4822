"""Weight files as they are on disk, read without running code from them."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import torch
from detectron2.utils.file_io import PathManager
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..utils.errors import UserError, WeightsError
from ..utils.files import atomic_write
from ..utils.pickles import DAMAGED, Inert, UnsafePickleError, load_arrays
from ..utils.text import first_line, printable
from .archives import check_archive, is_safetensors
from .torch_files import read_torch

# Where the weights are in the files of Detectron2, of mmdetection, and of pycls and timm.
WEIGHTS_KEYS = ("model", "state_dict", "model_state")
# Where training puts the average of the weights, and what stands for it behind the name of a checkpoint.
AVERAGE_KEY, AVERAGE_WEIGHTS, AVERAGE_QUERY = "ema", "model", "ema=True"
RESULTS = "results"  # entry of model_best.pth and model_final.pth: the metrics of their weights, by name
SAFETENSORS_KEY = "centermask_solo"  # of the metadata of a safetensors file: what is not a tensor, as JSON


class Weights(NamedTuple):
    """The content of a weight file.

    Attributes:
        values: Tensors and arrays under the names in the file, without the "module." of data-parallel training.
        metadata: Everything else in the file. A true "matching_heuristics" asks for Detectron2's matching of names.
    """

    values: dict[str, Any]
    metadata: dict[str, Any]


def read_weights(path: str, *, mapped: bool = False) -> Weights:
    """Return the content of a weight file, without running code from it.

    Files of PyTorch (.pth and the like), safetensors, Detectron2 and Caffe2 (.pkl), and pycls (.pyth) are read.

    Args:
        path: Path of the file, or a URL that can be fetched. "?ema=True" behind it asks for the average of the weights
            that a training with ``MODEL.EMA.ENABLED`` has stored beside them.
        mapped: Map a file of PyTorch into memory instead of reading all of it: faster where only names and shapes
            matter, but the file must not be written to as long as the weights are used.

    Raises:
        WeightsError: The file is missing or damaged, holds no weights, or holds something that could run code.
    """
    filename = check_weights_file(path)
    query = path.partition("?")[2]
    if query not in ("", "matching_heuristics=True", AVERAGE_QUERY):
        raise WeightsError(
            f"{path}: of what may follow '?', only {AVERAGE_QUERY} and matching_heuristics=True are known"
        )
    try:
        content = _read_content(filename, mapped)
    except WeightsError:
        raise  # although it is a ValueError
    except UnsafePickleError as error:
        raise WeightsError(
            f"{path} is not loaded, because reading it could run code ({error}): no checkpoint needs that, so get the "
            "file from its authors again, if possible as safetensors"
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read ({error.strerror or error}): fix its permissions, or give a copy"
        ) from error
    except DAMAGED as error:
        reason = "it is damaged or of another format"
        if filename.endswith((".yaml", ".yml")):
            reason = "it is a config: give a file of weights, such as model_final.pth"
        raise WeightsError(f"{path} is not a readable checkpoint: {reason}") from error
    values = content.pop("model")
    if query == AVERAGE_QUERY:
        average = content.pop(AVERAGE_KEY, None)
        if not isinstance(average, dict) or AVERAGE_WEIGHTS not in average:
            raise WeightsError(
                f"{path}: the file holds no average of the weights, as it was written without MODEL.EMA.ENABLED: leave "
                f"out ?{AVERAGE_QUERY}"
            )
        values = average[AVERAGE_WEIGHTS]
    if not isinstance(values, dict) or not values:
        raise WeightsError(f"{path} holds no weights under 'model': give a checkpoint")
    values = {key: value for key, value in values.items() if not isinstance(value, Inert)}
    _check_values(path, values)
    if not mapped:
        _check_finite(path, values)
    if all(key.startswith("module.") for key in values):
        values = {key.removeprefix("module."): value for key, value in values.items()}
    if query == "matching_heuristics=True":
        content["matching_heuristics"] = True
    return Weights(values, content)


def without_query(path: str) -> str:
    """Return the path of a weight file without what follows "?"."""
    return path.split("?")[0]


def check_weights_file(path: str, option: str = "", required: bool = False) -> str:
    """Raise WeightsError unless a weight file is there; return where it is on this machine.

    Args:
        path: Path of the file, or a URL that can be fetched.
        option: The option of a config that names it, and may be empty instead.
        required: Whether the option may not be empty, as in evaluation.

    Raises:
        WeightsError: The file does not exist or cannot be fetched.
    """
    plain = without_query(path)
    origin = f"{option}: " if option else ""
    way_out = f", or give {option} '' for no weights" if option and not required else ""
    if len(path.splitlines()) > 1:
        raise WeightsError(f"{origin}there is a line break in the name {path!r}: rename the file")
    if "://" not in plain:
        if os.path.isdir(plain):
            raise WeightsError(
                f"{origin}{plain} is a folder: name the file of the weights in it, such as model_final.pth"
            )
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


def _check_values(path: str, values: dict[Any, Any]) -> None:
    """Raise WeightsError unless the weights have names, and those that are tensors are ordinary ones."""
    if not any(hasattr(value, "shape") for value in values.values()):
        raise WeightsError(f"{path} holds no tensors: give a checkpoint")
    for key, value in values.items():
        if not isinstance(key, str):
            raise WeightsError(
                f"{path} has an entry {key!r}, whose name is not a string: give the state dict of a model"
            )
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_quantized or value.layout != torch.strided:
            kind = "quantized" if value.is_quantized else "sparse"
            raise WeightsError(f"{path}: the entry '{key}' is {kind}: convert it to an ordinary tensor")


def _check_finite(path: str, values: dict[str, Any]) -> None:
    """Raise WeightsError if a weight is infinite or NaN: a model with it would find nothing, silently."""
    for key, value in values.items():
        if hasattr(value, "shape"):
            tensor = torch.as_tensor(value)
            tensor = tensor[tuple(slice(None if stride else 1) for stride in tensor.stride())]  # what is repeated, once
            if tensor.is_floating_point() and not tensor.is_meta and not bool(tensor.isfinite().all()):
                raise WeightsError(
                    f"{path}: the entry '{key}' is not finite, as after a training that diverged: give an earlier file"
                )


def _read_content(filename: str, mapped: bool) -> dict[str, Any]:
    if is_safetensors(filename):
        return _read_safetensors(filename)
    check_archive(filename)
    return _read_pkl(filename) if filename.endswith(".pkl") else _read_torch(filename, mapped)


def _read_safetensors(filename: str) -> dict[str, Any]:
    """Return the tensors, and the config and class names that :func:`write_safetensors` stored beside them."""
    if printable(filename) != filename:
        raise WeightsError(
            f"{printable(filename)} has a name that the safetensors package cannot open: rename the file"
        )
    try:
        with safe_open(filename, framework="pt") as file:
            metadata = file.metadata() or {}
            values = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    own = json.loads(metadata.get(SAFETENSORS_KEY, "{}"))
    return {**own, "model": values}


def write_safetensors(path: str, content: dict[str, Any]) -> None:
    """Write a checkpoint as a safetensors file, atomically.

    Args:
        path: File to write.
        content: Tensors under "model"; everything else, such as the config, must be plain values.
    """
    tensors = {key: value.contiguous() for key, value in content["model"].items()}
    plain = {key: value for key, value in content.items() if key != "model"}
    with atomic_write(path, "wb") as file:
        file.write(save(tensors, {"format": "pt", SAFETENSORS_KEY: json.dumps(plain)}))


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
    data = read_torch(filename, mapped)
    if isinstance(data, Inert):
        raise WeightsError(
            f"{filename} holds a whole object instead of weights: save its state_dict() in the program that made it"
        )
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    data = {key: value for key, value in data.items() if not isinstance(value, Inert)}
    if filename.endswith(".pyth"):
        return {**data, "model": data["model_state"], "matching_heuristics": True}  # pycls's names have no prefix
    key = next((key for key in WEIGHTS_KEYS if key in data), None)
    return {"model": data} if key is None else {**data, "model": data[key]}
