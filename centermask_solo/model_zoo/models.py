"""The published models, as ``models.yaml`` lists them: every figure is its publisher's, none was measured here."""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

_TABLE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class Release:
    """What the models of one publication have in common; "" is what is not known.

    Attributes:
        source: where the figures stand.
        split: the images of the AP.
        speed_unit: of the speeds.
        hardware: of the speeds.
        layout: whose key names the weights have.
        licence: of the repository; none is stated for the weights themselves.
    """

    source: str
    split: str
    speed_unit: str
    hardware: str = ""
    layout: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Model:
    """A published model. Figures are None, and texts empty, where nothing was published or is known.

    Attributes:
        config: the name of its config file below ``configs``.
        backbone: body and what is special about it.
        schedule: in Detectron2's words, or iterations x batch.
        release: what it shares with the others of its publication.
        mask_ap, box_ap, pq: percentages, of ``release.split``.
        speed: in ``release.speed_unit``.
        file: the name of the weights; empty if none were published.
        addresses: where the file can be had.
        sha256: of the file.
        note: what the figures alone do not say.
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
        """SOLOv2, CenterMask or YOLACT: the folder of the config."""
        return self.config.split("/")[0]


@functools.cache
def _all_models() -> tuple[Model, ...]:
    releases = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    models = []
    for entry in releases:
        rows = entry.pop("models")
        release = Release(**entry)
        for config, row in rows.items():
            addresses = tuple(row.pop("addresses", ()))
            models.append(Model(config=config, release=release, addresses=addresses, **row))
    return tuple(models)


def list_models(system: str | None = None) -> list[Model]:
    """The published models, or those of one system ("SOLOv2", "CenterMask", "YOLACT"), in the order of the table."""
    return [model for model in _all_models() if system in (None, model.system)]


def find_model(config_path: str) -> Model:
    """The published model with this config, such as "SOLOv2/solov2_R_50_3x.yaml".

    Raises:
        FileNotFoundError: there is none; the sentence names the nearest one.
    """
    models = {model.config: model for model in list_models()}
    if config_path not in models:
        near = difflib.get_close_matches(config_path, models, n=1, cutoff=0.0)[0]
        raise FileNotFoundError(f"{config_path} is not a published model; the nearest one is {near}")
    return models[config_path]
