"""The error of images beyond the limit of pixels, whose fix depends on where the limit is set."""

from __future__ import annotations

from ..utils.errors import DataError


class TooLargeError(DataError):
    """An image with more pixels than are to be decoded.

    Attributes:
        fault: What is wrong, without what to do.
        pixels: Their number.
    """

    def __init__(self, fault: str, pixels: int = 0, fix: str = "") -> None:
        """
        Args:
            fault, pixels: The attributes; workers of PyTorch hand errors over as one text.
            fix: What lets the image be read.
        """
        super().__init__(f"{fault}; to read it nevertheless, {fix}" if fix else fault)
        self.fault, self.pixels = fault, pixels

    def advising(self, fix: str) -> TooLargeError:
        """Return the same error with what lets the image be read."""
        return TooLargeError(self.fault, self.pixels, fix)
