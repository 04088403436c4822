"""Detections of a model in the class order of a dataset, matched by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from torch import nn

from ..data.datasets import class_names
from ..utils.class_names import class_order, explain_mismatch
from ..utils.errors import DataError

logger = logging.getLogger(__name__)

Output = dict[str, Any]  # of a model for one image


def set_class_names(model: nn.Module, names: Sequence[str] | None) -> None:
    """Let a model state the names of its classes, in the order of its outputs; None if they are unknown."""
    model.thing_classes = None if names is None else list(names)  # type: ignore[assignment]


def class_names_of(model: nn.Module) -> list[str] | None:
    """Return what :func:`set_class_names` set on a model, also through wrappers such as those of several processes."""
    names = getattr(model, "thing_classes", None)
    inner = getattr(model, "module", None) or getattr(model, "model", None)
    return class_names_of(inner) if names is None and isinstance(inner, nn.Module) else names


def order_in_dataset(names: Sequence[str] | None, dataset_name: str) -> list[int] | None:
    """Return the index in a dataset of each class of a model; None if they are in order, or names are unknown.

    Args:
        names: Class names of the model; None if they are unknown.
        dataset_name: A registered dataset.

    Raises:
        DataError: The dataset has other classes than the model; the message lists both.
    """
    theirs = None if names is None else class_names(dataset_name)
    if names is None or theirs is None:
        return None
    order = class_order(names, theirs)
    if order is None:
        raise DataError(
            f"the classes of the dataset '{dataset_name}' are not those that the model was trained on: "
            f"{explain_mismatch(names, theirs)}: give the same names in the json, in any order"
        )
    return None if order == list(range(len(order))) else order


def reorder_classes(output: Output, order: Sequence[int]) -> Output:
    """Return the output for one image with the class indices of a dataset.

    Args:
        output: ``instances``, ``panoptic_seg`` or both, in Detectron2's format; it is not changed.
        order: Index in the dataset of each class of the model.
    """
    output = dict(output)
    if "instances" in output:
        theirs: Instances = output["instances"]
        mapping = torch.as_tensor(order, device=theirs.pred_classes.device)
        output["instances"] = Instances(
            theirs.image_size, **{**theirs.get_fields(), "pred_classes": mapping[theirs.pred_classes]}
        )
    if "panoptic_seg" in output:
        segmentation, segments = output["panoptic_seg"]
        things = [x | {"category_id": order[x["category_id"]]} if x["isthing"] else x for x in segments or []]
        output["panoptic_seg"] = segmentation, None if segments is None else things
    return output


class ByName(DatasetEvaluator):
    """An evaluator that is given detections in the class order of its dataset, whatever the order of the model."""

    def __init__(self, evaluator: DatasetEvaluator, order: Sequence[int]) -> None:
        """
        Args:
            evaluator: Evaluator of the dataset.
            order: Index in the dataset of each class of the model.
        """
        self._evaluator = evaluator
        self._order = order

    def reset(self) -> None:
        self._evaluator.reset()

    def process(self, inputs: list[dict[str, Any]], outputs: list[Output]) -> None:
        self._evaluator.process(inputs, [reorder_classes(output, self._order) for output in outputs])

    def evaluate(self) -> Any:
        return self._evaluator.evaluate()


def evaluators_by_name(
    datasets: Sequence[str],
    model: nn.Module,
    evaluators: DatasetEvaluator | list[DatasetEvaluator] | None,
    build: Callable[[str], DatasetEvaluator],
) -> DatasetEvaluator | list[DatasetEvaluator] | None:
    """Return evaluators that reorder classes where a dataset has another order than the model.

    Args:
        datasets: Names of the datasets.
        model: Model that may state its names.
        evaluators: Those of the datasets, or None.
        build: Makes the evaluator of a dataset if there are none.

    Raises:
        DataError: A dataset has other classes than the model.
    """
    names = class_names_of(model)
    orders = [order_in_dataset(names, name) for name in datasets]
    if not any(orders):
        return evaluators
    logger.info("The classes of the dataset are in another order than those of the model: matched by name.")
    given = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
    given = given or [build(name) for name in datasets]
    return [ByName(x, order) if order else x for x, order in zip(given, orders, strict=True)]
