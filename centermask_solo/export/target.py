"""What a writer of a format is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch.export import ExportedProgram

from ..runtime.metadata import Metadata


@dataclass(frozen=True)
class Target:
    """What a writer of a format is given.

    Attributes:
        program: The traced graph; its inputs are named as in the contract.
        metadata: What the file should say about itself.
        path: File to write.
    """

    program: ExportedProgram
    metadata: Metadata
    path: str

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self.metadata.outputs.values())
