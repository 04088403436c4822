"""From a weight file alone to its metrics on a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ..checkpoint.files import without_query
from ..data.own_files import register_files
from ..runtime.formats import check_no_options, format_of_file
from ..training.evaluate import evaluate
from ..training.logs import Screen
from ..training.setup import setup_cfg
from ..utils.errors import ConfigError
from ..utils.files import claim_folder
from .lookup import find_config

RESULTS = ("evaluation.json", "evaluation.txt", "inference/*/*")  # of another evaluation, or of a training
# Options of models and tests that the data and the evaluators read, so that they matter for an exported file, too
READ_BESIDE_MODELS = ("MODEL.MASK_ON", "TEST.EVAL_BACKEND", "TEST.EXPECTED_RESULTS", "TEST.KEYPOINT_OKS_SIGMAS")


def evaluate_weights(
    weights: str,
    ground_truth: str = "",
    images: str = "",
    *,
    dataset: str = "",
    output_dir: str,
    config_file: str = "",
    dtype: str = "",
    device: str = "",
    threads: int | None = None,
    providers: Sequence[Any] = (),
    opts: Sequence[str] = (),
    overwrite: bool = False,
    screen: Screen = "summary",
) -> dict[str, Any]:
    """Return the metrics of weights or of an exported file on a dataset; write them, the results and the log.

    Several processes, as of ``train_net.py``, share the work; only the main one returns metrics.

    Args:
        weights: Path or URL of a weight file, "centermask_solo://" and the name of a config, or an exported file.
        ground_truth: Annotations in COCO's or LVIS's format.
        images: Folder of their images.
        dataset: Name of a registered dataset, instead of both.
        output_dir: Folder of ``evaluation.json``, ``evaluation.txt``, ``log.txt``, and the results in
            ``inference/<dataset>``.
        config_file: Config of the weights, where it cannot be found.
        dtype: Precision of the networks: see ``TEST.DTYPE``; "" for that of the config.
        device: Device of the model; "" for that of the config.
        threads: Number of CPU threads; None for the choice of the runtime.
        providers: What computes an exported file: see ``ExportedPredictor``.
        opts: Config options to override, keys and values in turn; of an exported file only those that are not about
            the model.
        overwrite: Whether the results of another evaluation in ``output_dir`` are replaced.
        screen: What of the log is also printed.

    Raises:
        UserError: Something is wrong with the weights, the config, the dataset or the output folder.
    """
    if ground_truth and not images:
        raise ConfigError(f"give the folder of the images of {ground_truth} with --images")
    path = without_query(weights)
    claim_folder(output_dir, RESULTS, [path], overwrite=overwrite)
    options = ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", output_dir]
    config: str | CfgNode = config_file
    if format_of_file(path) is None:
        config = config_file or find_config(weights)
        options += ["TEST.DTYPE", dtype] if dtype else []
        options += ["MODEL.DEVICE", device] if device else []
        if providers:
            raise ConfigError(f"--providers is for exported files, which {path} is not: choose a --device")
        if threads:
            torch.set_num_threads(threads)
    else:
        flags = {"--config-file": config_file, "--dtype": dtype, "--device": device}
        fixed = [x for x in opts[::2] if x.startswith(("MODEL.", "TEST.")) and x not in READ_BESIDE_MODELS]
        check_no_options(path, [*(flag for flag, value in flags.items() if value), *fixed])
    name = dataset or register_files(ground_truth, images)
    if name in DatasetCatalog:
        options += ["DATASETS.COCO_JSON", "[]"]  # of the training, maybe of the same name
    options += ["DATASETS.TEST", repr((name,))]
    args = argparse.Namespace(config_file="", resume=False, eval_only=True, opts=[*opts, *options])
    stored = config if isinstance(config, CfgNode) else None
    args.config_file = "" if stored else config
    return evaluate(setup_cfg(args, screen=screen, config=stored), threads=threads, providers=providers)
