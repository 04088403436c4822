"""The one way in which weights enter a model and leave it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from .files import check_weights_file, read_file
from .fit import Fit, judge, layers_of, name_some
from .sources import PixelFormat, Source, find_source
from .sources.own import recorded_format

# What an ImageNet file has beyond the backbone: its classifier, one or two layers of at most a weight and a bias each.
MAX_CLASSIFIER_KEYS = 4
ADVICE = "give weights of this model, or a config that fits the file"
# What the config states or what only counts batches: it may be in a file or in a model without a counterpart.
IGNORED_SUFFIXES = ("num_batches_tracked", "pixel_mean", "pixel_std")


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, which reads files safely and does not let a wrong one pass.

    Differs: files are read without running code from them, under the names of any code base of
    :data:`~centermask_solo.checkpoint.sources.SOURCES`; a file that does not fit the model is an error instead of a
    warning, except for the layers of another number of classes; images other than those the weights were trained on are
    an error or a warning; class names and config are saved with the weights, and come back as ``thing_classes`` and
    ``config`` of what :meth:`load` returns.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        complete: bool = False,
        thing_classes: Sequence[str] | None = None,
        config: str | None = None,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model: whose parameters are loaded and saved.
            save_dir: where checkpoints are written, and looked for on resuming.
            complete: a file that leaves a parameter unfilled, or was trained on other images than the config gives, is
                an error (for prediction and evaluation, which would be meaningless), not a warning (for training,
                which may start from a backbone, and learns).
            thing_classes: names of the classes in the order of the model's outputs, to be saved with the weights.
            config: of the model, as YAML, to be saved with the weights.
            checkpointables: what else is saved and loaded, as in Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.thing_classes = thing_classes
        self.config = config
        self._file = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth to the folder of checkpoints, with class names and config where they are known."""
        if self.thing_classes is not None:
            kwargs["thing_classes"] = list(self.thing_classes)
        if self.config is not None:
            kwargs["config"] = self.config
        super().save(name, **kwargs)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What the file holds beyond model and checkpointables, which are loaded; ``path`` may be empty.

        Raises:
            FileNotFoundError: there is no such file, or it cannot be fetched.
            ValueError: it is no checkpoint, or does not fit the model.
        """
        if path:
            check_weights_file(path)
        self._file = path
        self._parsed_url_during_load = None  # Detectron2 asserts it, but does not reset it after a failure
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith((".pkl", ".pyth")):
            return read_file(filename, self._file)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> Any:
        return read_file(f, self._file)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Fills the model; what Detectron2 is to report, which is nothing about a file of a known source."""
        values = checkpoint["model"]
        source = find_source(values, checkpoint)
        if source is not None:
            checkpoint.update(self._translate(source, values))
        mismatch = super()._load_model(checkpoint)
        for keys in (mismatch.missing_keys, mismatch.unexpected_keys):
            keys[:] = [key for key in keys if not key.endswith(IGNORED_SUFFIXES)]
        keys = [key for key in self.model.state_dict() if not key.endswith(IGNORED_SUFFIXES)]
        fit = judge(keys, *mismatch, bare_backbone=source is not None and not source.system)
        if source is None:
            self._refuse_another_model(keys, mismatch, values)
        elif fit.faults:
            faults = "; ".join(fit.faults)
            raise ValueError(f"{self._file} ({source.name}) does not fit {self._name}: {faults}; {ADVICE}")
        if self.complete and mismatch.missing_keys:
            self._refuse_incomplete(keys, mismatch, fit)
        self._check_pixel_format(source, values, checkpoint)
        self._report_bare_backbone(keys, mismatch.missing_keys)
        if source is None:
            return mismatch
        self._report(fit)
        return None

    @property
    def _name(self) -> str:
        return type(self.model).__name__

    def _translate(self, source: Source, values: dict[str, Any]) -> dict[str, Any]:
        """What of a checkpoint changes where its weights are those of a source."""
        self.logger.info(f"{self._file} is {source.name}.")
        try:
            weights, dropped = source.translate(values)
        except ValueError as error:
            raise ValueError(f"{self._file}: {error}") from error
        keys_of = defaultdict(list)
        for key, reason in dropped.items():
            keys_of[reason].append(key)
        for reason, keys in keys_of.items():
            self.logger.info(f"Left out of {self._file}: {name_some(keys)} ({reason}).")
        # Detectron2's heuristics find where in the model a bare backbone sits.
        return {"model": weights, "matching_heuristics": not source.system, "__author__": source.name}

    def _refuse_another_model(self, keys: list[str], mismatch: Any, values: dict[str, Any]) -> None:
        """The error of a file of no known source that is neither of this kind of model nor of a backbone."""
        another = f"{self._file} holds the weights of another model"
        if set(keys) <= set(mismatch.missing_keys):
            raise ValueError(
                f"{another}: none of its {len(values)} keys (such as '{next(iter(values))}') fits {self._name} "
                f"(such as '{keys[0]}'); {ADVICE}"
            )
        rest = _outside_backbone(keys)
        unfilled = [key for key in rest if key in mismatch.missing_keys]
        foreign = [key for key in mismatch.unexpected_keys if key not in keys]
        if len(unfilled) > len(rest) / 2 and len(foreign) > MAX_CLASSIFIER_KEYS:
            raise ValueError(
                f"{another}: outside the backbone it lacks {len(unfilled)} of the {len(rest)} parameters of "
                f"{self._name} (such as '{unfilled[0]}'), and {len(foreign)} of its own (such as '{foreign[0]}') "
                f"have no place; {ADVICE}"
            )

    def _refuse_incomplete(self, keys: list[str], mismatch: Any, fit: Fit) -> None:
        """The error of a file that does not fill the model."""
        missing, shape = mismatch.missing_keys, ""
        if mismatch.incorrect_shapes:
            key, there, here = min(mismatch.incorrect_shapes)
            shape = f"; '{key}' is {tuple(there)} there and {tuple(here)} here"
        if set(missing) <= set(fit.class_layers):
            raise ValueError(
                f"{self._file} was trained on another number of classes than {self._name} has here{shape}; give the "
                "config the number of classes of the file, or train on yours"
            )
        raise ValueError(
            f"{self._file} lacks {len(missing)} of the {len(keys)} parameters of {self._name} (such as "
            f"'{min(missing)}'{shape}), so its detections would be meaningless; {ADVICE}"
        )

    def _check_pixel_format(self, source: Source | None, values: dict[str, Any], metadata: dict[str, Any]) -> None:
        """A warning or an error if the config gives other images than those that the weights were trained on."""
        recorded = recorded_format(metadata)
        expected = recorded or (source.pixel_format(values) if source else None)
        given = _pixel_format_of(self.model)
        if expected is None or given is None or expected.agrees_with(given):
            return
        message = (
            f"{self._file} was trained on other images than the config gives ({given}), so its detections would be "
            f"wrong: give {expected}"
        )
        certain = recorded is not None or (source is not None and source.always_this_format)
        if self.complete and certain:
            raise ValueError(message)
        self.logger.warning(message + ("" if certain else "; unless these weights are not the published ones"))

    def _report_bare_backbone(self, keys: list[str], missing: list[str]) -> None:
        """One line in the log, instead of all that is ``missing``, if the file fills the backbone alone."""
        rest = _outside_backbone(keys)
        if rest and set(rest) <= set(missing):
            self.logger.info(
                f"{self._file} fills {len(keys) - len(missing)} parameters of the backbone; "
                f"the other {len(missing)} parameters of {self._name} start from their initialization."
            )
            missing.clear()

    def _report(self, fit: Fit) -> None:
        """A line in the log for each kind of thing that is in the file or in the model alone."""
        if fit.class_layers:
            self.logger.warning(
                f"{self._file} was trained on another number of classes: {layers_of(fit.class_layers)} start from "
                "their initialization, everything else is loaded."
            )
        if fit.new_parts:
            self.logger.warning(
                f"{self._file} lacks {', '.join(fit.new_parts)}, which start from their initialization."
            )
        if fit.unbuilt_parts:
            self.logger.warning(
                f"Left out of {self._file}, because the config does not build it: {', '.join(fit.unbuilt_parts)}."
            )


def _outside_backbone(keys: list[str]) -> list[str]:
    return [key for key in keys if not key.startswith("backbone.")]


def _pixel_format_of(model: nn.Module) -> PixelFormat | None:
    """What a model gives its networks; None if it does not tell."""
    channels, mean, std = (getattr(model, name, None) for name in ("input_format", "pixel_mean", "pixel_std"))
    if channels is None or mean is None or std is None:
        return None
    return PixelFormat(channels, tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))
