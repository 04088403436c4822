"""Run ONNX files with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from ..utils.errors import ConfigError, MissingPackageError
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
            ConfigError: This ONNX Runtime lacks a provider.
            MissingPackageError: It is too old for the deformable convolutions of the file.
        """
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.enable_mem_pattern = False  # planning ahead doubles the memory
        settings.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "0")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        providers = [_with_options(x) for x in options.providers] or ["CPUExecutionProvider"]
        for provider in providers:
            name = provider if isinstance(provider, str) else provider[0]
            if name not in onnxruntime.get_available_providers():
                able = ", ".join(onnxruntime.get_available_providers())
                raise ConfigError(f"this ONNX Runtime has no provider {name!r}: choose among {able}")
        try:
            self._session = onnxruntime.InferenceSession(path, settings, providers=providers)
        except Exception as error:  # of a type of its own for each kind
            if "implementation for DeformConv" not in str(error):
                raise
            raise MissingPackageError(
                f"{path} has deformable convolutions, which ONNX Runtime {onnxruntime.__version__} lacks: install 1.25 "
                "or newer, which needs Python 3.11, with 'pip install \"onnxruntime>=1.25,<2\"'"
            ) from error
        self._outputs = [x.name for x in self._session.get_outputs()]
        self.description: str | None = self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs by name."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))


def _with_options(provider: Any) -> Any:
    return (provider, _EXACT[provider]) if isinstance(provider, str) and provider in _EXACT else provider
