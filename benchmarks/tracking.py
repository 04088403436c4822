"""Whether objects that move and cross keep their numbers, with exact masks or with a trained model.

    python -m benchmarks.tracking [model_final.pth] [--clips 20] [--frames 30] [--class-agnostic-nms]

Two generated shapes of one class cross a picture in opposite directions, one in front of the other, and hide each other
for some frames. Without a model, the tracker gets their visible parts, with scores that fall with what is hidden; with
one, they are filmed, and predicted as ``predict --track`` does it. An object is found in a frame if an instance has an
IoU of at least 0.5 with its visible part, and twice if another one has, too, mostly of another class.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from numpy.typing import NDArray
from tabulate import tabulate

import centermask_solo
from centermask_solo.data.shapes.scenes import draw_scene
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.predictions import predict
from centermask_solo.inference.tracking import Tracker
from centermask_solo.model_zoo.lookup import load_cfg
from centermask_solo.structures.compact_masks import CroppedMasks
from centermask_solo.utils.errors import reported_errors
from centermask_solo.utils.rules import COUNT, argument

Pixels = NDArray[np.uint8]  # (H, W, 3), RGB
Mask = NDArray[np.bool_]  # (H, W)
SIDES = (0.25, 0.45)  # of a shape, as shares of the shorter side of the picture
BESIDE = 0.3  # by which share of its height a shape passes the other's center, at most
RATE = 20  # frames a second
MIN_IOU = 0.5
THRESHOLD = 0.3  # score from which on an object that is seen in part begins a track
SMALLEST_PART = 0.05  # of an object, that is seen
HEADERS = ("clips", "objects in frames", "found", "found twice", "numbers that changed", "clips with swapped numbers")


class View(NamedTuple):
    """A frame, and the visible parts of the object in front and of the one behind."""

    image: Pixels
    masks: tuple[Mask, Mask]


def cut_out(rng: np.random.Generator, smallest: float, largest: float) -> tuple[Pixels, Mask]:
    """Return the pixels and the mask of a generated shape that nothing hides, with sides of so many pixels."""
    while True:
        scene = draw_scene(rng, "ordinary")
        mask = scene.objects[-1].mask  # the one in front
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        is_whole = rows[0] > 0 < columns[0] and rows[-1] < mask.shape[0] - 1 and columns[-1] < mask.shape[1] - 1
        if is_whole and smallest <= min(mask[window].shape) <= max(mask[window].shape) <= largest:
            return scene.image[window], mask[window]


def film(seed: int, frames: int) -> list[View]:
    """Return the frames of two shapes that cross; the second is the first, mirrored and in other colors."""
    rng = np.random.default_rng(seed)
    ground = draw_scene(rng, "empty").image
    ground = ground[: ground.shape[0] // 2 * 2, : ground.shape[1] // 2 * 2]  # as video codecs need it
    height, width = ground.shape[:2]
    pixels, mask = cut_out(rng, *(share * min(height, width) for share in SIDES))
    shapes = ((pixels, mask), (pixels[:, ::-1, ::-1], mask[:, ::-1]))
    room = (height - mask.shape[0], width - mask.shape[1])
    beside = rng.uniform(-BESIDE, BESIDE) * mask.shape[0]
    views = []
    for along in np.linspace(0, 1, frames):
        image, masks, free = ground.copy(), [], np.ones((height, width), np.bool_)
        for (colors, shape), x, y in zip(shapes, (along, 1 - along), (beside / 2, -beside / 2), strict=True):
            top, left = round(np.clip(room[0] / 2 + y, 0, room[0])), round(x * room[1])
            window = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
            masks.append(np.zeros((height, width), np.bool_))
            masks[-1][window] = shape & free[window]
            image[window][masks[-1][window]] = colors[masks[-1][window]]
            free &= ~masks[-1]
        views.append(View(image, (masks[0], masks[1])))
    return views


def write_film(path: str, views: Sequence[View]) -> None:
    """Write the frames as a video."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.height, stream.width = views[0].image.shape[:2]
        stream.pix_fmt = "yuv420p"
        for view in views:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(view.image, format="rgb24")))
        file.mux(stream.encode())


def predicted(cfg: CfgNode, views: Sequence[View], filters: Filters) -> list[Instances]:
    """Return what is found in the frames of a film."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "clip.mp4")
        write_film(path, views)
        return [found.instances for found in predict(cfg, [path], filters=filters, track=True)]


def exact(views: Sequence[View]) -> list[Instances]:
    """Return the visible parts of the objects, tracked; less than a twentieth of an object is hidden."""
    tracker, found = Tracker(THRESHOLD), []
    for view in views:
        masks = torch.from_numpy(np.stack(view.masks))
        visible = masks.sum((1, 2)) / torch.from_numpy(np.stack(views[0].masks)).sum((1, 2))
        instances = Instances(view.masks[0].shape, pred_masks=masks, scores=visible)
        instances.pred_classes = torch.zeros(len(masks), dtype=torch.int64)
        instances.pred_masks = CroppedMasks.encode(masks)
        found.append(tracker.update(instances[visible >= SMALLEST_PART]))
    return found


def numbers_of(views: Sequence[View], found: Sequence[Instances]) -> list[list[Sequence[int] | None]]:
    """Return the numbers of each of the two objects in each frame, best first, None where it is hidden."""
    numbers = []
    for view, instances in zip(views, found, strict=True):
        masks, ids = instances.pred_masks.tensor().flatten(1).numpy(), instances.track_ids.tolist()
        numbers.append([_numbers_of(mask.ravel(), masks, ids) for mask in view.masks])
    return [list(x) for x in zip(*numbers, strict=True)]


def _numbers_of(mask: Mask, masks: Mask, ids: Sequence[int]) -> Sequence[int] | None:
    if not mask.any():
        return None
    ious = [(mask & other).sum() / (mask | other).sum() for other in masks]
    return [ids[i] for i in np.argsort(ious)[::-1] if ious[i] >= MIN_IOU]


def followed(numbers: Sequence[Sequence[int]]) -> list[int]:
    """Return the number that an object has in each frame: the one before as long as an instance of it has that."""
    chosen: list[int] = []
    for of_frame in numbers:
        chosen.append(chosen[-1] if chosen and chosen[-1] in of_frame else of_frame[0])
    return chosen


def measure(cfg: CfgNode | None, clips: int, frames: int, filters: Filters) -> dict[str, Any]:
    """Return how often the objects are found, and how often their numbers change."""
    seen = found = twice = changed = swapped = 0
    for seed in range(clips):
        tracks, views = [], film(seed, frames)
        for numbers in numbers_of(views, exact(views) if cfg is None else predicted(cfg, views, filters)):
            seen += sum(x is not None for x in numbers)
            twice += sum(len(x or ()) > 1 for x in numbers)
            tracks.append(followed([x for x in numbers if x]))
            found += len(tracks[-1])
            changed += sum(a != b for a, b in zip(tracks[-1], tracks[-1][1:], strict=False))
        swapped += bool({*tracks[0]} & {*tracks[1]})
    shares = (f"{100 * found / seen:.0f} %", f"{100 * twice / seen:.0f} %")
    return dict(zip(HEADERS, (clips, seen, *shares, changed, swapped), strict=True))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", help="trained on the generated shapes, as by 'make demo' (default: none)")
    parser.add_argument("--clips", type=argument(COUNT), default=20, help="(%(default)s)")
    parser.add_argument("--frames", type=argument(COUNT), default=30, help="of each clip (%(default)s)")
    parser.add_argument("--class-agnostic-nms", action="store_true", help="of objects found as two classes, keep one")
    args = parser.parse_args()
    centermask_solo.register()
    cfg = load_cfg(args.weights) if args.weights else None
    filters = Filters(class_agnostic_nms=args.class_agnostic_nms)
    print(tabulate([measure(cfg, args.clips, args.frames, filters)], "keys", "github"))


if __name__ == "__main__":
    with reported_errors():
        main()
