"""Map a sample of a dataset to a training sample: Detectron2's mapper, for masks of every kind and faulty files."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.structures import BitMasks, BoxMode, Instances, PolygonMasks, polygons_to_bitmask
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from ..ops.masks import reduce_masks
from ..utils.errors import ConfigError, DataError
from .images import MAX_PIXELS, read_image, read_labels, wrong_size
from .transforms.erase import Erase
from .transforms.options import cuts_objects, with_options
from .transforms.resize import keep_a_pixel
from .transforms.ssd import build_ssd_augmentations
from .transforms.view import View

Annotation = dict[str, Any]


class InstanceMapper(DatasetMapper):
    """Detectron2's DatasetMapper, built as ``InstanceMapper(cfg, is_train, input_size, mask_sizes)``.

    Differs from it:

    * Images are read by :func:`~centermask_solo.data.images.read_image`, and label images by their numbers, not their
      colors. One that is missing, damaged or of another size than the annotations state is named in a one-line error.
    * RLE and polygons work with either ``INPUT.MASK_FORMAT``. "bitmask": every mask becomes a bitmask. "polygon": an
      image whose objects all have polygons keeps them; one with an RLE, whose holes polygons cannot express, and one
      that is cropped get bitmasks.
    * ``gt_masks`` exists for images without objects, too. Objects without an annotated mask are dropped where masks are
      learned.
    * Bitmasks are written one by one into the final tensor, so that 2,000 objects need no more memory than their masks.
    * Crowds can be kept, marked by ``gt_is_crowd``. SSD's augmentation can be used, and masks can be reduced to the
      sizes that a model trains with.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        keep_crowds: bool = False,
        min_box_size: float = 0.0,
        mask_sizes: Mapping[str, tuple[int, int]] | None = None,
        max_pixels: int = MAX_PIXELS,
        channels: int = 3,
        **options: Any,
    ) -> None:
        """
        Args:
            is_train: Whether samples have ``instances``.
            keep_crowds: Whether crowds are among them; ``gt_is_crowd``, (M,) bool, then marks them.
            min_box_size: Objects whose width or height is not above this are dropped, in pixels of the sample.
            mask_sizes: Fields that replace ``gt_masks``, with the (height, width) of their masks: (M, *size) bool.
            max_pixels: Most pixels of an image file; 0 for no limit.
            channels: Number of channels of the images.
            options: Arguments of Detectron2's mapper.
        """
        super().__init__(is_train, **options)
        self.keep_crowds, self.min_box_size = keep_crowds, min_box_size
        self.mask_sizes, self.max_pixels, self.channels = dict(mask_sizes or {}), max_pixels, channels

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool = True,
        input_size: tuple[int, int] | None = None,
        mask_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> dict[str, Any]:
        """Return the arguments of the constructor.

        Args:
            cfg: Config with the options of ``INPUT``.
            is_train: Whether the samples are for training.
            input_size: (height, width) that the model resizes every image to; None if it takes images of any size.
                ``INPUT.AUGMENTATION`` "ssd" needs it.
            mask_sizes: Reduced masks that the model trains with, which "ssd" provides; see the constructor.

        Raises:
            ConfigError: An option is unknown, or options contradict each other or the model.
        """
        options = super().from_config(cfg, is_train)
        options["augmentations"] = [keep_a_pixel(x) for x in options["augmentations"]]
        options |= {"keep_crowds": cfg.INPUT.KEEP_CROWDS, "min_box_size": cfg.INPUT.MIN_BOX_SIZE}
        options |= {"max_pixels": cfg.INPUT.MAX_IMAGE_PIXELS, "channels": cfg.INPUT.CHANNELS}
        if cfg.INPUT.AUGMENTATION not in ("default", "ssd"):
            raise ConfigError(f"INPUT.AUGMENTATION must be 'default' or 'ssd', not {cfg.INPUT.AUGMENTATION!r}")
        if is_train and cfg.INPUT.AUGMENTATION == "ssd":
            if cfg.INPUT.CHANNELS != 3:
                raise ConfigError(
                    f"INPUT.AUGMENTATION 'ssd' is for images of three colors, but INPUT.CHANNELS is "
                    f"{cfg.INPUT.CHANNELS}: set INPUT.AUGMENTATION default"
                )
            if input_size is None:
                raise ConfigError(
                    "INPUT.AUGMENTATION 'ssd' needs a model with a fixed input size, which "
                    f"{cfg.MODEL.META_ARCHITECTURE} does not have: set INPUT.AUGMENTATION default"
                )
            options["augmentations"] = build_ssd_augmentations(cfg, input_size)
            options["mask_sizes"] = mask_sizes if cfg.MODEL.MASK_ON else None
        if is_train:
            options["augmentations"] = with_options(cfg, options["augmentations"])
            options["recompute_boxes"] = options["recompute_boxes"] or (cfg.MODEL.MASK_ON and cuts_objects(cfg))
        return options

    @classmethod
    def without_augmentation(cls, cfg: CfgNode, **training_data: Any) -> InstanceMapper:
        """Return a mapper of training samples, with ground truth, whose images are as in evaluation.

        Args:
            cfg: Config with the options of ``INPUT``.
            training_data: Further arguments of :meth:`from_config`.
        """
        options = cls.from_config(cfg, True, **training_data)
        return cls(**options | {"augmentations": cls.from_config(cfg, False)["augmentations"]})

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the sample in the model's input format; raises as :meth:`map`."""
        return self.finish(self.map(dataset_dict))

    def finish(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Return a mapped sample with the reduced masks that the model trains with, if it has any."""
        if self.mask_sizes and "instances" in sample:
            instances = sample["instances"]
            for name, size in self.mask_sizes.items():
                instances.set(name, reduce_masks(instances.gt_masks.tensor, size))
            instances.remove("gt_masks")
        return sample

    def map(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return the augmented sample, with masks as large as the image.

        Raises:
            DataError: The image or an annotation cannot be used.
        """
        sample = copy.deepcopy(dataset_dict)
        image = read_image(sample["file_name"], self.image_format, self.max_pixels, self.channels)
        _check_size(sample, image)
        labels = _read_uint8_labels(sample.pop("sem_seg_file_name")) if "sem_seg_file_name" in sample else None
        boxes = _boxes(sample.get("annotations", [])) if self.is_train else None
        aug_input = T.AugInput(image, boxes=boxes, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        image_shape = aug_input.image.shape[:2]
        sample["image"] = torch.as_tensor(np.ascontiguousarray(aug_input.image.transpose(2, 0, 1)))
        if labels is not None:
            sample["sem_seg"] = torch.as_tensor(aug_input.sem_seg.astype(np.int64))
        if self.proposal_topk is not None:
            utils.transform_proposals(sample, image_shape, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, image_shape)
        return sample

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        # Select the objects
        annotations = [x for x in dataset_dict.pop("annotations") if self.keep_crowds or not x.get("iscrowd", 0)]
        if not self.use_keypoint:
            annotations = [{k: v for k, v in x.items() if k != "keypoints"} for x in annotations]
        if self.use_instance_mask:
            annotations = [x for x in annotations if x.get("segmentation")]
        annotations = [x for x in annotations if _is_shown(x, transforms)]
        masks = [x.pop("segmentation", None) for x in annotations]  # of the mapper's own copy
        _check_mask_sizes(masks, dataset_dict)
        # Transform boxes, classes and masks
        annotations = [
            utils.transform_instance_annotations(
                x, transforms, image_shape, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            for x in annotations
        ]
        instances = utils.annotations_to_instances(annotations, image_shape)
        if self.keep_crowds:
            instances.gt_is_crowd = torch.tensor([bool(x.get("iscrowd", 0)) for x in annotations], dtype=torch.bool)
        if self.use_instance_mask:
            instances.gt_masks = self._transform_masks(masks, transforms, image_shape)
            if self.recompute_boxes:
                instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = drop_vanished(instances, self.min_box_size)

    def _transform_masks(
        self, masks: list[Any], transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> BitMasks | PolygonMasks:
        cropped = any(isinstance(t, (T.CropTransform, T.PadTransform, View, Erase)) for t in transforms.transforms)
        if self.instance_mask_format == "polygon" and not cropped and all(isinstance(x, list) for x in masks):
            return PolygonMasks([_transform_polygons(x, transforms) for x in masks])
        bitmasks = torch.zeros((len(masks), *image_shape), dtype=torch.bool)
        for bitmask, mask in zip(bitmasks, masks, strict=True):
            bitmask.copy_(_transform_to_bitmask(mask, transforms, image_shape))
        for transform in transforms.transforms:
            if isinstance(transform, Erase):  # always after what moves pixels
                transform.erase(bitmasks)
        return BitMasks(bitmasks)


def _check_size(sample: Any, image: NDArray[Any]) -> None:
    """Raise DataError if an image has another size than its annotations state; add the size if they do not."""
    height, width = image.shape[:2]
    expected: tuple[int, int] = (sample.setdefault("width", width), sample.setdefault("height", height))
    if expected != (width, height):
        raise wrong_size(sample["file_name"], (width, height), expected)


def _read_uint8_labels(path: str) -> NDArray[np.uint8]:
    """Return a label image, (H, W), that augmentations can transform."""
    labels = read_labels(path)
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise DataError(f"the label image {path} has labels from {labels.min()} to {labels.max()}: use 0 to 255")
    return labels.astype(np.uint8)


def _boxes(annotations: Sequence[Annotation]) -> NDArray[np.float64]:
    """Return the boxes of objects that are no crowds, (M, 4)."""
    boxes = [_box(x) for x in annotations if not x.get("iscrowd", 0)]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _box(annotation: Annotation) -> Any:
    """Return the box of an annotation, x0 y0 x1 y1 in pixels."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def _is_shown(annotation: Annotation, transforms: T.TransformList) -> bool:
    """Return whether every :class:`View` among the transforms shows the center of an object's box."""
    box = np.array([_box(annotation)], dtype=np.float64)
    for transform in transforms.transforms:
        if isinstance(transform, View) and not transform.shows_center(box[0]):
            return False
        box = transform.apply_box(box)
    return True


def _check_mask_sizes(masks: list[Any], dataset_dict: dict[str, Any]) -> None:
    expected = (dataset_dict["height"], dataset_dict["width"])
    for mask in masks:
        if isinstance(mask, dict) and tuple(mask["size"]) != expected:
            raise DataError(
                f"an RLE of {dataset_dict.get('file_name')} is for {mask['size'][1]}x{mask['size'][0]} pixels, but the "
                f"image has {expected[1]}x{expected[0]} (width x height): correct the json"
            )


def _transform_polygons(polygons: list[Any], transforms: T.TransformList) -> list[NDArray[np.float64]]:
    # Not apply_polygons: cropping would need another package there, and rasterizing clips polygons anyway
    return [transforms.apply_coords(np.asarray(p, dtype=np.float64).reshape(-1, 2)).reshape(-1) for p in polygons]


def _transform_to_bitmask(mask: Any, transforms: T.TransformList, image_shape: tuple[int, int]) -> Tensor:
    if isinstance(mask, list):
        return torch.from_numpy(polygons_to_bitmask(_transform_polygons(mask, transforms), *image_shape))
    return torch.from_numpy(np.array(transforms.apply_segmentation(rle.decode(mask))) == 1)  # padding has another label


def drop_vanished(instances: Instances, min_box_size: float) -> Instances:
    """Return the instances that still have a box above a given size and, where masks exist, a pixel.

    Nothing is copied if all have.
    """
    keep = instances.gt_boxes.nonempty(threshold=max(min_box_size, 1e-5))
    if instances.has("gt_masks"):
        keep &= instances.gt_masks.nonempty()
    return instances if keep.all() else instances[keep]
