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
from .session import Arrays, RunOptions


class OpenVINOSession:
    """A :class:`.session.Session` of an .xml file, with the .bin beside it."""

    def __init__(self, path: str, options: RunOptions) -> None:
        """
        Args:
            path: The .xml file.
            options: ``providers`` is one device, such as "CPU", "GPU" or "NPU".

        Raises:
            ConfigError: There is no such device.
            WeightsError: The .bin is not that of the .xml.
        """
        core = openvino.Core()
        device, *others = options.providers or ("CPU",)
        if others or not isinstance(device, str) or device.split(":")[0].split(".")[0] not in _devices(core):
            able = ", ".join(core.available_devices)
            raise ConfigError(f"OpenVINO cannot run on {options.providers!r}: choose one of {able}")
        # Without the hint, processors with half precision multiply in it.
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if options.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        model = core.read_model(path)
        self.description: str | None = None
        if model.has_rt_info(KEY):
            self.description = model.get_rt_info(KEY).astype(str)
        if model.has_rt_info(WEIGHTS_KEY):
            weights = files_of(path)[1]
            if model.get_rt_info(WEIGHTS_KEY).astype(str) != sha256_of(weights):
                raise WeightsError(
                    f"{weights} does not belong to {path}: copy both files of one export, or export again"
                )
        self._model = core.compile_model(model, device, settings)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        found = self._model(dict(feeds), share_inputs=True)
        return {name: value for output, value in found.items() for name in output.names}


def _devices(core: openvino.Core) -> set[str]:
    """Return the names of devices, without their numbers, and those of what chooses among them."""
    return {x.split(".")[0] for x in core.available_devices} | {"AUTO", "MULTI", "HETERO"}
