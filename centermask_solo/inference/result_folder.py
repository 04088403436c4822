"""The folder of predictions: what may be written to it, and what an earlier run has left there."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..data.images import IMAGE_SUFFIXES
from ..utils.errors import ConfigError
from ..utils.files import claim_folder, remove_temporary_files
from .outputs import KINDS, Outputs
from .predictions import FRAME_NAME, Stems
from .result_file import PREDICTIONS, RESULTS, TABLE
from .sources import STANDARD_INPUT, Sources
from .video_file import SUFFIXES

CLASSES = "classes.txt"  # names of the classes in YOLO's files, one per line
SINGLE = (RESULTS, TABLE, CLASSES)


def claim_results(folder: str, outputs: Outputs, inputs: Sequence[str], *, overwrite: bool = False) -> None:
    """Check that the results of a run may be written to a folder, as ``claim_folder`` does.

    Raises:
        ConfigError: They may not.
    """
    patterns = [PREDICTIONS, f"{PREDICTIONS}l", *(x for kind in outputs.kinds() for x in kind.patterns())]
    single = {RESULTS: outputs.results, TABLE: outputs.csv, CLASSES: outputs.yolo}
    patterns += [name for name, is_written in single.items() if is_written]
    patterns += [f"*{suffix}" for suffix in SUFFIXES if outputs.video]
    claim_folder(folder, patterns, inputs, overwrite=overwrite)
    for kind in outputs.kinds():
        if kind.folder:
            claim_folder(os.path.join(folder, kind.folder), (), inputs, overwrite=overwrite)


def earlier_files(output_dir: str, sources: Sources) -> list[str]:
    """Return all files of an earlier run, which the new ones may not replace by name; remove temporary ones.

    Pictures, which a list on standard input may name, are not among them if there is one.

    Raises:
        ConfigError: One of them is to be read.
    """
    for folder in {kind.folder for kind in KINDS}:
        remove_temporary_files(os.path.join(output_dir, folder))
    try:
        images, stems = _earlier_images(output_dir), Stems()
        found = [path for x in images for path in _paths_of(output_dir, x["id"], x["file_name"], stems)]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # nothing says what belongs to it
    single = (os.path.join(output_dir, name) for name in SINGLE)
    found = [path for path in dict.fromkeys((*found, *single)) if os.path.isfile(path)]
    inputs = {os.path.realpath(path) for path in sources.files}
    for path in found:
        if os.path.realpath(path) in inputs:
            raise ConfigError(
                f"{path} is an input, and one of the results that would be replaced: choose another output"
            )
    if STANDARD_INPUT in sources.names:
        return [path for path in found if not path.lower().endswith((*IMAGE_SUFFIXES, *SUFFIXES))]
    return found


def remove_folders(folder: str) -> None:
    """Remove a folder and the empty ones in it, if there is nothing else."""
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(path)


def _earlier_images(output_dir: str) -> list[dict[str, Any]]:
    """Return the images of an earlier run; of one that was killed, from the lines that it has written."""
    path = os.path.join(output_dir, PREDICTIONS)
    if os.path.exists(path):
        return list(json.loads(Path(path).read_bytes())["images"])
    with open(f"{path}l", encoding="utf-8") as file:
        return [json.loads(line)["image"] for line in file if line.endswith("\n")]


def _paths_of(output_dir: str, image_id: int, name: str, stems: Stems) -> Iterator[str]:
    """Yield the paths that the files of an image may have; to be asked for once for each, in their order."""
    stem = stems.of(image_id, name)
    for kind in KINDS:
        start = kind.path(output_dir, image_id, stem)
        for suffix in kind.suffixes:
            yield from glob.glob(glob.escape(start) + suffix)
    if FRAME_NAME.fullmatch(name):
        start = os.path.join(output_dir, stems.of_video(image_id, FRAME_NAME.sub(r"\g<video>", name)))
        yield from (start + suffix for suffix in SUFFIXES)
