"""Predictions of a folder of images, as a COCO json and as pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import cv2
from detectron2.config import CfgNode
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from pycocotools.mask import area
from tqdm import tqdm

from ..utils.errors import ConfigError
from ..utils.files import atomic_write, make_folder
from ..visualization.drawing import draw_predictions
from .predictor import Predictor, default_score_threshold
from .sources import find_images

PREDICTIONS = "predictions.json"


def predict_to_folder(
    cfg: CfgNode,
    inputs: Sequence[str],
    output_dir: str,
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
    with_pictures: bool = True,
    recursive: bool = False,
) -> int:
    """Write the instances in images to ``predictions.json``, with a picture of each image; return their number.

    Args:
        cfg: Config that names model and weights.
        inputs: Files, folders and patterns.
        output_dir: Folder of the results, created if missing.
        score_threshold: Instances with lower scores are dropped (default: the threshold of the config's system).
        batch_size: Images per forward pass.
        with_pictures: Whether to draw the instances, too.
        recursive: Whether folders include their subfolders.

    Raises:
        ConfigError: ``batch_size`` is not positive, ``output_dir`` cannot be created, or the config cannot predict.
        DataError: An input matches no image, or an image cannot be read.
        WeightsError: The weights do not fill the model.
    """
    if batch_size < 1:
        raise ConfigError(f"a batch of {batch_size} images is impossible: give 1 or more")
    threshold = default_score_threshold(cfg) if score_threshold is None else score_threshold
    paths = find_images(inputs, recursive)
    make_folder(output_dir)
    predictor = Predictor(cfg)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, image, output) in enumerate(
        tqdm(predictor.predict_files(paths, batch_size), total=len(paths)), 1
    ):
        instances = output["instances"].to("cpu")
        instances = instances[instances.scores >= threshold]
        height, width = image.shape[:2]
        images.append({"id": image_id, "file_name": path, "height": height, "width": width})
        annotations += _annotations(instances, image_id, first_id=len(annotations) + 1)
        if with_pictures:
            picture = draw_predictions(image[:, :, ::-1], instances, predictor.metadata)
            _write_jpeg(_picture_path(output_dir, path, image_id), picture[:, :, ::-1])
    names = predictor.metadata.get("thing_classes", [])
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    with atomic_write(os.path.join(output_dir, PREDICTIONS)) as file:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
    return len(annotations)


def _annotations(instances: Instances, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return the instances as COCO annotations with scores; category ids start at 1."""
    found = instances_to_coco_json(instances, image_id)
    for i, x in enumerate(found):
        x |= {"id": first_id + i, "category_id": x["category_id"] + 1, "iscrowd": 0}
        x["area"] = int(area(x["segmentation"])) if "segmentation" in x else x["bbox"][2] * x["bbox"][3]
    return found


def _picture_path(output_dir: str, path: str, image_id: int) -> str:
    """Return a path that is unique even among images of the same name in different folders."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return os.path.join(output_dir, f"{image_id:04d}_{stem}.jpg")


def _write_jpeg(path: str, picture: Any) -> None:
    """Write an image, (H, W, 3) uint8 in BGR order."""
    _, encoded = cv2.imencode(".jpg", picture)
    with atomic_write(path, "wb") as file:
        file.write(encoded.tobytes())
