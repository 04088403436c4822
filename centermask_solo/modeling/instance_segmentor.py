"""The base of the one-stage systems: images in, full-image instance masks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.modeling import Backbone, build_backbone
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.visualizer import Visualizer
from torch import Tensor, nn

from .instance_nms import InstanceNMS

MAX_VISUALIZED = 20  # predicted instances in a picture of the training, as in Detectron2's dense detectors


class InstanceSegmentor(nn.Module):
    """A one-stage instance segmentor: ``predict``, ``label``, ``losses``, ``inference``, then ``postprocess``.

    A subclass supplies the five verbs; this class supplies what surrounds them: normalization and padding, the choice
    between training and inference, and the frame of Detectron2's inputs and outputs.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        num_classes: int,
        test_nms: InstanceNMS,
        test_score_thresh: float,
        test_max_candidates: int,
        test_max_detections: int = 100,
        vis_period: int = 0,
        input_format: str = "BGR",
    ) -> None:
        """
        Args:
            backbone: gives the feature maps; its ``size_divisibility`` decides the padding.
            pixel_mean: one number a channel, in the channel order of the input, subtracted from the image.
            pixel_std: one number a channel, which divides the image afterwards.
            num_classes: foreground classes K.
            test_nms: suppresses duplicates among the candidates of an image.
            test_score_thresh: class probability of a candidate, strictly above.
            test_max_candidates: instances that enter NMS at most.
            test_max_detections: instances of an image at most; negative for no limit, as in Detectron2.
            vis_period: iterations between two pictures of the training in the event storage; 0 for none.
            input_format: the order of the input's channels, which those pictures need to know.
        """
        super().__init__()
        self.vis_period, self.input_format = vis_period, input_format
        self.backbone = backbone
        self.num_classes = num_classes
        self.test_nms, self.test_score_thresh = test_nms, test_score_thresh
        self.test_max_candidates, self.test_max_detections = test_max_candidates, test_max_detections
        # Not persistent: published checkpoints do not have them, and the config states them.
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Those of the constructor's arguments that are Detectron2's options; the system's own it adds itself."""
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "test_max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "vis_period": cfg.VIS_PERIOD,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """The losses in training, the instances in inference, in Detectron2's format.

        Args:
            batched_inputs: one dict an image: ``image``, (C, H, W) in 0..255; in training ``instances`` with
                ``gt_boxes``, ``gt_classes`` and ``gt_masks`` in the frame of ``image``; in inference ``height`` and
                ``width`` of the output, by default those of ``image``.

        Returns:
            In training a dict of scalar losses. In inference one ``{"instances": Instances}`` an image, of the output
            size, best first, with ``pred_boxes``, ``scores``, ``pred_classes`` and ``pred_masks`` (bool, (M, H, W)).
        """
        images = self.preprocess_image(batched_inputs)
        predictions = self.predict(images.tensor)
        if self.training:
            if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
                self.visualize_training(batched_inputs, predictions, images.image_sizes)
            gt_instances = [x["instances"].to(self.device) for x in batched_inputs]
            return self.losses(predictions, self.label(predictions, gt_instances))
        results = self.inference(predictions, images.image_sizes)
        outputs = []
        for i, (result, x) in enumerate(zip(results, batched_inputs, strict=True)):
            height, width = x["image"].shape[-2:]
            output_size = (int(x.get("height", height)), int(x.get("width", width)))
            outputs.append({"instances": self.postprocess(result, predictions, i, output_size)})
        return outputs

    @torch.no_grad()
    def visualize_training(
        self, batched_inputs: list[dict[str, Any]], predictions: Any, image_sizes: list[tuple[int, int]]
    ) -> None:
        """Put a picture of the first image into the event storage: the truth above, the best instances below."""
        image = convert_image_to_rgb(batched_inputs[0]["image"].permute(1, 2, 0), self.input_format)
        instances = batched_inputs[0]["instances"]
        truth = Visualizer(image).overlay_instances(
            boxes=instances.gt_boxes, masks=instances.gt_masks if instances.has("gt_masks") and len(instances) else None
        )
        best = self.inference(predictions, image_sizes)[0][:MAX_VISUALIZED]
        best = self.postprocess(best, predictions, 0, image.shape[:2])
        shapes = {"masks": best.pred_masks.cpu()} if best.has("pred_masks") else {"boxes": best.pred_boxes.to("cpu")}
        found = Visualizer(image).overlay_instances(**shapes)
        picture = np.vstack((truth.get_image(), found.get_image())).transpose(2, 0, 1)
        kind = next(iter(shapes))
        name = f"Top: GT {kind}; Bottom: {MAX_VISUALIZED} Highest Scoring Results"
        get_event_storage().put_image(name, picture)

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """The normalized images as one zero-padded batch on the model's device: (N, C, T_h, T_w) float32."""
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        return ImageList.from_tensors(
            images, self.backbone.size_divisibility, padding_constraints=self.backbone.padding_constraints
        )

    def predict(self, images: Tensor) -> Any:
        """What the networks compute, as a NamedTuple of tensors, from a normalized batch (N, C, T_h, T_w)."""
        raise NotImplementedError

    def label(self, predictions: Any, gt_instances: list[Instances]) -> Any:
        """The training targets of ``predictions``, as a NamedTuple of tensors without gradient."""
        raise NotImplementedError

    def losses(self, predictions: Any, targets: Any) -> dict[str, Tensor]:
        """The weighted losses: the same keys always, zero but connected to the parameters where nothing applies."""
        raise NotImplementedError

    def inference(self, predictions: Any, image_sizes: list[tuple[int, int]]) -> list[Instances]:
        """The detections of each image in the network's input frame, best first: all but their full-size masks.

        Args:
            predictions: what :meth:`predict` returns.
            image_sizes: (height, width) of each image before padding.
        """
        raise NotImplementedError

    def suppress(self, candidates: Instances) -> Instances:
        """Those of one image's candidates that NMS keeps, best first, no more than there may be."""
        kept = self.test_nms(candidates)
        return kept if self.test_max_detections < 0 else kept[: self.test_max_detections]

    def postprocess(
        self, instances: Instances, predictions: Any, index: int, output_size: tuple[int, int]
    ) -> Instances:
        """The detections of one image at ``output_size``, with ``pred_masks`` and ``pred_boxes``.

        Masks are made here, from what ``inference`` chose and from ``predictions``, so that masks of full size exist
        for the detections of one image only, and never as floats.

        Args:
            instances: what :meth:`inference` returns for the image.
            predictions: of the batch.
            index: the image's place in the batch.
            output_size: (height, width).
        """
        raise NotImplementedError
