"""The class of every pixel, in place of the scores of all classes."""

from __future__ import annotations

from torch import Tensor


class LabelMap:
    """What ``sem_seg`` of an image is instead of a float tensor (C, H, W) that would be large.

    It has the ``shape`` of that tensor, and its ``argmax`` over the classes, which is all that evaluators read.
    """

    def __init__(self, labels: Tensor, num_classes: int) -> None:
        """
        Args:
            labels: (H, W) int64, the class of each pixel.
            num_classes: C.
        """
        self.labels = labels
        self.shape = (num_classes, *labels.shape)

    def argmax(self, dim: int) -> Tensor:
        """Return the class of each pixel, (H, W) int64.

        Args:
            dim: 0, the dimension of the classes.

        Raises:
            ValueError: It is another dimension.
        """
        if dim != 0:
            raise ValueError(f"a map of labels knows the best class of each pixel, not an argmax over dimension {dim}")
        return self.labels
