"""From images to instances, with the weights and class names of a checkpoint."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from glob import glob
from typing import Any

import cv2
import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import load_proposals_into_dataset
from detectron2.data.catalog import Metadata
from detectron2.data.detection_utils import read_image as read_with_detectron2
from detectron2.engine import DefaultPredictor
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import build_model
from detectron2.structures import Instances
from pycocotools.mask import area
from tqdm import tqdm

from ..checkpoint import Checkpointer
from ..data.loader import load_dataset
from ..data.mapper import InstanceMapper
from ..visualization.pictures import SCORE_THRESHOLD, contact_sheet, draw_predictions

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Predictor(DefaultPredictor):
    """Detectron2's DefaultPredictor, also for several images at once.

    Differs from it: the weights must fill the model, and the class names in ``metadata`` come from the checkpoint where
    it has them, so that neither dataset nor registration is needed.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """
        Args:
            cfg: as for DefaultPredictor; ``MODEL.WEIGHTS`` names the weights.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: no weights are named, or they are of another model.
        """
        if not cfg.MODEL.WEIGHTS:
            raise ValueError("MODEL.WEIGHTS is empty: name the weights to predict with")
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is '{cfg.INPUT.FORMAT}': prediction knows RGB and BGR")
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        if cfg.MODEL.CHANNELS_LAST:
            self.model.to(memory_format=torch.channels_last)
        checkpoint = Checkpointer(self.model, complete=True).load(cfg.MODEL.WEIGHTS)
        self.metadata = _metadata(cfg, checkpoint.get("thing_classes"))
        size = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([size, size], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """The model's output for one image, (H, W, 3) uint8 in BGR order, in the frame of that image."""
        return self.predict_batch([original_image])[0]

    @torch.no_grad()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """The model's outputs for ``images``, in their order, from one pass through the networks.

        Smaller images are padded to the largest; as with any Detectron2 model, that can move scores in the last digits.

        Args:
            images: (H, W, 3) uint8 in BGR order, of any sizes.

        Raises:
            ValueError: the model needs precomputed proposals, which images alone do not have.
        """
        if self.cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError(
                "this model needs precomputed proposals, which images alone do not have: predict with one that makes "
                "its own, such as Faster R-CNN, or judge this one with train_net.py --eval-only"
            )
        if not images:
            return []
        return self.model([self._to_input(image) for image in images])

    def predict_files(
        self, paths: Iterable[str], batch_size: int = 1
    ) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        """For each file in order: its path, the image (BGR) and the model's output; ``batch_size`` images at once."""
        rest = iter(paths)
        while batch := list(itertools.islice(rest, batch_size)):
            images = [read_image(path) for path in batch]
            yield from zip(batch, images, self.predict_batch(images), strict=True)

    def _to_input(self, image: np.ndarray) -> dict[str, Any]:
        if self.input_format == "RGB":
            image = image[:, :, ::-1]
        height, width = image.shape[:2]
        resized = self.aug.get_transform(image).apply_image(image)
        tensor = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": tensor, "height": height, "width": width}


def _metadata(cfg: CfgNode, thing_classes: Sequence[str] | None) -> Metadata:
    """With the class names of the checkpoint; without, those of the dataset of the config, if it is registered."""
    if thing_classes is not None:
        return Metadata(name=cfg.MODEL.WEIGHTS, thing_classes=list(thing_classes))
    if cfg.DATASETS.TEST and cfg.DATASETS.TEST[0] in MetadataCatalog.list():
        return MetadataCatalog.get(cfg.DATASETS.TEST[0])
    return Metadata(name=cfg.MODEL.WEIGHTS)


def read_image(path: str) -> np.ndarray:
    """The image, (H, W, 3) uint8 in BGR order, turned as its EXIF data says.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no image that can be read.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no image {path}")
    try:
        return read_with_detectron2(path, "BGR")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as an image, it is damaged or of an unknown kind: {error}") from error


def find_images(inputs: Sequence[str]) -> list[str]:
    """The image files that ``inputs`` name: files, folders (their images, not those of folders inside) and patterns.

    Raises:
        FileNotFoundError: one of them names none.
    """
    paths: list[str] = []
    for name in inputs:
        if os.path.isdir(name):
            found = [os.path.join(name, f) for f in sorted(os.listdir(name)) if f.lower().endswith(IMAGE_SUFFIXES)]
        else:
            found = [name] if os.path.isfile(name) else sorted(glob(name, recursive=True))
        if not found:
            raise FileNotFoundError(f"there is no image {name}")
        paths += found
    return paths


def predict_to_folder(
    cfg: CfgNode,
    inputs: Sequence[str],
    output_dir: str,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    batch_size: int = 1,
    with_pictures: bool = True,
) -> int:
    """The number of instances found; ``predictions.json`` has them in COCO format, beside a picture of each image.

    Args:
        cfg: names model and weights.
        inputs: files, folders and patterns.
        output_dir: of the results; made if need be.
        score_threshold: instances with lower scores are left out.
        batch_size: images that go through the networks at once.
        with_pictures: draw the instances, too.
    """
    paths = find_images(inputs)
    predictor = Predictor(cfg)
    os.makedirs(output_dir, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, image, output) in enumerate(
        tqdm(predictor.predict_files(paths, batch_size), total=len(paths)), 1
    ):
        instances = output["instances"].to("cpu")
        instances = instances[instances.scores >= score_threshold]
        height, width = image.shape[:2]
        images.append({"id": image_id, "file_name": path, "height": height, "width": width})
        annotations += _annotations(instances, image_id, first_id=len(annotations) + 1)
        if with_pictures:
            picture = draw_predictions(image[:, :, ::-1], instances, predictor.metadata)
            cv2.imwrite(_picture_path(output_dir, path, image_id), picture[:, :, ::-1])
    names = predictor.metadata.get("thing_classes", [])
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    with open(os.path.join(output_dir, "predictions.json"), "w", encoding="utf-8") as file:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
    return len(annotations)


def _annotations(instances: Instances, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """The instances as COCO annotations with scores; categories count from 1."""
    found = instances_to_coco_json(instances, image_id)
    for i, x in enumerate(found):
        x |= {"id": first_id + i, "category_id": x["category_id"] + 1, "iscrowd": 0}
        x["area"] = int(area(x["segmentation"])) if "segmentation" in x else x["bbox"][2] * x["bbox"][3]
    return found


def _picture_path(output_dir: str, path: str, image_id: int) -> str:
    """A file that no other image of the same name in another folder has."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return os.path.join(output_dir, f"{image_id:04d}_{stem}.jpg")


def compare_with_truth(cfg: CfgNode, path: str, count: int = 12, score_threshold: float = SCORE_THRESHOLD) -> str:
    """``path``, after drawing there images of ``DATASETS.TEST`` beside their ground truth and the predictions.

    Args:
        cfg: with registered ``DATASETS.TEST``, of which the first is taken.
        path: of the picture to write.
        count: images at most, evenly spread over the dataset.
        score_threshold: detections with lower scores are left out.

    Raises:
        ValueError: ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"a picture of {count} images cannot be drawn: ask for 1 or more")
    predictor = Predictor(cfg)
    mapper = InstanceMapper(cfg, is_train=False)
    dataset = load_dataset(cfg.DATASETS.TEST[0])
    if cfg.MODEL.LOAD_PROPOSALS:
        dataset = load_proposals_into_dataset(dataset, cfg.DATASETS.PROPOSAL_FILES_TEST[0])
    chosen = dataset[:: max(1, len(dataset) // count)][:count]
    with torch.no_grad():
        instances = [predictor.model([mapper(d)])[0]["instances"].to("cpu") for d in chosen]
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    return contact_sheet(chosen, instances, metadata, path, score_threshold=score_threshold)
