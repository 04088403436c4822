"""Linear SVMs with mined negatives, and box regression: what R-CNN fits to the features of its regions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...utils.errors import MissingPackageError

Floats = NDArray[np.float32]

FEATURE_NORM = 20.0  # mean norm that features are scaled to, which the paper's C is for
HARD, EASY = -1.0, -1.2  # margins: a negative above the first is added, one below the second is dropped
BIAS_SCALE = 10.0  # of the constant feature whose weight is the bias, so that its norm hardly counts
MAX_STEPS = 2000  # of liblinear
NEVER = -100.0  # bias of a class without objects


@dataclass(frozen=True)
class SVMOptions:
    """How an SVM is trained: see ``MODEL.RCNN.FIT``."""

    c: float
    positive_weight: float
    max_negatives: int
    retrain_after: int = 2000  # new negatives


class MinedSVM:
    """The SVM of a class, trained again whenever enough negatives have been found that it does not reject.

    Attributes:
        weight: (D,) float64.
        bias: Of the margin ``features @ weight + bias``.
        rounds: How often it has been trained.
    """

    def __init__(self, positives: Floats, options: SVMOptions) -> None:
        """
        Args:
            positives: (P, D), features of the objects of the class.
            options: How it is trained.
        """
        self.positives, self.options = positives, options
        self.weight = np.zeros(positives.shape[1])
        self.bias = 0.0 if len(positives) else NEVER
        self.rounds = 0
        self._negatives: list[Floats] = []
        self._new = 0

    @property
    def negatives(self) -> Floats:
        """The negatives that it holds, (n, D)."""
        return np.concatenate([self.positives[:0], *self._negatives])

    def margins(self, features: Floats) -> NDArray[np.float64]:
        """Return the margins of features (n, D), positive where the class is seen."""
        return features @ self.weight + self.bias

    def mine(self, features: Floats) -> None:
        """Take from negatives (n, D) those that are hard, or all of them before the first training."""
        if not len(self.positives):
            return
        hard = features[self.margins(features) > HARD] if self.rounds else features
        self._negatives.append(np.ascontiguousarray(hard))
        self._new += len(hard)
        if self._new >= self.options.retrain_after:
            self.train()

    def train(self) -> None:
        """Train on the negatives found so far, and drop those that have become easy."""
        negatives = np.unique(self.negatives, axis=0)  # another pass finds some again
        if not self._new or not len(negatives) or not len(self.positives):
            return
        from sklearn.svm import LinearSVC

        labels = np.concatenate([np.ones(len(self.positives)), np.zeros(len(negatives))])
        svm = LinearSVC(
            C=self.options.c,
            loss="hinge",
            class_weight={1: self.options.positive_weight, 0: 1.0},
            intercept_scaling=BIAS_SCALE,
            max_iter=MAX_STEPS,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it could be still a little better
            svm.fit(np.concatenate([self.positives, negatives]), labels)
        self.weight, self.bias = svm.coef_[0], float(svm.intercept_[0])
        self.rounds, self._new = self.rounds + 1, 0
        margins = self.margins(negatives)
        kept = np.flatnonzero(margins >= EASY)
        kept = kept[np.argsort(-margins[kept], kind="stable")][: self.options.max_negatives]
        self._negatives = [negatives[kept]]


def fit_ridge(features: Floats, targets: Floats, strength: float) -> tuple[Floats, Floats]:
    """Return the weights (4, D) and biases (4,) that predict targets from features, by ridge regression.

    Args:
        features: (n, D).
        targets: (n, 4), transformations of boxes.
        strength: Weight of the squared norm of the weights against the sum of squared errors.

    Returns:
        Zeros without any features.
    """
    if not len(features):
        return np.zeros((4, features.shape[1]), np.float32), np.zeros(4, np.float32)
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=strength).fit(features.astype(np.float64), targets)
    return model.coef_.astype(np.float32), model.intercept_.astype(np.float32)


def require_sklearn() -> Any:
    """Return the package sklearn; raise MissingPackageError if it is not installed."""
    try:
        import sklearn
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise MissingPackageError(
            "R-CNN is fitted with the package scikit-learn, which is not installed: run 'pip install scikit-learn'"
        ) from error
    return sklearn
