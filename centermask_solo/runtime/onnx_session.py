"""Run ONNX files with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from ..utils.errors import ConfigError, MissingPackageError
from ..utils.text import first_line
from .metadata import KEY
from .session import Arrays, RunOptions

_ERRORS_ONLY = 3  # of what ONNX Runtime logs
# Float32 stays float32: these providers would otherwise multiply in fewer bits.
_EXACT: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}


class OnnxSession:
    """A :class:`.session.Session` of an ONNX file."""

    def __init__(self, path: str, options: RunOptions) -> None:
        """
        Args:
            path: The file.
            options: ``providers`` are names, or pairs of a name and its options.

        Raises:
            ConfigError: This ONNX Runtime lacks a provider, or cannot use the first one.
            MissingPackageError: It is too old for the deformable convolutions of the file.
        """
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.enable_mem_pattern = False  # planning ahead doubles the memory
        settings.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        providers = [_with_options(x) for x in options.providers] or ["CPUExecutionProvider"]
        for name in map(_name, providers):
            if name not in onnxruntime.get_available_providers():
                able = ", ".join(onnxruntime.get_available_providers())
                raise ConfigError(f"this ONNX Runtime has no provider {name!r}: choose among {able}")
        try:
            self._session = onnxruntime.InferenceSession(path, settings, providers=providers, enable_fallback=0)
        except Exception as error:  # of a type of its own for each fault of a file
            if options.providers and isinstance(error, ValueError | RuntimeError):
                raise ConfigError(
                    f"ONNX Runtime cannot use {options.providers} here ({first_line(error)}): correct their options, "
                    "or choose others"
                ) from error
            if "implementation for DeformConv" not in str(error):
                raise
            raise MissingPackageError(
                f"{path} has deformable convolutions, which ONNX Runtime {onnxruntime.__version__} lacks: install 1.25 "
                "or newer, which needs Python 3.11, with 'pip install \"onnxruntime>=1.25,<2\"'"
            ) from error
        used = self._session.get_providers()[0]
        if used != _name(providers[0]):
            raise ConfigError(f"ONNX Runtime cannot use {_name(providers[0])} here, only {used}: choose that one")
        self.inputs = {x.name: tuple(map(_size, x.shape)) for x in self._session.get_inputs()}
        self.outputs = {x.name: tuple(map(_size, x.shape or ())) for x in self._session.get_outputs()}
        self.description: str | None = self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        return dict(zip(self.outputs, self._session.run(None, dict(feeds)), strict=True))


def _name(provider: Any) -> str:
    return provider if isinstance(provider, str) else str(provider[0])


def _size(n: int | str | None) -> int | None:
    return n if isinstance(n, int) else None


def _with_options(provider: Any) -> Any:
    return (provider, _EXACT[provider]) if isinstance(provider, str) and provider in _EXACT else provider
