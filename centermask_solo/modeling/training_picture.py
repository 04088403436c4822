"""A picture of the training in the event storage."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

MAX_VISUALIZED = 20  # predicted instances in a picture, as in Detectron2's dense detectors


class PicturedModel(Protocol):
    """The part of an ``InstanceSegmentor`` that is needed here."""

    input_format: str

    def inference(self, predictions: Any, image_sizes: list[tuple[int, int]]) -> list[Instances]: ...

    def postprocess(
        self, instances: Instances, predictions: Any, index: int, output_size: tuple[int, int]
    ) -> Instances: ...


@torch.no_grad()
def put_training_picture(
    model: PicturedModel, batched_inputs: list[dict[str, Any]], predictions: Any, image_sizes: list[tuple[int, int]]
) -> None:
    """Put a picture of the first image into the event storage: ground truth above, best detections below."""
    image = rgb_picture(batched_inputs[0]["image"], model.input_format)
    instances = batched_inputs[0]["instances"]
    drawn_gt = Visualizer(image).overlay_instances(
        boxes=instances.gt_boxes, masks=instances.gt_masks if instances.has("gt_masks") and len(instances) else None
    )
    best = model.inference(predictions, image_sizes)[0][:MAX_VISUALIZED]
    best = model.postprocess(best, predictions, 0, image.shape[:2])
    shapes = {"masks": best.pred_masks.cpu()} if best.has("pred_masks") else {"boxes": best.pred_boxes.to("cpu")}
    found = Visualizer(image).overlay_instances(**shapes)
    picture = np.vstack((drawn_gt.get_image(), found.get_image())).transpose(2, 0, 1)
    kind = next(iter(shapes))
    name = f"Top: GT {kind}; Bottom: {MAX_VISUALIZED} Highest Scoring Results"
    get_event_storage().put_image(name, picture)


def rgb_picture(image: Tensor, input_format: str) -> Any:
    """Return an image of any number of channels, (C, H, W), as (H, W, 3) in RGB order: its first three, or gray."""
    if len(image) == 3:
        return convert_image_to_rgb(image.permute(1, 2, 0), input_format)
    shown = image[:3] if len(image) > 3 else image[:1].expand(3, -1, -1)
    return convert_image_to_rgb(shown.permute(1, 2, 0), "RGB")
