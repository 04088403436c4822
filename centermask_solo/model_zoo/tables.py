"""The published models as tables: for the terminal, as records for JSON, and as MODEL_ZOO.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from tabulate import tabulate

from .models import Model, Release, list_models
from .weights import FOLDER_VARIABLE, PREFIX, weights_state

COMMAND = "python -m centermask_solo.cli models --markdown > MODEL_ZOO.md"
EXAMPLE = "CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml"
INTRODUCTION = f"""# Model zoo

<!-- Made by `{COMMAND}` from centermask_solo/model_zoo/models.yaml: change that. -->

The models whose configs are in `configs/`. `{PREFIX}` and the name of a config mean its published weights, wherever
`MODEL.WEIGHTS` or `--weights` stands:

```
centermask-solo models --system CenterMask
centermask-solo predict --weights {PREFIX}{EXAMPLE} --input photos/ --output predictions/
```

```python
from centermask_solo import model_zoo

model = model_zoo.get("{EXAMPLE}", trained=True)  # in training mode
```

The weights are looked for by the name of their file in the folder that the environment variable
`{FOLDER_VARIABLE}` names, and only then downloaded. Where an address is dead or not known, get the file from
its authors and put it there. Where a file is named as its config, its published name is not known either:
rename what you get. No sha256 of a published file is known; one that is entered in the table is checked.

## Published

Figures of the publications named below each table: **nothing in this part was measured in this project.** Speeds
are of different hardware and leave out different things: compare them within a publication only.
"""
MEASURED = """
## Measured in this project

Figures of trainings and measurements that were made here, with their commands and hardware, stand in

* [README.md](README.md#measured): accuracy on generated images, memory and time;
* [docs/real_photographs.md](docs/real_photographs.md): small models on photographs;
* [benchmarks/README.md](benchmarks/README.md): how memory and time are measured.

The AP of the published weights has not been measured here.
"""


def plain_table(models: Sequence[Model]) -> str:
    """The table for the terminal; the last column says whether the weights are on this machine."""
    headers = ("model", "published mask AP", "box AP", "of", "speed", "weights")
    rows = [
        (m.config, _number(m.mask_ap), _number(m.box_ap), m.release.split, _speed(m), weights_state(m)) for m in models
    ]
    return tabulate(rows, headers, disable_numparse=True)


def records(models: Sequence[Model]) -> list[dict[str, Any]]:
    """Everything that is known of each model, in plain values."""
    return [{**dataclasses.asdict(m), "system": m.system, "weights_state": weights_state(m)} for m in models]


def markdown() -> str:
    """The text of MODEL_ZOO.md. It does not depend on the machine."""
    systems = list(dict.fromkeys(model.system for model in list_models()))
    return INTRODUCTION + "".join(_section(name, list_models(name)) for name in systems) + MEASURED


def _section(system: str, models: Sequence[Model]) -> str:
    sources = list(dict.fromkeys(_describe(model.release) for model in models))
    columns = {
        "model": [f"[{PurePosixPath(m.config).stem}](configs/{m.config})" for m in models],
        "backbone": [m.backbone for m in models],
        "schedule": [m.schedule for m in models],
        "mask AP": [_number(m.mask_ap) for m in models],
        "box AP": [_number(m.box_ap) for m in models],
        "PQ": [_number(m.pq) for m in models],
        "speed": [_speed(m) for m in models],
        "weights": [_weights(m) for m in models],
        "source": [f"({sources.index(_describe(m.release)) + 1})" for m in models],
        "note": [m.note for m in models],
    }
    table = {name: values for name, values in columns.items() if any(values)}
    lines = [table, ["---"] * len(table), *zip(*table.values(), strict=True)]
    numbered = [f"{i}. {source}" for i, source in enumerate(sources, 1)]
    return "\n".join(["", f"### {system}", "", *(f"| {' | '.join(line)} |" for line in lines), "", *numbered, ""])


def _describe(release: Release) -> str:
    parts = [f"{release.source}. AP of {release.split}"]
    if release.layout:
        parts.append(f"key names of the weights: {release.layout}")
    if release.licence:
        parts.append(f"licence of the repository: {release.licence}")
    return "; ".join(parts) + "."


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _speed(model: Model) -> str:
    if model.speed is None:
        return ""
    hardware = model.release.hardware
    return f"{model.speed:g} {model.release.speed_unit}" + (f", {hardware}" if hardware else "")


def _weights(model: Model) -> str:
    if not model.file:
        return "not published"
    links = [f"[{model.file}]({address})" for address in model.addresses]
    return ", ".join(links) or f"{model.file}, address not known"
