"""What R-CNN does after its fine-tuning: features of all regions, SVMs with mined negatives, box regression."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from ...ops.boxes import pairwise_iou
from ...utils.array_cache import ArrayCache
from ...utils.text import counted
from .svm import FEATURE_NORM, Floats, MinedSVM, SVMOptions, fit_ridge, require_sklearn
from .targets import class_overlaps

if TYPE_CHECKING:
    from .meta_arch import RCNN

logger = logging.getLogger(__name__)

GB = 10**9


class FitOptions(NamedTuple):
    """How SVMs and box regression are fitted: see ``MODEL.RCNN.FIT``."""

    max_images: int
    svm: SVMOptions
    negative_iou: float
    passes: int
    ridge: float
    ridge_iou: float
    ridge_max_regions: int
    cache_bytes: int

    @classmethod
    def from_cfg(cls, cfg: CfgNode) -> FitOptions:
        """Return the options of a config."""
        node = cfg.MODEL.RCNN.FIT
        return cls(
            max_images=node.MAX_IMAGES,
            svm=SVMOptions(node.SVM_C, node.SVM_POSITIVE_WEIGHT, node.SVM_MAX_NEGATIVES),
            negative_iou=node.SVM_NEGATIVE_IOU,
            passes=node.SVM_PASSES,
            ridge=node.RIDGE,
            ridge_iou=node.RIDGE_IOU,
            ridge_max_regions=node.RIDGE_MAX_REGIONS,
            cache_bytes=int(node.CACHE_GB * GB),
        )


class _Image(NamedTuple):
    """The regions of an image, of which the first M are its objects."""

    pooled: NDArray[np.float16]  # (M + R, D)
    boxes: Tensor  # (M + R, 4)
    overlaps: NDArray[np.float32]  # (M + R, K), greatest IoU with an object of each class
    gt_boxes: Tensor  # (M, 4)
    gt_classes: Tensor  # (M,)


def fit(model: RCNN, batches: Iterable[list[dict[str, Any]]], folder: str, options: FitOptions) -> None:
    """Fit the SVMs and the box regression of a model in place.

    The first pass over the images computes the features of all regions, and collects the objects and what box
    regression learns from; the passes that look for hard negatives read the features from ``folder``.

    Args:
        model: With a fine-tuned network.
        batches: The same batches of training inputs in every iteration.
        folder: Where features are kept, up to ``options.cache_bytes``; those of other weights are removed.
        options: How they are fitted.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    require_sklearn()
    was_training = model.training
    model.eval()
    cache = _open_cache(model, folder, options.cache_bytes)
    samples = _Samples(model.num_classes, options)
    for image in _images(model, batches, cache, "features of regions"):
        samples.add(model, image)
    scale = FEATURE_NORM / max(samples.mean_norm(), 1e-6)
    svms = [MinedSVM(x * scale, options.svm) for x in samples.objects(model.svm.in_features)]
    for i in range(options.passes):
        name = "hard negatives" + (f", pass {i + 1} of {options.passes}" if options.passes > 1 else "")
        for image in _images(model, batches, cache, name):
            features = _embed(model, image.pooled) * scale
            for k, svm in enumerate(svms):
                svm.mine(features[image.overlaps[:, k] < options.negative_iou])
        for svm in svms:
            svm.train()
    _set(model.svm, np.stack([x.weight for x in svms]) * scale, np.array([x.bias for x in svms]))
    regressions = [fit_ridge(*x, options.ridge) for x in samples.regressions(model.box_pred.in_features)]
    _set(model.box_pred, *(np.concatenate(x) for x in zip(*regressions, strict=True)))
    model.is_fitted.fill_(True)
    model.train(was_training)
    logger.info(
        f"Fitted {counted(len(svms), 'SVM')} to {sum(len(x.positives) for x in svms)} objects and "
        f"{sum(len(x.negatives) for x in svms)} hard negatives; features: {cache.bytes / GB:.3f} GB in {cache.folder}"
    )


class _Samples:
    """What is collected in the pass over the images: features of objects, and regions near objects."""

    def __init__(self, num_classes: int, options: FitOptions) -> None:
        self._options = options
        self._objects: list[list[Floats]] = [[] for _ in range(num_classes)]
        self._near: list[list[tuple[NDArray[np.float16], Floats]]] = [[] for _ in range(num_classes)]
        self._num_near = [0] * num_classes
        self._norms: list[float] = []

    def add(self, model: RCNN, image: _Image) -> None:
        """Collect what an image has."""
        embedded = _embed(model, image.pooled)
        self._norms += np.linalg.norm(embedded, axis=1).tolist()
        num_objects = len(image.gt_classes)
        for row, k in enumerate(image.gt_classes.tolist()):
            self._objects[k].append(embedded[row : row + 1])
        for k in image.gt_classes.unique().tolist():
            rows = np.flatnonzero(image.overlaps[:, k] >= self._options.ridge_iou)
            rows = rows[rows >= num_objects][: self._options.ridge_max_regions - self._num_near[k]]
            if len(rows):
                self._num_near[k] += len(rows)
                self._near[k].append((image.pooled[rows], _offsets(model, image, rows, k)))

    def mean_norm(self) -> float:
        """Return the mean norm of the features that are classified, 0 without regions."""
        return float(np.mean(self._norms)) if self._norms else 0.0

    def objects(self, length: int) -> list[Floats]:
        """Return the features of the objects of each class, (P, length)."""
        return [np.concatenate([np.zeros((0, length), np.float32), *x]) for x in self._objects]

    def regressions(self, length: int) -> Iterator[tuple[Floats, Floats]]:
        """Yield the features (n, length) and the targets (n, 4) of box regression of each class."""
        for found in self._near:
            features = [np.zeros((0, length), np.float32), *(x.astype(np.float32) for x, _ in found)]
            yield np.concatenate(features), np.concatenate([np.zeros((0, 4), np.float32), *(y for _, y in found)])


def _offsets(model: RCNN, image: _Image, rows: NDArray[np.int64], k: int) -> Floats:
    """Return the transformation of regions into the object of a class that they overlap most, (r, 4)."""
    boxes, objects = image.boxes[rows], image.gt_boxes[image.gt_classes == k]
    nearest = objects[pairwise_iou(boxes, objects).argmax(dim=1)]
    return model.box2box_transform.get_deltas(boxes, nearest).cpu().numpy()


def _images(model: RCNN, batches: Iterable[list[dict[str, Any]]], cache: ArrayCache, name: str) -> Iterator[_Image]:
    """Yield the features of the regions of each image, with a progress bar."""
    total = len(batches) if isinstance(batches, Sized) else None
    for batch in tqdm(batches, name, total=total, unit=" images", mininterval=1.0):
        for x in batch:
            gt = x["instances"]
            gt_boxes, gt_classes = gt.gt_boxes.tensor.to(model.device), gt.gt_classes.to(model.device)
            boxes = torch.cat([gt_boxes, model.propose(x)])
            overlaps = class_overlaps(boxes, gt_boxes, gt_classes, model.num_classes).cpu().numpy()
            key = f"{x.get('file_name', '')} {tuple(x['image'].shape)} {_digest(boxes.cpu().numpy().tobytes())}"
            pooled = cache.get(key)
            if pooled is None or pooled.shape != (len(boxes), model.box_pred.in_features):
                (image,) = model.preprocess_image([x])
                pooled = model.pooled_features(image, boxes).half().cpu().numpy()
                cache.put(key, pooled)
            yield _Image(pooled, boxes, overlaps, gt_boxes, gt_classes)


def _embed(model: RCNN, pooled: NDArray[np.float16]) -> Floats:
    """Return the features that are classified, (R, FC_DIM)."""
    return model.embed(torch.from_numpy(pooled).to(model.device).float()).cpu().numpy()


def _set(layer: nn.Linear, weight: NDArray[Any], bias: NDArray[Any]) -> None:
    layer.weight.copy_(torch.from_numpy(weight))
    layer.bias.copy_(torch.from_numpy(bias))


def _open_cache(model: RCNN, folder: str, max_bytes: int) -> ArrayCache:
    """Return the cache of the features of these weights and regions, below ``folder``; remove those of others."""
    digest = hashlib.sha256(json.dumps([*model.regions, model.in_feature, model.pooled_size]).encode())
    for value in (*model.backbone.state_dict().values(), model.pixel_mean, model.pixel_std):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    own = digest.hexdigest()[:16]
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name != own:
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    return ArrayCache(os.path.join(folder, own), max_bytes)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
