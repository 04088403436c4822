"""The published models in ``models.yaml``: every figure is its publisher's, none was measured here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from ..utils.errors import ConfigError
from ..utils.text import nearest_hint
from ..utils.yaml import load_yaml

_TABLE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class Release:
    """What the models of one publication have in common; "" where something is unknown.

    Attributes:
        source: Where the figures were published.
        split: Images that the AP was measured on.
        speed_unit: Unit of the speeds.
        hardware: Hardware that the speeds were measured on.
        layout: Code base whose key names the weights have.
        license: License of the repository; none is stated for the weights themselves.
        page: Repository whose README links the files.
    """

    source: str
    split: str
    speed_unit: str = ""
    hardware: str = ""
    layout: str = ""
    license: str = ""
    page: str = ""


@dataclass(frozen=True)
class Model:
    """A published model. Figures are None, and texts empty, where nothing was published or is known.

    Attributes:
        config: Name of its config file below ``configs``.
        backbone: Body of the backbone, and what is special about it.
        schedule: Length of the training in Detectron2's words, or iterations x batch size.
        release: What it shares with the others of its publication.
        mask_ap, box_ap, pq: Percentages on ``release.split``.
        speed: Speed in ``release.speed_unit``.
        file: Name of the file of its weights; empty if none were published.
        addresses: URLs of the file.
        sha256: Digest of the file, or its first digits.
        note: What the figures alone do not say.
    """

    config: str
    backbone: str
    schedule: str
    release: Release
    mask_ap: float | None = None
    box_ap: float | None = None
    pq: float | None = None
    speed: float | None = None
    file: str = ""
    addresses: tuple[str, ...] = ()
    sha256: str = ""
    note: str = ""

    @property
    def system(self) -> str:
        """The folder of the config: SOLOv2, CenterMask or YOLACT."""
        return self.config.split("/")[0]


@functools.cache
def _all_models() -> tuple[Model, ...]:
    releases = load_yaml(_TABLE.read_text(encoding="utf-8"))
    models = []
    for entry in releases:
        rows = entry.pop("models")
        release = Release(**entry)
        for config, row in rows.items():
            addresses = tuple(row.pop("addresses", ()))
            models.append(Model(config=config, release=release, addresses=addresses, **row))
    return tuple(models)


def list_models(system: str | None = None) -> list[Model]:
    """Return the published models, or those of one system ("SOLOv2", "CenterMask", "YOLACT"), in the table's order."""
    return [model for model in _all_models() if system in (None, model.system)]


def find_model(config_path: str) -> Model:
    """Return the published model with this config, such as "SOLOv2/solov2_R_50_3x.yaml".

    Raises:
        ConfigError: There is none; the message names the nearest one.
    """
    models = {model.config: model for model in list_models()}
    if config_path not in models:
        hint = nearest_hint(config_path, models) or "; 'centermask-solo models' lists them"
        raise ConfigError(f"{config_path} is not a published model{hint}")
    return models[config_path]
