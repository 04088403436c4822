"""Files on the Hugging Face Hub: ``hf://owner/repo@revision/file`` wherever weights are read."""

from __future__ import annotations

import os
import re
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote

from detectron2.utils.file_io import PathHandler, PathManager

from ..utils.errors import MissingPackageError, WeightsError
from ..utils.text import first_line

PREFIX = "hf://"
FILE = "model.safetensors"  # of a repository, unless another is named
REVISION = r"refs/(?:pr|convert)/[^/]+|[^/]+"  # other slashes are %2F
ADDRESS = re.compile(rf"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>{REVISION}))?(?:/(?P<file>.+))?")
ENDPOINT = "HF_ENDPOINT"  # variable with the address of another hub, as huggingface_hub has it


class HubAddress(NamedTuple):
    """A file on the hub."""

    repo: str
    revision: str | None
    file: str


def parse_address(address: str) -> HubAddress:
    """Return the parts of ``hf://owner/repo@revision/file``, of which revision and file may be left out.

    A slash in the name of a branch is written as %2F, unless it is ``refs/pr/N`` or ``refs/convert/NAME``.

    Raises:
        WeightsError: It is no such address.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise WeightsError(f"{address} is no address of a hub: give hf://OWNER/REPOSITORY, or with @REVISION and /FILE")
    revision = found["revision"] and unquote(found["revision"])
    return HubAddress(found["repo"], revision, found["file"] or FILE)


def find_on_hub(address: str) -> str:
    """Return the path of a file of the hub on this machine; it is fetched unless its revision is there already.

    Raises:
        WeightsError: The address is wrong, or the file cannot be fetched.
        MissingPackageError: The package huggingface_hub is not installed.
    """
    repo, revision, file = parse_address(address)
    hub = hub_package()
    try:
        return hub.hf_hub_download(repo, file, revision=revision, endpoint=os.environ.get(ENDPOINT))
    except Exception as error:  # of the network, of the hub, or of its cache
        raise WeightsError(
            f"{address} cannot be fetched ({first_line(error)}): check owner, repository, revision and file, and log "
            "in with 'hf auth login' if it is private"
        ) from error


def hub_package() -> ModuleType:
    """Return the package huggingface_hub; raise MissingPackageError if it is not installed."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "the hub needs the package huggingface_hub: run 'pip install \"centermask_solo[hub]\"'"
        ) from error
    return huggingface_hub


class HubHandler(PathHandler):
    """Resolves "hf://owner/repo@revision/file"."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return find_on_hub(path)


PathManager.register_handler(HubHandler())
