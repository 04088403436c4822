"""The folder of a training: what an earlier training has left there, and when it may be replaced."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..checkpoint.files import AVERAGE_KEY, without_query
from ..checkpoint.folder import LAST_CHECKPOINT, checkpoints_in
from ..utils.errors import ConfigError
from ..utils.files import is_same, make_folder, remove_temporary_files
from .bad_batch import NAME
from .best import BEST

METRICS = "metrics.json"  # Detectron2's, a line per iteration that is logged
EVALUATIONS = ("evaluation.json", "evaluation.txt", f"{AVERAGE_KEY}/evaluation.json", f"{AVERAGE_KEY}/evaluation.txt")
OF_A_RUN = (
    LAST_CHECKPOINT,
    METRICS,
    "report.html",
    "events.out.tfevents.*",
    f"{BEST}.pth",
    f"{NAME}*.pth",
    *EVALUATIONS,
)


def open_output_folder(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Create ``OUTPUT_DIR``, unless training there would replace another training; remove incomplete files from it.

    Args:
        cfg: Config of the run.
        args: ``resume``, ``eval_only`` and, if it is there, ``overwrite`` of the command line.

    Raises:
        ConfigError: It holds another training, or cannot be created.
    """
    if args.eval_only:
        make_folder(cfg.OUTPUT_DIR)
        return
    overwrite = getattr(args, "overwrite", False)
    if overwrite and args.resume:
        raise ConfigError("--resume continues a training and --overwrite replaces it: give one of them")
    best = os.path.join(cfg.OUTPUT_DIR, f"{BEST}.pth")  # all that is left of a training killed before its checkpoints
    found = [*([best] if os.path.isfile(best) else []), *checkpoints_in(cfg.OUTPUT_DIR)]
    if found and not args.resume and not overwrite:
        raise ConfigError(
            f"{cfg.OUTPUT_DIR} holds another training ({os.path.basename(found[-1])}): continue it with --resume, give "
            "another OUTPUT_DIR, or replace it with --overwrite"
        )
    if overwrite and any(is_same(without_query(cfg.MODEL.WEIGHTS), path) for path in files_of_run(cfg.OUTPUT_DIR)):
        raise ConfigError(
            f"--overwrite would delete MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} as part of the earlier training: give another "
            "OUTPUT_DIR"
        )
    make_folder(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        for pattern in ("*", "inference/**/*"):
            remove_temporary_files(cfg.OUTPUT_DIR, pattern)
        _cut_incomplete_line(Path(cfg.OUTPUT_DIR, METRICS))


def files_of_run(folder: str) -> list[str]:
    """Return the paths of what a training has written that another one must not find, or would append to."""
    found = [str(path) for pattern in OF_A_RUN for path in sorted(Path(folder).glob(pattern))]
    return [*found, *checkpoints_in(folder)]


def remove_run(paths: list[str]) -> None:
    """Remove what :func:`files_of_run` has returned; ``metrics.json``, which may be open again, becomes empty."""
    for path in paths:
        if os.path.basename(path) == METRICS:
            os.truncate(path, 0)
        else:
            Path(path).unlink(missing_ok=True)


def _cut_incomplete_line(path: Path) -> None:
    """Cut off the incomplete last line that a killed run has left, which would spoil the next one."""
    if not path.is_file():
        return
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)
