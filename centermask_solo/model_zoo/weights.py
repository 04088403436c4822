"""From a published model to its weights on this machine."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from detectron2.utils.file_io import PathHandler, PathManager

from .models import Model, find_model

PREFIX = "centermask_solo://"
FOLDER_VARIABLE = "CENTERMASK_SOLO_WEIGHTS"
_BLOCK = 1 << 20  # bytes read at a time


def weights_state(model: Model) -> str:
    """Where the weights are: "local", "address known", "no address" or "not published"."""
    if not model.file:
        return "not published"
    if os.path.isfile(_local_path(model)):
        return "local"
    return "address known" if model.addresses else "no address"


def find_weights(model: Model) -> str:
    """The path of the published weights on this machine: in the folder $CENTERMASK_SOLO_WEIGHTS, or downloaded.

    Raises:
        FileNotFoundError: they cannot be had, or the file is not the published one; the sentence says what to do.
    """
    if not model.file:
        raise FileNotFoundError(f"no weights of {model.config} were published: train it, or choose another model")
    local = _local_path(model)
    if os.path.isfile(local):
        fault = _fault(local, model.sha256)
        if fault:
            raise FileNotFoundError(f"{local} is not the published file: {fault}; replace it")
        return local
    tried = []
    for address in model.addresses:
        try:
            path = PathManager.get_local_path(address)
        except Exception as error:  # whatever a handler raises
            tried.append(f"{address} ({(str(error).strip() or type(error).__name__).splitlines()[0]})")
            continue
        fault = _fault(path, model.sha256)
        if not fault:
            return path
        os.remove(path)  # it would come from the cache for ever
        tried.append(f"{address} ({fault})")
    reason = f"tried {', '.join(tried)}" if tried else "no address of it is known"
    folder = os.environ.get(FOLDER_VARIABLE)
    raise FileNotFoundError(
        f"the weights {model.file} of {model.config} cannot be fetched ({reason}): put the file into the folder that "
        f"the environment variable {FOLDER_VARIABLE} names ({f'now {folder}' if folder else 'it is not set'})"
    )


def _local_path(model: Model) -> str:
    folder = os.environ.get(FOLDER_VARIABLE)
    return os.path.join(folder, model.file) if folder else ""


def _fault(path: str, sha256: str) -> str:
    """What shows that a file is not the published one; empty if nothing does."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        block = file.read(_BLOCK)
        if block.lstrip().startswith(b"<"):
            return "it is a web page"  # as hosts answer for what they no longer have
        while sha256 and block:
            digest.update(block)
            block = file.read(_BLOCK)
    if sha256 and digest.hexdigest() != sha256:
        return f"its sha256 is {digest.hexdigest()} and not {sha256}"
    return ""


class ZooHandler(PathHandler):
    """Resolves "centermask_solo://SOLOv2/solov2_R_50_3x.yaml" to the published weights of that config."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return find_weights(find_model(path.removeprefix(PREFIX)))


PathManager.register_handler(ZooHandler())
