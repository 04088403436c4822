"""What a writer of a format is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.export import ExportedProgram

from ..runtime.metadata import Metadata

if TYPE_CHECKING:
    from .int8 import Calibration


@dataclass(frozen=True)
class Target:
    """What a writer of a format is given.

    Attributes:
        program: The traced graph; its inputs are named as in the contract.
        metadata: What the file should say about itself.
        path: File to write.
        calibration: For 8-bit integers; None for float32.
    """

    program: ExportedProgram
    metadata: Metadata
    path: str
    calibration: Calibration | None = None

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self.metadata.outputs.values())
