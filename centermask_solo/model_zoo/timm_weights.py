"""``timm://``, which stands for the ImageNet weights of a model of timm."""

from __future__ import annotations

from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager

from ..modeling.backbone.timm import import_timm
from ..utils.errors import MissingPackageError, WeightsError
from ..utils.text import nearest_hint

PREFIX = "timm://"
FILE = "model.safetensors"  # in every repository of timm's


def find_timm_weights(name: str) -> str:
    """Return the path of timm's weights of a model, such as "resnet50.tv2_in1k": downloaded, or from the cache.

    Raises:
        MissingPackageError: timm or huggingface_hub is not installed.
        WeightsError: There is no such model, or it has no weights.
    """
    timm = import_timm()
    if not timm.is_model(name):
        hint = nearest_hint(name, timm.list_models())
        raise WeightsError(f"{PREFIX}{name}: timm {timm.__version__} has no such model{hint}")
    weights = timm.get_pretrained_cfg(name)
    if weights is None or not weights.hf_hub_id:
        known = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "none"
        raise WeightsError(
            f"{PREFIX}{name}: timm {timm.__version__} has no weights of this name; of this model: {known}"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise MissingPackageError(
            f"{PREFIX}{name} needs the package huggingface_hub: run 'pip install huggingface_hub', or give the path of "
            "a copy"
        ) from error
    return hf_hub_download(repo_id=weights.hf_hub_id, filename=FILE)


class TimmHandler(PathHandler):
    """Resolves "timm://resnet50.tv2_in1k" to timm's weights of that model."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return find_timm_weights(path.removeprefix(PREFIX))


PathManager.register_handler(TimmHandler())
