"""The weights of published models on this machine, and ``centermask_solo://``, which stands for them."""

from __future__ import annotations

import os
from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager

from ..utils.errors import WeightsError
from ..utils.files import sha256_of
from ..utils.text import first_line
from .models import Model, find_model

PREFIX = "centermask_solo://"
FOLDER_VARIABLE = "CENTERMASK_SOLO_WEIGHTS"
_BLOCK = 1 << 20  # bytes that show whether a file is a web page


def weights_state(model: Model) -> str:
    """Return where the weights are: "local", "address known", "no address" or "not published"."""
    if not model.file:
        return "not published"
    if os.path.isfile(_local_path(model)):
        return "local"
    return "address known" if model.addresses else "no address"


def find_weights(model: Model) -> str:
    """Return the path of the published weights: in the folder $CENTERMASK_SOLO_WEIGHTS, or of the download.

    Raises:
        WeightsError: They cannot be fetched, or the file is not the published one; the message says what to do.
    """
    if not model.file:
        raise WeightsError(f"no weights of {model.config} were published: train it, or choose another model")
    local = _local_path(model)
    if os.path.isfile(local):
        fault = _fault(local, model.sha256)
        if fault:
            raise WeightsError(f"{local} is not the published file: {fault}; replace it")
        return local
    tried = []
    for address in model.addresses:
        try:
            path = PathManager.get_local_path(address)
        except Exception as error:  # whatever a handler raises
            tried.append(f"{address} ({first_line(error)})")
            continue
        fault = _fault(path, model.sha256)
        if not fault:
            return path
        os.remove(path)  # it would come from the cache forever
        tried.append(f"{address} ({fault})")
    reason = f"tried {', '.join(tried)}" if tried else "its address is unknown"
    page = f"get it where {model.release.page} links it, and " if model.release.page else ""
    folder = os.environ.get(FOLDER_VARIABLE)
    raise WeightsError(
        f"the weights {model.file} of {model.config} cannot be fetched ({reason}): {page}put the file into the folder "
        f"that the environment variable {FOLDER_VARIABLE} names ({f'now {folder}' if folder else 'it is not set'})"
    )


def _local_path(model: Model) -> str:
    folder = os.environ.get(FOLDER_VARIABLE)
    return os.path.join(folder, model.file) if folder else ""


def _fault(path: str, sha256: str) -> str:
    """Return what shows that a file is not the published one; empty if nothing does."""
    with open(path, "rb") as file:
        if file.read(_BLOCK).lstrip().startswith(b"<"):
            return "it is a web page"  # which hosts send for files that they no longer have
    digest = sha256_of(path) if sha256 else ""
    return "" if digest.startswith(sha256) else f"its sha256 is {digest} and not {sha256}"


class ZooHandler(PathHandler):
    """Resolves "centermask_solo://SOLOv2/solov2_R_50_3x.yaml" to the published weights of that config."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return find_weights(find_model(path.removeprefix(PREFIX)))


PathManager.register_handler(ZooHandler())
