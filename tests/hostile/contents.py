"""Datasets, configs and weights that can be read, but should not be used, or should all the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.hostile import world as commands
from tests.hostile.tries import ACCEPTED, EITHER, Try
from tests.hostile.world import World

Change = Callable[[dict[str, Any]], None]


def _first(part: str, **values: Any) -> Change:
    return lambda data: data[part][0].update(values)


def _image_named(name: str) -> Change:
    return _first("images", file_name=name)


def _changed_json(w: World, change: Change) -> str:
    data = json.loads(Path(w.json).read_text())
    change(data)
    path = w.here / "culprit.json"
    path.write_text(json.dumps(data))
    return str(path)


JSONS: list[tuple[str, Change, str]] = [
    ("up", _image_named("../1.png"), "outside of the image folder"),
    ("up and down", _image_named("sub/../../1.png"), "outside of the image folder"),
    ("absolute", _image_named("/etc/passwd"), "outside of the image folder"),
    ("zero byte in a name", _image_named("1\0.png"), "1"),
    ("empty name", _image_named(""), "data"),
    ("long name", _image_named("x" * 5000), "missing image"),
    ("surrogate name", _image_named("\ud800.png"), "missing image"),
    ("folder as name", _image_named("."), "data"),
    ("huge size", _first("images", width=10**30), "image without positive integers"),
    ("negative size", _first("images", height=-5), "image without positive integers"),
    ("NaN box", _first("annotations", bbox=[float("nan")] * 4), "NaN"),
    ("huge box", _first("annotations", bbox=[0, 0, 1e300, 1e300]), "away from the image"),
    ("text box", _first("annotations", bbox="0 0 1 1"), "bbox"),
    ("nested box", _first("annotations", bbox=[[0, 0, 1, 1]]), "bbox"),
    ("huge polygon", _first("annotations", segmentation=[[0, 0, 1e200, 0, 1e200, 1e200]]), "away from the image"),
    ("text runs", _first("annotations", segmentation={"size": [40, 56], "counts": "x" * 99}), "RLE"),
    ("negative runs", _first("annotations", segmentation={"size": [40, 56], "counts": [-5, 2245]}), "RLE"),
    ("huge runs", _first("annotations", segmentation={"size": [40, 56], "counts": [2**40]}), "RLE"),
    ("many digits", _first("annotations", id=10**4000), "annotation"),
    ("huge category", _first("annotations", category_id=10**30), "category"),
    ("text category", _first("annotations", category_id="cat"), "category"),
    ("list category", _first("annotations", category_id=[1]), "category"),
    ("list image id", _first("annotations", image_id=[1]), "annotation"),
    ("no category", lambda data: data.update(categories=[]), "categories"),
    ("same names", lambda data: data["categories"][0].update(name="dog"), "dog"),
    ("null name", lambda data: data["categories"][0].update(name=None), "category"),
    ("annotations as a dict", lambda data: data.update(annotations={}), "annotations"),
    ("nulls", lambda data: data.update(annotations=[None]), "annotations"),
]
USERS: list[tuple[str, Callable[[World, str], Any]]] = [
    ("train", lambda w, p: commands.train(w, *w.data(p))),
    ("eval-only", lambda w, p: commands.evaluate(w, *w.data(p))),
    ("check-dataset", commands.check_dataset),
]
JSON_TRIES = [
    Try(
        command,
        "annotations",
        name,
        lambda w, u=use, c=change: u(w, _changed_json(w, c)),
        EITHER if name in ("many digits",) else "clear",
        message,
    )
    for command, use in USERS
    for name, change, message in JSONS
]


def _linked_out(w: World) -> str:
    folder = w.copied_images("1.png", None)
    Path(folder, "1.png").symlink_to(w.files / "data" / "1.png")
    return folder


def _absolute(w: World) -> str:
    return _changed_json(w, _image_named(os.path.join(w.images, "1.png")))


def _elsewhere(w: World) -> str:
    return _changed_json(w, _image_named(w.copied_images("2.png", None) + "/1.png"))


PATH_TRIES = [
    Try(
        "train", "path", "link", lambda w: commands.train(w, *w.data("", _linked_out(w))), message="ALLOW_OUTSIDE_PATHS"
    ),
    Try("eval-only", "path", "link", lambda w: commands.evaluate(w, *w.data("", _linked_out(w))), message="ALLOW_OUT"),
    Try("compare", "path", "link", lambda w: commands.compare(w, *w.data("", _linked_out(w))), message="ALLOW_OUT"),
    Try("Trainer", "path", "link", lambda w: commands.use_trainer(w, *w.data("", _linked_out(w))), message="ALLOW_OUT"),
    Try("compare", "path", "elsewhere", lambda w: commands.compare(w, *w.data(_elsewhere(w))), message="ALLOW_OUT"),
    Try(
        "check-dataset", "path", "link", lambda w: commands.check_dataset(w, "", _linked_out(w)), message="--allow-out"
    ),
    Try("train", "path", "allowed link", lambda w: commands.train(w, *w.data("", _linked_out(w), True)), ACCEPTED),
    Try("train", "path", "allowed", lambda w: commands.train(w, *w.data(_elsewhere(w), "", True)), ACCEPTED),
    Try("compare", "path", "allowed", lambda w: commands.compare(w, *w.data(_elsewhere(w), "", True)), ACCEPTED),
    Try("train", "path", "absolute but inside", lambda w: commands.train(w, *w.data(_absolute(w))), ACCEPTED),
    Try(
        *("check-dataset", "path", "allowed"),
        lambda w: commands.check_dataset(w, _elsewhere(w), "", "--allow-outside-paths"),
        ACCEPTED,
    ),
]

CONFIGS: list[tuple[str, str, str]] = [
    ("own base", "_BASE_: culprit.yaml\n", "its own _BASE_"),
    ("missing base", "_BASE_: gone.yaml\n", "gone.yaml"),
    ("base is a folder", "_BASE_: .\n", "culprit.yaml"),
    ("base is a number", "_BASE_: 5\n", "culprit.yaml"),
    ("base is empty", "_BASE_: ''\n", "culprit.yaml"),
    ("base has a zero byte", '_BASE_: "a\\0b"\n', "culprit.yaml"),
    ("two bases", "_BASE_: [culprit.yaml, culprit.yaml]\n", "its own _BASE_"),
    ("code", 'MODEL: {WEIGHTS: !!python/object/apply:os.system ["touch ran"]}\n', "culprit.yaml"),
    ("name of code", "MODEL: {WEIGHTS: !!python/name:os.system}\n", "culprit.yaml"),
    (
        "laughs",
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
        "aliases",
    ),
    ("cycle", "MODEL: &m {X: *m}\n", "culprit.yaml"),
    ("duplicate", "MODEL: {WEIGHTS: a}\nMODEL: 5\n", "MODEL"),
    ("date", "SOLVER: {BASE_LR: 2001-99-99}\n", "culprit.yaml"),
    ("nested", "MODEL: " + "{A: " * 2000 + "1" + "}" * 2000 + "\n", "culprit.yaml|config key"),
    ("number as key", "5: 6\n", "5"),
    ("null", "MODEL:\n", "MODEL"),
    ("tabs", "MODEL:\n\tWEIGHTS: x\n", "culprit.yaml"),
    ("several documents", "VERSION: 2\n---\nVERSION: 2\n", "culprit.yaml"),
]


def _config(w: World, text: str) -> str:
    path = w.here / "culprit.yaml"
    path.write_text(text)
    return str(path)


CONFIG_TRIES = [
    Try(command, "config", name, lambda w, u=use, t=text: u(w, _config(w, t)), message=message)
    for command, use in (
        ("train", lambda w, p: commands.train(w, config=p)),
        ("predict", lambda w, p: commands.predict(w, config=p)),
        ("config show", commands.show),
        ("config convert", commands.convert_config),
    )
    for name, text, message in CONFIGS
]


def _weights(w: World, change: Callable[[dict[str, Any]], Any]) -> str:
    content = torch.load(w.weights, weights_only=True)
    changed = change(content)
    path = str(w.here / "culprit.pth")
    torch.save(content if changed is None else changed, path)
    return path


def _entry(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["model"].update({"classifier.weight": value})


WEIGHTS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("NaN", _entry(torch.full((3, 4), float("nan"))), "clear"),
    ("infinite", _entry(torch.full((3, 4), float("inf"))), "clear"),
    ("scalar", _entry(torch.tensor(1.0)), "clear"),
    ("no rows", _entry(torch.zeros(0, 4)), "clear"),
    ("complex", _entry(torch.zeros(3, 4, dtype=torch.complex64)), EITHER),
    ("text", _entry("x"), "clear"),
    ("sparse", _entry(torch.zeros(3, 4).to_sparse()), "clear"),
    ("config is a number", lambda c: c.update(config=5), EITHER),
    ("config is not YAML", lambda c: c.update(config="[: {"), EITHER),
    ("config of nothing", lambda c: c.update(config="MODEL: {META_ARCHITECTURE: Nothing}"), EITHER),
    ("names are a number", lambda c: c.update(thing_classes=5), EITHER),
    ("names are numbers", lambda c: c.update(thing_classes=[1, 2]), EITHER),
    ("too many names", lambda c: c.update(thing_classes=list("abcdefg")), EITHER),
    ("list", lambda c: [1, 2, 3], "clear"),
    ("number", lambda c: 5, "clear"),
    ("nothing", lambda c: {"model": {}}, "clear"),
]
WEIGHT_TRIES = [
    Try(command, "weights", name, lambda w, u=use, c=change: u(w, _weights(w, c)), expected, "culprit")
    for command, use in (
        ("predict", lambda w, p: commands.predict(w, weights=p)),
        ("load", commands.use_load),
        ("train", lambda w, p: commands.train(w, "MODEL.WEIGHTS", p)),
        ("weights convert", commands.convert),
    )
    for name, change, expected in WEIGHTS
    if not (command == "train" and name in ("scalar", "no rows"))  # whose class layers start anew
]


def _named_image(name: bytes) -> Callable[[World], None]:
    """Predict on an image of that name, with a picture of it."""

    def run(w: World) -> None:
        folder = w.here / "images"
        folder.mkdir()
        path = os.path.join(os.fsencode(folder), name)
        with open(path, "wb") as file:
            Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(file, "PNG")
        commands.predict(w, "--score-threshold", "0", inputs=str(folder))
        found = json.loads(Path(w.out, "predictions.json").read_text())["images"][0]["file_name"]
        assert os.fsencode(found) == path
        assert len(list(Path(w.out).glob("*.jpg"))) == 1

    return run


NAMES = {"Latin-1": b"caf\xe9.png", "noise": b"\xff\xfe\x80.png", "lines": b"a\nb.png", "long": b"x" * 245 + b".png"}
NAME_TRIES = [Try("predict", "name", f"image {k}", _named_image(v), ACCEPTED) for k, v in NAMES.items()]
CONTENT_TRIES = [*JSON_TRIES, *PATH_TRIES, *CONFIG_TRIES, *WEIGHT_TRIES, *NAME_TRIES]
