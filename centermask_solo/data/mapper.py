"""From a dataset's dict to a training sample: Detectron2's mapper, for masks of every kind and faulty files."""

from __future__ import annotations

from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.structures import BitMasks, Instances, PolygonMasks, polygons_to_bitmask
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from .images import IMAGE_ERRORS, unreadable_image, wrong_size

Annotation = dict[str, Any]


class InstanceMapper(DatasetMapper):
    """Detectron2's DatasetMapper, built from a config as that one: ``InstanceMapper(cfg, is_train)``.

    Differs from it:

    * A file that is missing, damaged or of another size than the annotations say is named in one sentence.
    * RLE and polygons work with either ``INPUT.MASK_FORMAT``. "bitmask": every mask becomes a bitmask. "polygon": an
      image whose objects all have polygons keeps them; one with an RLE, which can have holes that polygons cannot
      express, or that was cropped, gets bitmasks.
    * ``gt_masks`` is there without objects, too. Objects without annotated mask are left out where masks are learned.
    * Bitmasks are made one by one in their final place: 2,000 objects cost no more than their masks.
    """

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """The sample in the model's input format.

        Raises:
            FileNotFoundError, ValueError: the image cannot be used.
        """
        name = str(dataset_dict.get("file_name"))
        try:
            return super().__call__(dataset_dict)
        except utils.SizeMismatchError as error:
            raise wrong_size(name, (dataset_dict["width"], dataset_dict["height"])) from error
        except IMAGE_ERRORS as error:
            raise unreadable_image(name, error) from error

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        annotations = [x for x in dataset_dict.pop("annotations") if not x.get("iscrowd", 0)]
        if not self.use_keypoint:
            annotations = [{k: v for k, v in x.items() if k != "keypoints"} for x in annotations]
        if self.use_instance_mask:
            annotations = [x for x in annotations if x.get("segmentation")]
        masks = [x.pop("segmentation", None) for x in annotations]  # of the mapper's own copy
        _check_mask_sizes(masks, dataset_dict)
        annotations = [
            utils.transform_instance_annotations(
                x, transforms, image_shape, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            for x in annotations
        ]
        instances = utils.annotations_to_instances(annotations, image_shape)
        if self.use_instance_mask:
            instances.gt_masks = self._transform_masks(masks, transforms, image_shape)
            if self.recompute_boxes:
                instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = _without_vanished(instances)

    def _transform_masks(
        self, masks: list[Any], transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> BitMasks | PolygonMasks:
        cropped = any(isinstance(t, T.CropTransform) for t in transforms.transforms)
        if self.instance_mask_format == "polygon" and not cropped and all(isinstance(x, list) for x in masks):
            return PolygonMasks([_transform_polygons(x, transforms) for x in masks])
        bitmasks = torch.zeros((len(masks), *image_shape), dtype=torch.bool)
        for bitmask, mask in zip(bitmasks, masks, strict=True):
            bitmask.copy_(_transform_to_bitmask(mask, transforms, image_shape))
        return BitMasks(bitmasks)


def _check_mask_sizes(masks: list[Any], dataset_dict: dict[str, Any]) -> None:
    expected = (dataset_dict["height"], dataset_dict["width"])
    for mask in masks:
        if isinstance(mask, dict) and tuple(mask["size"]) != expected:
            raise ValueError(
                f"an RLE of {dataset_dict.get('file_name')} is for {mask['size'][1]}x{mask['size'][0]} pixels, but the "
                f"image has {expected[1]}x{expected[0]} (width x height): correct the json"
            )


def _transform_polygons(polygons: list[Any], transforms: T.TransformList) -> list[NDArray[np.float64]]:
    # Not apply_polygons: cropping would need another package there, and rasterizing cuts polygons off anyway.
    return [transforms.apply_coords(np.asarray(p, dtype=np.float64).reshape(-1, 2)).reshape(-1) for p in polygons]


def _transform_to_bitmask(mask: Any, transforms: T.TransformList, image_shape: tuple[int, int]) -> Tensor:
    if isinstance(mask, list):
        return torch.from_numpy(polygons_to_bitmask(_transform_polygons(mask, transforms), *image_shape))
    return torch.from_numpy(np.array(transforms.apply_segmentation(rle.decode(mask))))


def _without_vanished(instances: Instances) -> Instances:
    """The instances that still have a box and, where masks are there, a pixel; nothing is copied if all have."""
    keep = instances.gt_boxes.nonempty(threshold=1e-5)
    if instances.has("gt_masks"):
        keep &= instances.gt_masks.nonempty()
    return instances if keep.all() else instances[keep]
