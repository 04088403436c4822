"""Images of a dataset next to their ground truth and what a model predicts."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import load_proposals_into_dataset

from ..checkpoint.files import without_query
from ..data.loader import load_dataset
from ..data.mapper import InstanceMapper
from ..evaluation.by_name import class_names_of, order_in_dataset, reorder_classes
from ..modeling.systems import default_score_threshold
from ..utils.errors import ConfigError
from ..utils.files import claim_file
from ..utils.spread import spread
from ..visualization.contact_sheet import contact_sheet
from ..visualization.drawing import ColorBy
from .predictor import Predictor


def compare_with_ground_truth(
    cfg: CfgNode,
    path: str,
    count: int = 12,
    score_threshold: float | None = None,
    color_by: ColorBy = "instance",
    *,
    overwrite: bool = False,
) -> str:
    """Draw images of the first dataset of ``DATASETS.TEST`` next to ground truth and predictions; return ``path``.

    Args:
        cfg: Config whose ``DATASETS.TEST`` is registered.
        path: Picture to write.
        count: Maximum number of images, spread evenly over the dataset.
        score_threshold: Detections with lower scores are dropped (default: the threshold of the config's system).
        color_by: What has a color of its own: each instance, or each class.
        overwrite: Whether ``path`` is replaced if it exists.

    Raises:
        ConfigError: ``count`` is not positive, there is no dataset, or ``path`` exists or is an input.
        DataError: The dataset has other classes than the weights, by name.
    """
    if count < 1:
        raise ConfigError(f"a picture of {count} images cannot be drawn: ask for 1 or more")
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name the dataset whose images are to be drawn")
    threshold = default_score_threshold(cfg) if score_threshold is None else score_threshold
    dataset = load_dataset(cfg.DATASETS.TEST[0])
    claim_file(
        path, [without_query(cfg.MODEL.WEIGHTS), *(record["file_name"] for record in dataset)], overwrite=overwrite
    )
    predictor = Predictor(cfg)
    mapper = InstanceMapper(cfg, is_train=False)
    order = order_in_dataset(class_names_of(predictor.model), cfg.DATASETS.TEST[0])
    if cfg.MODEL.LOAD_PROPOSALS:
        dataset = load_proposals_into_dataset(list(dataset), cfg.DATASETS.PROPOSAL_FILES_TEST[0])
    chosen = [dataset[i] for i in spread(len(dataset), count)]
    with torch.no_grad():
        outputs = [predictor.model([mapper(d)])[0] for d in chosen]
    outputs = [reorder_classes(output, order) for output in outputs] if order else outputs
    instances = [output["instances"].to("cpu") for output in outputs]
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    return contact_sheet(chosen, instances, metadata, path, score_threshold=threshold, color_by=color_by)
