"""Options that follow from the data: schedule, input size, sizes of objects, augmentation and sampler."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.structures import BoxMode

from ..data.loader import load_training_data
from ..data.validation.closer import Objects
from ..data.validation.fit import suggest_options
from ..evaluation.annotated import has_objects
from ..evaluation.metric_names import is_metric, metric_patterns
from ..modeling.suggestions import Suggestion, shown
from ..modeling.systems import find_system
from ..utils.rules import value_of
from ..utils.text import counted

logger = logging.getLogger(__name__)

MAX_IMAGES = 5_000  # that are looked at, evenly spaced
# Epochs: as many as show this many images, but neither fewer than a published 1x schedule nor more than a hundred
SAMPLES, MIN_EPOCHS, MAX_EPOCHS = 40_000, 12, 100
EVALUATIONS = 10  # of a training
FEW, SOME = 500, 5_000  # images below which augmentation is strong, and weak
PASTED = 0.3  # share of the images that get objects of others where images are few
REPLACED = {  # also the user's decisions
    "SOLVER.EPOCHS": {"SOLVER.MAX_ITER", "SOLVER.STEPS"},
    "TEST.EVAL_EPOCHS": {"TEST.EVAL_PERIOD"},
    "TEST.EVAL_PERIOD": {"TEST.EVAL_EPOCHS"},
}
METRICS = ("segm/AP", "bbox/AP", "sem_seg/mIoU", "sem_seg/IoU")  # the first one that evaluations have decides
UNEVEN = 10.0  # how much more frequent the most frequent class is than the rarest where rare ones are repeated


class Decision(NamedTuple):
    """Values of options that belong together, and why."""

    options: dict[str, Any]
    reason: str


class Data(NamedTuple):
    """What the decisions are made from.

    Attributes:
        num_images: Images that are trained on.
        objects: Objects of those that are looked at.
        shares: Share of these images that have each class, (K,), of the classes that occur.
    """

    num_images: int
    objects: Objects
    shares: Any


def configure_for_data(cfg: CfgNode, given: Collection[str]) -> list[Decision]:
    """Set options that fit the data of ``DATASETS.TRAIN``, in place; log each with its reason, and return them.

    Options that the user has set stay. The networks stay, too: what is set changes no parameter.

    Args:
        cfg: Config of a training whose datasets are registered and checked.
        given: Options that the user has set.
    """
    data = _read(cfg)
    made: list[Decision] = []
    for decide in (_schedule, _initialization, _input_size, _sizes_of_objects, _augmentation, _sampler):
        for decision in decide(cfg, data):
            text = ", ".join(f"{key} {shown(value)}" for key, value in decision.options.items())
            kept = {x for key in decision.options for x in ({key} & {*given} or REPLACED.get(key, set()) & {*given})}
            if kept:
                stay = ", ".join(f"{key} {shown(value_of(cfg, key))}" for key in sorted(kept))
                logger.info(f"--auto: {stay} stays, as you set it; it would be {text}: {decision.reason}")
                continue
            for key, value in decision.options.items():
                _set(cfg, key, value)
            logger.info(f"--auto: {text}: {decision.reason}")
            made.append(decision)
    return made


def _read(cfg: CfgNode) -> Data:
    samples = load_training_data(cfg)
    boxes, sizes, images, classes = [], [], [], []
    chosen = [samples[i] for i in range(0, len(samples), -(-len(samples) // MAX_IMAGES))]
    for i, sample in enumerate(chosen):
        for x in sample.get("annotations", []):
            if not x.get("iscrowd", 0):
                boxes.append(BoxMode.convert(list(x["bbox"]), x["bbox_mode"], BoxMode.XYXY_ABS))
                sizes.append((sample["width"], sample["height"]))
                images.append(i)
                classes.append((i, x["category_id"]))
    counts = np.bincount([k for _, k in set(classes)]) if classes else np.zeros(0)
    objects = Objects(
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(sizes, dtype=np.float64).reshape(-1, 2),
        np.array(images, dtype=np.int64),
    )
    return Data(len(samples), objects, counts[counts > 0] / max(len(chosen), 1))


def _schedule(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    if not cfg.SOLVER.EPOCHS:
        epochs = int(np.clip(round(SAMPLES / data.num_images), MIN_EPOCHS, MAX_EPOCHS))
        images = counted(data.num_images, "image") + " with objects" * cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        # A config of the package has its own number of iterations, of other data; the shares of its steps are kept
        yield Decision({"SOLVER.EPOCHS": epochs}, f"{images}, so that the model sees {epochs * data.num_images} in all")
    if not cfg.DATASETS.TEST or not all(map(has_objects, cfg.DATASETS.TEST)):
        return
    key, length = "TEST.EVAL_EPOCHS", cfg.SOLVER.EPOCHS
    if not length:  # the iterations of the user stay
        key, length = "TEST.EVAL_PERIOD", cfg.SOLVER.MAX_ITER
    every = max(1, length // EVALUATIONS)
    yield Decision({key: every}, f"about {counted(length // every, 'evaluation')}")
    metric = next((x for x in METRICS if is_metric(x, metric_patterns(cfg))), "")
    if metric:  # none of those of several datasets
        yield Decision({"TEST.KEEP_BEST": metric}, "the last weights need not be the best")


def _initialization(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    system = find_system(cfg.MODEL.META_ARCHITECTURE)
    seen = cfg.SOLVER.EPOCHS * data.num_images or cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    if system is None or system.short_training is None or seen > SAMPLES:
        return
    options, why = system.short_training
    others = {key: value for key, value in options.items() if value_of(cfg, key) != value}
    if others:
        yield Decision(others, f"the training is short, {counted(seen, 'image')} in all; {why}")


def _input_size(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    for found in _suggestions(cfg, data, "shrink"):
        keys = found.key.split(", ")
        values = found.proposed if len(keys) > 1 else [found.proposed]
        before = found.current if len(keys) > 1 else [found.current]
        options = dict(zip(keys, values, strict=True))
        if len(keys) > 1:
            factor = values[0] / before[0]
            options["INPUT.MIN_SIZE_TRAIN"] = tuple(round(factor * x) for x in cfg.INPUT.MIN_SIZE_TRAIN)
            options["INPUT.MAX_SIZE_TRAIN"] = round(factor * cfg.INPUT.MAX_SIZE_TRAIN)
            if cfg.INPUT.LSJ.ENABLED:
                options["INPUT.LSJ.SIZE"] = round(factor * cfg.INPUT.LSJ.SIZE)
        yield Decision(options, _reason(found))


def _sizes_of_objects(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    for found in _suggestions(cfg, data, "uncovered"):
        yield Decision({found.key: found.proposed}, _reason(found))


def _augmentation(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    in_color = cfg.INPUT.CHANNELS == 3 and cfg.INPUT.FORMAT in ("RGB", "BGR")
    if cfg.INPUT.AUGMENTATION == "default" and data.num_images < SOME and in_color:
        strength = "medium" if data.num_images < FEW else "weak"
        yield Decision(
            {"INPUT.COLOR": strength}, f"{counted(data.num_images, 'image')} with few colors, which would be learned"
        )
    mixes = cfg.MODEL.MASK_ON and not cfg.MODEL.KEYPOINT_ON and not cfg.MODEL.LOAD_PROPOSALS
    mixes = mixes and cfg.DATALOADER.SAMPLER_TRAIN != "RandomSubsetTrainingSampler"  # of whose subset others are not
    if mixes and data.num_images < FEW:
        yield Decision(
            {"INPUT.COPY_PASTE.PROB": PASTED}, f"{counted(data.num_images, 'image')} with objects in few places"
        )


def _sampler(cfg: CfgNode, data: Data) -> Iterator[Decision]:
    if len(data.shares) < 2 or cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        return
    ratio = data.shares.max() / data.shares.min()
    if ratio > UNEVEN:
        options = {
            "DATALOADER.SAMPLER_TRAIN": "RepeatFactorTrainingSampler",
            "DATALOADER.REPEAT_THRESHOLD": round(float(np.median(data.shares)), 4),
        }
        rarest = f"the rarest class is in {data.shares.min():.2%} of the images"
        yield Decision(options, f"{rarest}, the most frequent in {ratio:.0f} times as many: images of rare ones repeat")


def _suggestions(cfg: CfgNode, data: Data, kind: str) -> list[Suggestion]:
    """Return what would fit the objects better, with the options as they are by now."""
    found = suggest_options(cfg, data.objects) if len(data.objects.boxes) else []
    return [x for x in found if x.kind == kind and x.proposed != x.current]


def _reason(found: Suggestion) -> str:
    return f"{found.lost_then:.1%} {found.measure}, instead of {found.lost:.1%} with {shown(found.current)}"


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    """Set an option to a value of the type that it has, which lists and tuples are."""
    before = value_of(cfg, key)
    cfg.merge_from_list([key, type(before)(value) if isinstance(before, (list, tuple)) else value])
