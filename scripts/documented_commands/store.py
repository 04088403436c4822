"""Where files for the commands in the documentation are kept, and how they are made: see makers.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from centermask_solo.data.formats.coco import write_coco_json

from .pages import ROOT


@dataclass(frozen=True)
class Store:
    """Where everything is kept, and what it is made of.

    Attributes:
        folder: The store.
        photos: The folder that holds ``coco/``.
        limit: Photographs of each split.
        iterations: Of the training of the model that predicts.
        makers: What makes each entry, at a path that does not exist.
    """

    folder: Path
    photos: Path
    limit: int
    iterations: int
    makers: Mapping[str, Callable[[Store, Path], None]]

    def path(self, name: str) -> Path:
        """Return the path of an entry, or of a file in one; make the entry if it is missing."""
        entry = name.split("/")[0]
        path, partial = self.folder / entry, self.folder / f"partial-{entry}"
        if not path.exists():
            print(f"making {path}", flush=True)
            shutil.rmtree(partial, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            self.makers[entry](self, partial)
            partial.rename(path)
        return self.folder / name

    def instances(self, split: str) -> dict:
        """Return the json of a split."""
        return self.json(f"coco/annotations/instances_{split}.json")

    def json(self, name: str) -> dict:
        """Return the content of a json."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def photo(self, image: dict) -> Path:
        """Return the file of an image."""
        (path,) = self.path("coco").glob(f"[tv]*2017/{Path(image['file_name']).name}")
        return path

    def run(self, *words: str | Path) -> None:
        """Run the command line of this package in the store."""
        run(["-m", "centermask_solo.cli", *map(str, words)], self.folder)


def run(words: list[str], folder: Path) -> None:
    """Run Python with this checkout in a folder; show its output only if it fails."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DETECTRON2_DATASETS": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed in {folder}:\n{done.stdout[-3000:]}")


def write_json(path: Path, content: dict) -> None:
    """Write a json, and the folder it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        write_coco_json(content, file)
