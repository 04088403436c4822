"""Evaluation with the metrics of Cityscapes."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator

from .old_numpy import old_numpy

PACKAGE = "cityscapesscripts"


class InstanceEvaluator(CityscapesInstanceEvaluator):
    """Detectron2's evaluator, with any numpy."""

    def evaluate(self) -> Any:
        """Return AP and AP50 of masks."""
        with (
            old_numpy(f"{PACKAGE}.evaluation.evalInstanceLevelSemanticLabeling") as module,
            # It would write all matches to the working directory, and cannot write numpy's integers
            patch.object(module, "writeDict2JSON", lambda *_: None),
        ):
            return super().evaluate()


class SemanticEvaluator(CityscapesSemSegEvaluator):
    """Detectron2's evaluator, with any numpy."""

    def evaluate(self) -> Any:
        """Return IoU and instance-weighted IoU of classes and of groups of them ("_sup")."""
        with old_numpy(f"{PACKAGE}.evaluation.evalPixelLevelSemanticLabeling"):
            return super().evaluate()
