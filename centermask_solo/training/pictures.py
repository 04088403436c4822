"""Pictures of what a model finds in images that it is evaluated on, during its training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils.events import get_event_storage
from torch import nn

from ..data.datasets import load_dataset
from ..data.images import read_image
from ..data.mapper import InstanceMapper
from ..evaluation.by_name import class_names_of, order_in_dataset, reorder_classes
from ..modeling.systems import default_score_threshold
from ..utils.spread import spread
from ..visualization.contact_sheet import shrink
from ..visualization.drawing import draw_ground_truth, draw_predictions
from ..visualization.labels import Picture

SIDE = 640  # pixels of the longer side of a picture, at most


class Pair(NamedTuple):
    """An image with its ground truth and with what a model finds, side by side."""

    picture: Picture
    file_name: str
    number: int  # of the detections that are drawn


@torch.no_grad()
def draw_test_images(cfg: CfgNode, model: nn.Module, number: int) -> Iterator[Pair]:
    """Yield images of the first dataset of ``DATASETS.TEST``, ground truth on the left, detections on the right.

    A model without instances, such as one that only labels pixels, has none.

    Args:
        cfg: Config of the model.
        model: Model in any mode, in which it remains.
        number: Most images, spread evenly over the dataset.
    """
    name = cfg.DATASETS.TEST[0]
    dataset, metadata, mapper = load_dataset(name), MetadataCatalog.get(name), InstanceMapper(cfg, is_train=False)
    order = order_in_dataset(class_names_of(model), name)
    threshold = default_score_threshold(cfg)
    for index in spread(len(dataset), number):
        record = dataset[index]
        with inference_context(model):
            output = model([mapper(record)])[0]
        if "instances" not in output:
            return
        output = reorder_classes(output, order) if order else output
        found = output["instances"].to("cpu")
        found = found[found.scores >= threshold]
        image = shrink(read_image(record["file_name"], "RGB", cfg.INPUT.MAX_IMAGE_PIXELS), SIDE)
        pair = (draw_ground_truth(image, record, metadata), draw_predictions(image, found, metadata))
        yield Pair(np.hstack(pair), record["file_name"], len(found))


def put_pictures(cfg: CfgNode, model: nn.Module, prefix: str) -> None:
    """Put the pictures of ``TEST.PICTURES`` images into the event storage, from which TensorBoard shows them."""
    for i, pair in enumerate(draw_test_images(cfg, model, cfg.TEST.PICTURES)):
        get_event_storage().put_image(f"{prefix}/{i}", pair.picture.transpose(2, 0, 1))
