"""The one way in which weights enter a model and leave it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import IO, Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from .sources import find_source

# What an ImageNet file has beyond the backbone: its classifier, one or two layers of at most a weight and a bias each.
MAX_CLASSIFIER_KEYS = 4
# What the config states or what only counts batches: it may be in a file or in a model without a counterpart.
IGNORED_SUFFIXES = ("num_batches_tracked", "pixel_mean", "pixel_std")

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


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, which reads files safely and does not let a wrong one pass.

    Differs: files are read without running code from them; a file of another model is an error instead of a warning;
    class names are saved with the weights, and come back as ``thing_classes`` of what :meth:`load` returns.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        complete: bool = False,
        thing_classes: Sequence[str] | None = None,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model: whose parameters are loaded and saved.
            save_dir: where checkpoints are written, and looked for on resuming.
            complete: a file that leaves a parameter unfilled is an error (for prediction and evaluation, which would
                be meaningless), not a warning (for training, which may start from a backbone).
            thing_classes: names of the classes in the order of the model's outputs, to be saved with the weights.
            checkpointables: what else is saved and loaded, as in Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.thing_classes = thing_classes
        self._file = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth to the folder of checkpoints, with the class names where they are known."""
        if self.thing_classes is not None:
            kwargs["thing_classes"] = list(self.thing_classes)
        super().save(name, **kwargs)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the file holds beyond model and checkpointables, which are loaded; ``path`` may be empty.

        Raises:
            FileNotFoundError: there is no such file, or it cannot be fetched.
            ValueError: it is no checkpoint, or one of another model.
        """
        if path:
            check_weights_file(path)
        self._file = path
        self._parsed_url_during_load = None  # Detectron2 asserts it, but does not reset it after a failure
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            if filename.endswith(".pkl"):
                return _read_pkl(filename)
            if filename.endswith(".pyth"):  # pycls
                return {"model": self._torch_load(filename)["model_state"], "matching_heuristics": True}
            return super()._load_file(filename)
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self._file} cannot be read as a checkpoint: it is damaged, or holds more than tensors and "
                f"plain values, which is not loaded because it could run code ({_first_line(error)})"
            ) from error

    def _torch_load(self, f: str) -> Any:
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        values = checkpoint["model"]
        if not isinstance(values, dict) or not values:
            raise ValueError(f"{self._file} holds no weights under 'model'")
        if not any(hasattr(value, "shape") for value in values.values()):
            raise ValueError(f"{self._file} holds no tensors: is it a checkpoint?")
        num_keys, example = len(values), next(iter(values))
        try:
            checkpoint = {**checkpoint, **_under_our_names(values)}
        except ValueError as error:
            raise ValueError(f"{self._file}: {error}") from error
        incompatible = super()._load_model(checkpoint)
        for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
            keys[:] = [key for key in keys if not key.endswith(IGNORED_SUFFIXES)]
        self._check(incompatible, num_keys, example)
        return incompatible

    def _check(self, incompatible: Any, num_keys: int, example: str) -> None:
        """Judge whether the file belongs to the model: an error, a line in the log, or nothing to say."""
        keys = [key for key in self.model.state_dict() if not key.endswith(IGNORED_SUFFIXES)]
        wrong_shapes = [key for key, _, _ in incompatible.incorrect_shapes]
        unfilled = {*incompatible.missing_keys, *wrong_shapes} & set(keys)
        rest = [key for key in keys if not key.startswith("backbone.")]
        unfilled_rest = [key for key in rest if key in unfilled]
        name = type(self.model).__name__
        advice = "give weights of this model, or a config that fits the file"
        if len(unfilled) == len(keys):
            raise ValueError(
                f"{self._file} holds the weights of another model: none of its {num_keys} keys (such as '{example}') "
                f"fits {name} (such as '{keys[0]}'); {advice}"
            )
        foreign = [key for key in incompatible.unexpected_keys if key not in keys]
        if len(unfilled_rest) > len(rest) / 2 and len(foreign) > MAX_CLASSIFIER_KEYS:
            raise ValueError(
                f"{self._file} holds the weights of another model: outside the backbone it lacks "
                f"{len(unfilled_rest)} of the {len(rest)} parameters of {name} (such as '{unfilled_rest[0]}'), and "
                f"{len(foreign)} of its own (such as '{foreign[0]}') have no place; {advice}"
            )
        if self.complete and unfilled:
            raise ValueError(
                f"{self._file} lacks {len(unfilled)} of the {len(keys)} parameters of {name} (such as '{min(unfilled)}'"
                f"{_shapes(incompatible.incorrect_shapes)}), so its detections would be meaningless; {advice}"
            )
        if rest and len(unfilled_rest) == len(rest):
            self.logger.info(
                f"{self._file} fills {len(keys) - len(unfilled)} parameters of the backbone; "
                f"the other {len(unfilled)} parameters of {name} start from their initialization."
            )
            incompatible.missing_keys.clear()


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


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values, refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return super().find_class(module, name)


def _under_our_names(values: dict[str, Any]) -> dict[str, Any]:
    """What of a checkpoint changes where its weights have the names of another code base.

    Raises:
        ValueError: the code base is known, but not all of the names.
    """
    source = find_source(values)
    if source is None:
        return {}
    # Detectron2's heuristics find where in the model a bare backbone sits.
    return {"model": source.translate(values).weights, "matching_heuristics": not source.system}


def _read_pkl(filename: str) -> dict[str, Any]:
    """The content of a file of Detectron2's or Caffe2's model zoo, in the form Detectron2 expects."""
    with PathManager.open(filename, "rb") as file:
        data = _unpickle(file)
    if not isinstance(data, dict):
        raise TypeError(f"it holds a {type(data).__name__}")
    if "model" in data and "__author__" in data:
        return data
    data = data.get("blobs", data)
    weights = {key: value for key, value in data.items() if not key.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _unpickle(file: IO[bytes]) -> Any:
    return _ArrayUnpickler(file, encoding="latin1").load()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _shapes(incorrect_shapes: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> str:
    """The first wrong shape, in words; empty if there is none."""
    if not incorrect_shapes:
        return ""
    key, in_file, in_model = min(incorrect_shapes)
    return f"; '{key}' is {tuple(in_file)} there and {tuple(in_model)} here"
