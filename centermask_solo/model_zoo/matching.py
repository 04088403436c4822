"""The configs that weights fit, and the one they belong to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..checkpoint.files import check_weights_file, without_query
from ..checkpoint.sources import PixelFormat
from ..checkpoint.weight_file import WeightFile
from .models import list_models
from .signatures import Signature, load_signatures
from .weights import PREFIX, sha256_of


@dataclass(frozen=True)
class Candidate:
    """A config whose model the weights fill.

    Attributes:
        signature: What is known of the config.
        options: Options to change in it: the number of classes, and the images.
    """

    signature: Signature
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the config below ``configs``."""
        return self.signature.config


class Match(NamedTuple):
    """The configs of this package that a file fits.

    Attributes:
        candidates: Those that differ in the fewest options: none at all, or else the number of classes and the images.
            For a bare backbone, the configs that can start from it.
        chosen: The config that a detector belongs to; None if no config fits, or several that predict differently.
    """

    candidates: list[Candidate]
    chosen: Candidate | None


def match_configs(file: WeightFile) -> Match:
    """Return the configs that a file fits, matched by names, shapes and images.

    The choice is certain if the file is the published weights of a config: by the name of a model, by its exact file
    name or sha256 in the table of models, or by a file name that the source gives to weights of that config. Otherwise
    a config is chosen only if all that fit predict the same, and then it is the first one.
    """
    fitting = [
        Candidate(signature, adapt(file, signature.num_classes, signature.pixel_format))
        for signature in load_signatures()
        if signature.matches(file)
    ]
    candidates = [candidate for candidate in fitting if not candidate.options] or fitting
    if file.is_backbone or not candidates:
        return Match(candidates, None)
    published = _published_configs(file, candidates)
    if len(published) == 1:
        return Match(published + [candidate for candidate in candidates if candidate not in published], published[0])
    alike = {_prediction_key(candidate) for candidate in candidates}
    return Match(candidates, candidates[0] if len(alike) == 1 else None)


def adapt(
    file: WeightFile, num_classes: int | None, pixel_format: PixelFormat, *, images: bool = True
) -> dict[str, Any]:
    """Return the options that a config has to be given for a file.

    Args:
        file: The weights.
        num_classes: Number of classes of the config.
        pixel_format: Images that the config gives its model.
        images: Whether to change the images, too, to those the weights were trained on.
    """
    options: dict[str, Any] = {}
    if file.system is not None and file.num_classes not in (None, num_classes):
        options[file.system.num_classes_key] = file.num_classes
    expected = file.pixel_format
    if images and expected is not None and not expected.agrees_with(pixel_format):
        options["INPUT.FORMAT"] = expected.channels
        options["MODEL.PIXEL_MEAN"], options["MODEL.PIXEL_STD"] = list(expected.mean), list(expected.std)
    return options


def _published_configs(file: WeightFile, candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates whose published weights a file is."""
    if file.path.startswith(PREFIX):
        return [candidate for candidate in candidates if PREFIX + candidate.name == file.path]
    name = os.path.basename(without_query(file.path))
    pattern = file.source.file_name if file.source else None
    written = pattern.fullmatch(name) if pattern else None
    models = [model for model in list_models() if model.config in {candidate.name for candidate in candidates}]
    digest = sha256_of(check_weights_file(file.path)) if any(model.sha256 for model in models) else ""
    configs = {
        model.config for model in models if model.file == name or (model.sha256 and digest.startswith(model.sha256))
    }
    return [
        candidate
        for candidate in candidates
        if candidate.name in configs or (written and candidate.name.endswith(f"/{written['config']}.yaml"))
    ]


def _prediction_key(candidate: Candidate) -> str:
    """Return what prediction with a candidate depends on, its changed options included."""
    signature, options = candidate.signature, candidate.options
    images = None if "INPUT.FORMAT" in options else signature.pixel_format  # all that change them get the same
    return repr((signature.prediction, images))
