"""Run files of OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino
from numpy.typing import NDArray

from ..utils.errors import ConfigError, WeightsError
from ..utils.files import sha256_of
from .formats import files_of
from .metadata import KEY, WEIGHTS_KEY
from .session import INPUTS, Arrays, RunOptions, Sizes


class OpenVINOSession:
    """A :class:`.session.Session` of an .xml file, with the .bin beside it."""

    def __init__(self, path: str, options: RunOptions) -> None:
        """
        Args:
            path: The .xml file.
            options: ``providers`` is one device, such as "CPU", "GPU" or "NPU".

        Raises:
            ConfigError: There is no such device, or it cannot run the model.
            WeightsError: The .bin is not that of the .xml.
        """
        self._path, core = path, openvino.Core()
        device, *others = options.providers or ("CPU",)
        if others or not isinstance(device, str) or device.split(":")[0].split(".")[0] not in _devices(core):
            able = ", ".join(core.available_devices)
            asked = ", ".join(map(str, options.providers))
            raise ConfigError(f"OpenVINO cannot run on {asked}: choose one of {able}")
        # Without the hint, processors with half precision multiply in it.
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ValueError(_reason(error)) from error
        self.description = _info(model, KEY)
        weights = files_of(path)[1]
        if self.description is not None and _info(model, WEIGHTS_KEY) != sha256_of(weights):
            raise WeightsError(f"{weights} does not belong to {path}: copy both files of one export, or export again")
        self.inputs = {_name(x.names): _sizes(x.partial_shape) for x in model.inputs}
        self.outputs = {name: _sizes(x.partial_shape) for x in model.outputs for name in x.names}
        try:
            self._model = core.compile_model(model, device, settings)
        except RuntimeError as error:
            able = ", ".join(core.available_devices)
            raise ConfigError(
                f"OpenVINO cannot run {path} on {device!r} ({_reason(error)}): choose one of {able}"
            ) from error

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name.

        Raises:
            WeightsError: OpenVINO fails within the model.
        """
        try:
            found = self._model(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise WeightsError(
                f"OpenVINO cannot compute {self._path} ({_reason(error)}): export it to ONNX, or without --int8"
            ) from error
        return {name: value for output, value in found.items() for name in output.names}


def _info(model: openvino.Model, key: str) -> str | None:
    """Return a text of a model's rt_info; None if there is none."""
    return str(model.get_rt_info(key).astype(str)) if model.has_rt_info(key) else None


def _name(names: set[str]) -> str:
    """Return that of an input's names which the graph was exported with; OpenVINO may add others."""
    return min(names & set(INPUTS) or names, default="")


def _sizes(shape: openvino.PartialShape) -> Sizes:
    return tuple(int(n.get_length()) if n.is_static else None for n in shape) if shape.rank.is_static else ()


def _reason(error: RuntimeError) -> str:
    """Return why OpenVINO failed: the last line of a message whose others are places in its sources."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _devices(core: openvino.Core) -> set[str]:
    """Return the names of devices, without their numbers, and those of what chooses among them."""
    return {x.split(".")[0] for x in core.available_devices} | {"AUTO", "MULTI", "HETERO"}
