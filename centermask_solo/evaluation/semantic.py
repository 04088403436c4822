"""Evaluation of semantic segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import SemSegEvaluator
from numpy.typing import NDArray

from ..data.images import read_labels
from ..utils.errors import ConfigError, DataError


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's evaluator, which works with numpy 2 and names label images that cannot be used."""

    def __init__(self, dataset_name: str, *args: Any, **options: Any) -> None:
        """See ``SemSegEvaluator``."""
        super().__init__(dataset_name, *args, sem_seg_loading_fn=self._read, **options)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of a batch; see ``SemSegEvaluator.process``.

        Raises:
            ConfigError: The model has another number of classes than the dataset.
            DataError: A label image is missing, damaged or of the wrong size, or has an unknown label.
        """
        for x, output in zip(inputs, outputs, strict=True):
            num_classes, height, width = output["sem_seg"].shape
            if num_classes != self._num_classes:
                raise ConfigError(
                    f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but the dataset '{self._dataset_name}' has "
                    f"{self._num_classes} stuff_classes: set MODEL.SEM_SEG_HEAD.NUM_CLASSES {self._num_classes}"
                )
            path = self.input_file_to_gt_file[x["file_name"]]
            found = self._read(path).shape
            if found != (height, width):
                raise DataError(
                    f"the label image {path} has {found[1]}x{found[0]} pixels, but its image {x['file_name']} has "
                    f"{width}x{height} (width x height): create it again"
                )
        super().process(inputs, outputs)

    def _read(self, path: str, dtype: Any = int) -> NDArray[Any]:
        labels = read_labels(path).astype(dtype)
        unknown = labels[(labels != self._ignore_label) & ((labels < 0) | (labels >= self._num_classes))]
        if unknown.size:
            raise DataError(
                f"the label image {path} has the label {unknown[0]}, but the dataset has only the classes 0 to "
                f"{self._num_classes - 1} and {self._ignore_label} for unlabeled pixels: correct it, or stuff_classes"
            )
        return labels
