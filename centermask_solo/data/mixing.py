"""Samples that are mixed from several: copy-paste and mosaic. Masks stay exact, because no pixel is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances

from ..utils.errors import ConfigError
from .mapper import InstanceMapper, drop_vanished

Sample = dict[str, Any]

FILL = 128  # of a mosaic where an image does not reach
IGNORED = 255  # label of its pixels there, as in Detectron2's datasets
CENTER = (0.3, 0.7)  # where the four images of a mosaic meet, relative to its sides
MIN_SIDE = 1.0  # pixels of a box without mask that stays in a mosaic


class MixingMapper:
    """Maps a sample like an :class:`InstanceMapper`, and mixes it with others of the dataset.

    All are augmented first. A mosaic shows windows of four images around a random point; copy-paste then puts objects
    of another image over it, which hide what is below. Objects of which nothing is left are dropped; boxes are those
    around the masks.

    Random numbers come from NumPy's global generator, which the loader seeds for each sample.
    """

    def __init__(
        self,
        mapper: InstanceMapper,
        dataset: Sequence[Sample],
        *,
        paste_prob: float = 0.0,
        paste_max: int = 10,
        mosaic_prob: float = 0.0,
        mosaic_end: float = float("inf"),
    ) -> None:
        """
        Args:
            mapper: Maps each sample.
            dataset: Samples to mix with.
            paste_prob: Share of the samples that get objects of another one.
            paste_max: Most objects that are pasted.
            mosaic_prob: Share of the samples that become mosaics.
            mosaic_end: Position in the stream of samples from which on there are no mosaics.
        """
        mapper.instance_mask_format = "bitmask"
        self.mapper, self.dataset = mapper, dataset
        self.paste_prob, self.paste_max = paste_prob, paste_max
        self.mosaic_prob, self.mosaic_end = mosaic_prob, mosaic_end
        self.position = 0  # of the next sample in the stream; the loader sets it

    @property
    def augmentations(self) -> Any:
        """The augmentations of each sample."""
        return self.mapper.augmentations

    @property
    def mixing(self) -> list[str]:
        """What is done to the augmented samples, in words."""
        shares = {"Mosaic": self.mosaic_prob, "CopyPaste": self.paste_prob}
        return [f"{name}(prob={prob:g})" for name, prob in shares.items() if prob]

    def __call__(self, sample: Sample) -> Sample:
        """Return the mapped and mixed sample."""
        mapped = self.mapper.map(sample)
        if self.position < self.mosaic_end and _draw() < self.mosaic_prob:
            mapped = mosaic([mapped, *(self._another() for _ in range(3))], _draw_center())
        if _draw() < self.paste_prob:
            mapped = self._paste(mapped, self._another())
        mapped["instances"] = drop_vanished(mapped["instances"], self.mapper.min_box_size)
        return self.mapper.finish(mapped)

    def _another(self) -> Sample:
        return self.mapper.map(self.dataset[_integer(len(self.dataset))])

    def _paste(self, base: Sample, other: Sample) -> Sample:
        instances = other["instances"]
        usable = list(range(len(instances)))
        if instances.has("gt_is_crowd"):
            usable = (~instances.gt_is_crowd).nonzero()[:, 0].tolist()
        if not usable:
            return base
        count = 1 + _integer(min(self.paste_max, len(usable)))
        chosen = np.random.permutation(usable)[:count]  # noqa: NPY002  (the seeded generator)
        return paste(base, other, chosen.tolist())


def with_mixing(cfg: CfgNode, mapper: Any, dataset: Sequence[Sample]) -> Any:
    """Return the mapper of a training, mixing samples if options of ``INPUT`` ask for it.

    Args:
        cfg: Config with ``INPUT.COPY_PASTE`` and ``INPUT.MOSAIC``.
        mapper: Mapper of single samples.
        dataset: Samples of the training.

    Raises:
        ConfigError: The data or the model does not allow it.
    """
    copy_paste, tiles = cfg.INPUT.COPY_PASTE, cfg.INPUT.MOSAIC
    if not (copy_paste.PROB or tiles.PROB):
        return mapper
    if copy_paste.PROB and not cfg.MODEL.MASK_ON:
        raise ConfigError("INPUT.COPY_PASTE.PROB needs masks: set MODEL.MASK_ON True, or INPUT.COPY_PASTE.PROB 0")
    if cfg.MODEL.LOAD_PROPOSALS or cfg.MODEL.KEYPOINT_ON:
        raise ConfigError(
            "INPUT.COPY_PASTE and INPUT.MOSAIC mix neither proposals nor keypoints: set INPUT.COPY_PASTE.PROB 0 and "
            "INPUT.MOSAIC.PROB 0"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN == "RandomSubsetTrainingSampler":
        raise ConfigError(
            "INPUT.COPY_PASTE and INPUT.MOSAIC take images outside of the subset of DATALOADER.RANDOM_SUBSET_RATIO: "
            "write one with 'centermask-solo data subset' and train with the TrainingSampler"
        )
    if len(dataset) and "annotations" not in dataset[0]:
        names = ", ".join(cfg.DATASETS.TRAIN)
        raise ConfigError(
            f"INPUT.COPY_PASTE and INPUT.MOSAIC mix images with their objects, but {names} has no objects: set "
            "INPUT.COPY_PASTE.PROB 0 and INPUT.MOSAIC.PROB 0"
        )
    solver = cfg.SOLVER
    samples = solver.EPOCHS * len(dataset) if solver.EPOCHS else solver.MAX_ITER * solver.IMS_PER_BATCH
    return MixingMapper(
        mapper,
        dataset,
        paste_prob=copy_paste.PROB,
        paste_max=copy_paste.MAX_OBJECTS,
        mosaic_prob=tiles.PROB,
        mosaic_end=(1 - tiles.OFF) * samples,
    )


def paste(base: Sample, other: Sample, rows: Sequence[int]) -> Sample:
    """Return ``base`` with objects of ``other`` over it, at their places, as far as the image reaches.

    Args:
        base: Mapped sample with ``gt_masks``.
        other: Likewise.
        rows: Objects of ``other``.

    Source: Ghiasi et al., arXiv 2012.07177, without blending.
    """
    height, width = base["image"].shape[1:]
    pasted = place(other["instances"][list(rows)], (0, 0), (0, 0, height, width), (height, width))
    top = pasted.gt_masks.tensor
    cover = top.any(dim=0)
    h, w = (min(a, b) for a, b in zip(cover.shape, other["image"].shape[1:], strict=True))
    mixed = {**base, "image": base["image"].to(torch.promote_types(base["image"].dtype, other["image"].dtype)).clone()}
    mixed["image"][:, :h, :w] = torch.where(cover[:h, :w], other["image"][:, :h, :w], mixed["image"][:, :h, :w])
    if "sem_seg" in base:
        labels = base["sem_seg"].clone()
        labels[:h, :w] = torch.where(cover[:h, :w], other["sem_seg"][:h, :w], labels[:h, :w])
        mixed["sem_seg"] = labels
    below = base["instances"]
    hidden = Instances(below.image_size, **below.get_fields())
    hidden.gt_masks = BitMasks(below.gt_masks.tensor & ~cover)
    mixed["instances"] = _tight(Instances.cat([hidden, pasted]))
    return mixed


def mosaic(samples: Sequence[Sample], center: tuple[float, float]) -> Sample:
    """Return four images around a point, each in its window, with what else the first sample has.

    Args:
        samples: Four mapped samples: upper left, upper right, lower left, lower right. The first gives the size.
        center: Relative x and y of the point.

    Source: Bochkovskiy et al., arXiv 2004.10934; here images keep their scale, and are cut at a random place.
    """
    height, width = samples[0]["image"].shape[1:]
    x, y = round(center[0] * width), round(center[1] * height)
    windows = [(0, 0, y, x), (0, x, y, width), (y, 0, height, x), (y, x, height, width)]
    dtype = torch.float32 if any(s["image"].is_floating_point() for s in samples) else samples[0]["image"].dtype
    image = torch.full((samples[0]["image"].shape[0], height, width), FILL, dtype=dtype)
    labels = torch.full((height, width), IGNORED) if "sem_seg" in samples[0] else None
    parts = []
    for sample, (y0, x0, y1, x1) in zip(samples, windows, strict=True):
        size = sample["image"].shape[1:]
        offset = _integer(max(0, size[0] - (y1 - y0)) + 1), _integer(max(0, size[1] - (x1 - x0)) + 1)
        h, w = min(y1 - y0, size[0]), min(x1 - x0, size[1])
        cut = (slice(offset[0], offset[0] + h), slice(offset[1], offset[1] + w))
        image[:, y0 : y0 + h, x0 : x0 + w] = sample["image"][:, cut[0], cut[1]]
        if labels is not None:
            labels[y0 : y0 + h, x0 : x0 + w] = sample["sem_seg"][cut]
        parts.append(place(sample["instances"], offset, (y0, x0, y0 + h, x0 + w), (height, width)))
    mixed = {**samples[0], "image": image, "instances": _tight(Instances.cat(parts))}
    return mixed if labels is None else {**mixed, "sem_seg": labels}


def place(
    instances: Instances, offset: tuple[int, int], window: tuple[int, int, int, int], size: tuple[int, int]
) -> Instances:
    """Return instances as a window of another image shows them.

    Args:
        instances: With ``gt_boxes``, and ``gt_masks`` if masks are learned.
        offset: Row and column of their image at the window's upper left.
        window: y0 x0 y1 x1 in the other image.
        size: (height, width) of the other image.
    """
    y0, x0, y1, x1 = window
    placed = Instances(size, **{k: v for k, v in instances.get_fields().items() if k not in ("gt_masks", "gt_boxes")})
    shift = torch.tensor([x0 - offset[1], y0 - offset[0]] * 2)
    boxes = instances.gt_boxes.tensor + shift
    limits = torch.tensor([x0, y0, x0, y0]), torch.tensor([x1, y1, x1, y1])
    placed.gt_boxes = Boxes(boxes.clamp(*(x.to(boxes) for x in limits)))
    if instances.has("gt_masks"):
        part = instances.gt_masks.tensor[:, offset[0] : offset[0] + y1 - y0, offset[1] : offset[1] + x1 - x0]
        masks = torch.zeros(len(part), *size, dtype=torch.bool)
        masks[:, y0 : y0 + part.shape[1], x0 : x0 + part.shape[2]] = part
        placed.gt_masks = BitMasks(masks)
    return placed


def _tight(instances: Instances) -> Instances:
    """Return the instances of which something is left, with the boxes around their masks."""
    if not instances.has("gt_masks"):
        return instances[instances.gt_boxes.nonempty(threshold=MIN_SIDE)]
    left = instances[instances.gt_masks.nonempty()]
    left.gt_boxes = left.gt_masks.get_bounding_boxes()
    return left


def _draw() -> float:
    return float(np.random.random())  # noqa: NPY002  (the seeded generator)


def _draw_center() -> tuple[float, float]:
    low, high = CENTER
    return low + (high - low) * _draw(), low + (high - low) * _draw()


def _integer(stop: int) -> int:
    return int(np.random.randint(stop))  # noqa: NPY002  (the seeded generator)
