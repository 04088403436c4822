"""From a weight file alone to a model that predicts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..inference.predictor import Predictor
from .lookup import load_cfg


def load(
    weights: str | os.PathLike[str],
    *,
    config_file: str = "",
    class_names: Sequence[str] | None = None,
    device: str | None = None,
    opts: Sequence[str] = (),
) -> Predictor:
    """Return a predictor with the weights of a detector, its config and its class names.

    The file may be a checkpoint of this package, the result of ``centermask-solo weights convert``, a detector of any
    other source, or "centermask_solo://" and the name of a config. The config is the one inside the file, or the one
    beside it that training wrote, or the only one of this package that the weights fit.

    Args:
        weights: Path or URL of the file.
        config_file: Config of the weights, where it cannot be found.
        class_names: Names of the classes, in order; by default those inside the file, or those of the config's dataset
            if their number is that of the model.
        device: Device of the model, such as "cpu"; by default a GPU if one is usable.
        opts: Config options to override, keys and values in turn.

    Raises:
        ConfigError: No config can be found, or another number of names is given.
        WeightsError: The weights cannot be read, several configs fit that predict differently, or none does.
    """
    options = [*opts, *(["MODEL.DEVICE", device] if device else [])]
    return Predictor(load_cfg(os.fspath(weights), config_file, options), class_names)
