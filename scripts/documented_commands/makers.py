"""What the commands in the documentation take for granted: data made of photographs in COCO's layout.

Each entry of ``MAKERS`` is a file or folder of the store, made once, by the tools of this package where they make such
a thing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image
from pycocotools.coco import COCO

from centermask_solo.data.formats.coco import read_coco_json, take_images
from centermask_solo.data.formats.panoptic import write_segment_ids
from centermask_solo.data.shapes.generator import generate_shapes

from .models import MODELS
from .store import Store, write_json

SPLITS = ("train2017", "val2017")
SESSIONS = ("dawn", "morning", "noon", "day", "afternoon", "evening", "dusk", "night")  # folders of photographs
STUFF = next(x for x in COCO_CATEGORIES if not x["isthing"])  # of every pixel without an object
NUM_SHAPES = {"train": 24, "val": 8}
OTHER_CONFIG = """\
MODEL:
  META_ARCHITECTURE: "SOLOv2"
  SOLOV2:
    NMS_PRE: 400
    SCORE_THR: 0.2
    MAX_PER_IMG: 50
"""
FRAMES, FRAME_SIZE = 12, (320, 240)


def make_coco(store: Store, folder: Path) -> None:
    """Take the first images of both splits, and write panoptic annotations: objects, and one kind of stuff."""
    for split in SPLITS:
        data = take_images(read_coco_json(str(store.photos / f"coco/annotations/instances_{split}.json")), store.limit)
        write_json(folder / "annotations" / f"instances_{split}.json", data)
        (folder / split).mkdir()
        for image in data["images"]:
            shutil.copyfile(store.photos / "coco" / split / image["file_name"], folder / split / image["file_name"])
        write_panoptic(data, folder / f"panoptic_{split}")


def write_panoptic(data: dict, folder: Path) -> None:
    """Write the PNGs of objects and stuff to a folder, and their json to ``annotations/`` beside it."""
    folder.mkdir()
    annotations, coco = [], COCO()
    coco.dataset = data
    coco.createIndex()
    for image in data["images"]:
        ids = np.ones((image["height"], image["width"]), np.int64)
        categories = {1: STUFF["id"]}
        for x in data["annotations"]:
            if x["image_id"] == image["id"] and not x["iscrowd"]:
                categories[max(categories) + 1] = x["category_id"]
                ids[coco.annToMask(x).astype(bool)] = max(categories)
        name = f"{Path(image['file_name']).stem}.png"
        with open(folder / name, "wb") as file:
            write_segment_ids(ids, file)
        segments = [
            {
                "id": i,
                "category_id": categories[i],
                "iscrowd": 0,
                "area": int((ids == i).sum()),
                "bbox": box_of(ids == i),
            }
            for i in np.unique(ids).tolist()
        ]
        annotations.append({"image_id": image["id"], "file_name": name, "segments_info": segments})
    content = {"images": data["images"], "annotations": annotations, "categories": COCO_CATEGORIES}
    write_json(folder.parent / "annotations" / f"{folder.name}.json", content)


def box_of(mask: np.ndarray) -> list[int]:
    """Return x, y, width and height of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(x) for x in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def make_shapes(store: Store, folder: Path) -> None:
    """Generate a few shapes."""
    for split, count in NUM_SHAPES.items():
        generate_shapes(folder, split, count)


def make_photos(store: Store, folder: Path) -> None:
    """Put the photographs of both splits into one folder."""
    folder.mkdir()
    for path in store.path("coco").glob("[tv]*2017/*"):
        shutil.copyfile(path, folder / path.name)


def make_sets(store: Store, folder: Path) -> None:
    """Write the annotations of both splits, and of all photographs in folders."""
    train, val = (store.instances(split) for split in SPLITS)
    both = {**train, **{key: [*train[key], *val[key]] for key in ("images", "annotations")}}
    sessions = {x["id"]: SESSIONS[i % len(SESSIONS)] for i, x in enumerate(both["images"])}
    by_session = [{**x, "file_name": f"{sessions[x['id']]}/{x['file_name']}"} for x in both["images"]]
    for name, content in {"train": train, "val": val, "birds": {**both, "images": by_session}}.items():
        write_json(folder / f"{name}.json", content)


def make_birds(store: Store, folder: Path) -> None:
    """Make a set in COCO's format with the images in one folder."""
    for name, split in zip(("train", "val"), SPLITS, strict=True):
        write_json(folder / f"{name}.json", store.instances(split))
    shutil.copytree(store.path("photos"), folder / "images")


def make_birds_labelme(store: Store, folder: Path) -> None:
    """Make a folder of photographs in subfolders, with the json that labelme writes beside each."""
    data = store.json("sets/birds.json")
    for image in data["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.photo(image), path)
    source = ("--from", "coco", store.path("sets/birds.json"), "--images", folder)
    store.run("data", "convert", *source, "--to", "labelme", store.folder / "labelme")
    shutil.copytree(store.folder / "labelme", folder, dirs_exist_ok=True)
    shutil.rmtree(store.folder / "labelme")


def make_yolo(store: Store, folder: Path) -> None:
    """Make a set in YOLO's format: images/train, labels/train and so on."""
    for name in ("train", "val"):
        split, source = (
            store.folder / f"yolo_{name}",
            ("--from", "coco", store.path(f"sets/{name}.json"), "--images", store.path("photos")),
        )
        store.run("data", "convert", *source, "--to", "yolo", split, "--copy-images")
        for kind in ("images", "labels"):
            shutil.copytree(split / kind, folder / kind / name)
        shutil.copyfile(split / "data.yaml", folder / "data.yaml")
        shutil.rmtree(split)


def make_cells(store: Store, folder: Path) -> None:
    """Make a folder of PNGs with the number of the object in each pixel."""
    source = ("--from", "coco", store.path("sets/val.json"), "--images", store.path("photos"))
    store.run("data", "convert", *source, "--to", "maps", folder)
    (folder / "instances.json").unlink()


def make_fields(store: Store, folder: Path) -> None:
    """Make arrays of four channels: the colors, and their mean."""
    data = store.instances("train2017")
    folder.mkdir()
    for image in data["images"]:
        colors = np.asarray(Image.open(store.photo(image)).convert("RGB"))
        image["file_name"] = f"{Path(image['file_name']).stem}.npy"
        np.save(folder / image["file_name"], np.dstack([colors, colors.mean(2).astype(np.uint8)]))
    write_json(folder / "train.json", data)


def make_others(store: Store, folder: Path) -> None:
    """Write a config of AdelaiDet's, and the names of COCO's classes."""
    folder.mkdir()
    (folder / "mine.yaml").write_text(OTHER_CONFIG, encoding="utf-8")
    names = [x["name"] for x in store.instances("val2017")["categories"]]
    (folder / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def make_video(store: Store, folder: Path) -> None:
    """Film a photograph with a camera that moves to the right."""
    import av

    frame_of = Image.open(store.path("photo/photo.jpg")).convert("RGB").resize((480, 360))
    folder.mkdir()
    with av.open(str(folder / "street.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height = FRAME_SIZE
        for i in range(FRAMES):
            view = frame_of.crop((8 * i, 60, 8 * i + FRAME_SIZE[0], 60 + FRAME_SIZE[1]))
            file.mux(stream.encode(av.VideoFrame.from_image(view)))
        file.mux(stream.encode(None))


def make_photo(store: Store, folder: Path) -> None:
    """Take one photograph, and put four together as a large one."""
    paths = sorted(store.path("coco/val2017").glob("*"))
    folder.mkdir()
    shutil.copyfile(paths[0], folder / "photo.jpg")
    large = Image.new("RGB", (1280, 960))
    for i, path in enumerate(paths[:4]):
        large.paste(Image.open(path).convert("RGB").resize((640, 480)), (i % 2 * 640, i // 2 * 480))
    large.save(folder / "aerial.tif")


MAKERS: dict[str, Callable[[Store, Path], None]] = {
    "coco": make_coco,
    "shapes": make_shapes,
    "photos": make_photos,
    "photo": make_photo,
    "sets": make_sets,
    "birds": make_birds,
    "birds_labelme": make_birds_labelme,
    "yolo": make_yolo,
    "cells": make_cells,
    "fields": make_fields,
    "others": make_others,
    "video": make_video,
    **MODELS,
}
