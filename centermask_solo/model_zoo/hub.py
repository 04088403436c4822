"""Weights on the Hugging Face Hub: loading and uploading, with a model card."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict

from ..checkpoint.files import AVERAGE_KEY, AVERAGE_QUERY, RESULTS, read_weights, write_safetensors
from ..config import default_config
from ..inference.predictor import Predictor
from ..utils.errors import ConfigError, WeightsError
from ..utils.files import atomic_write
from ..utils.text import counted, first_line
from .conversion import Converted, convert_weights
from .hub_files import ADDRESS, ENDPOINT, FILE, PREFIX, hub_package
from .loading import load

CARD = "README.md"
SHOWN_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "mIoU", "PQ")


def from_pretrained(weights: str | os.PathLike[str], **options: Any) -> Predictor:
    """Return a predictor from a weight file or ``hf://owner/repo@revision/file``.

    Args:
        weights: Path or address.
        options: As in :func:`~.loading.load`, whose other name this is.
    """
    return load(weights, **options)


def push_to_hub(
    weights: str,
    repo: str,
    *,
    config_file: str = "",
    results: Mapping[str, Any] | None = None,
    license: str = "",
    private: bool = False,
    message: str = "Upload model",
) -> str:
    """Upload weights as ``model.safetensors``, with class names and config inside, and a model card; return the page.

    The repository is made if there is none. The token is that of ``hf auth login``, or of the variable ``HF_TOKEN``.

    Args:
        weights: Weights of a detector, such as "output/model_final.pth".
        repo: Repository, "owner/name".
        config_file: Config of the weights, if it is not inside the file.
        results: Metrics for the card; by default those that training has measured of the weights.
        license: License of the weights, such as "apache-2.0"; depends on the data they were trained on.
        private: Whether a new repository is private.
        message: Of the commit.

    Raises:
        ConfigError: The name of the repository is none.
        WeightsError: The weights cannot be read, or the upload fails.
        MissingPackageError: The package huggingface_hub is not installed.
    """
    if not ADDRESS.fullmatch(PREFIX + repo) or "@" in repo or repo.count("/") != 1:
        raise ConfigError(f"{repo} is no repository of a hub: give OWNER/NAME")
    hub = hub_package()
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, FILE)
        done = convert_weights(weights, target, config_file=config_file)
        _remove_paths(target, done.cfg)
        with atomic_write(os.path.join(folder, CARD)) as file:
            file.write(model_card(repo, done, read_results(weights) if results is None else results, license))
        api = hub.HfApi(endpoint=os.environ.get(ENDPOINT))
        try:
            page = str(api.create_repo(repo, private=private, exist_ok=True))
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except Exception as error:  # of the network or of the hub
            raise WeightsError(
                f"{repo} cannot be written ({first_line(error)}): log in with 'hf auth login' as one who may write"
            ) from error
    return page


def _remove_paths(path: str, cfg: CfgNode) -> None:
    """Write a converted file again, without the paths of this machine in its config."""
    values, metadata = read_weights(path)
    public, defaults = cfg.clone(), default_config()
    public.OUTPUT_DIR, public.DATASETS.COCO_JSON = defaults.OUTPUT_DIR, []
    write_safetensors(path, {**metadata, "model": values, "config": public.dump()})


def read_results(weights: str) -> dict[str, Any]:
    """Return the metrics that training has measured of weights, or none.

    They are inside ``model_best.pth`` and ``model_final.pth``, with those of its average. Other checkpoints have none.
    """
    path, _, query = weights.partition("?")
    found = read_weights(path, mapped=True).metadata.get(RESULTS) if os.path.isfile(path) else None
    if not isinstance(found, Mapping):
        return {}
    prefix = f"{AVERAGE_KEY}/"
    if query == AVERAGE_QUERY:
        return {name.removeprefix(prefix): x for name, x in found.items() if name.startswith(prefix)}
    return {name: x for name, x in found.items() if not name.startswith(prefix)}


def model_card(repo: str, model: Converted, results: Mapping[str, Any], license: str = "") -> str:
    """Return the model card of weights in Markdown: what they are, how they are used, classes and metrics."""
    cfg, names = model.cfg, model.thing_classes or []
    task = "image-segmentation" if cfg.MODEL.MASK_ON else "object-detection"
    tags = [
        "library_name: centermask_solo",
        f"pipeline_tag: {task}",
        "tags:",
        "- instance-segmentation",
        "- detectron2",
    ]
    lines = ["---", *([f"license: {license}"] if license else []), *tags, "---", "", f"# {repo.partition('/')[2]}", ""]
    lines += [f"{cfg.MODEL.META_ARCHITECTURE} with the backbone of `{cfg.MODEL.BACKBONE.NAME}`.", ""]
    lines += [
        "```python",
        "from centermask_solo import from_pretrained",
        "",
        f'model = from_pretrained("{PREFIX}{repo}")',
    ]
    lines += ['instances = model("photo.jpg")["instances"]', "```", ""]
    images = (
        f"{cfg.INPUT.FORMAT}, shorter side {cfg.INPUT.MIN_SIZE_TEST}, longer side at most {cfg.INPUT.MAX_SIZE_TEST}"
    )
    lines += [f"* Parameters: {counted(model.num_entries, 'tensor')}", f"* Images: {images} pixels"]
    lines += [f"* Classes ({len(names)}): {', '.join(names)}"] if names else []
    rows = metrics_of(results)
    if rows:
        lines += ["", "| metric | value |", "| --- | --- |", *(f"| {name} | {value:.2f} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def metrics_of(results: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the metrics that a card shows, without those of single classes."""
    flat = flatten_results_dict(dict(results))
    shown = {name: x for name, x in flat.items() if name.rpartition("/")[2] in SHOWN_METRICS and x is not None}
    return [(name, x) for name, x in shown.items() if math.isfinite(x)]
