"""Load weights into models, and save them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import nn

from ..utils.class_names import list_names
from ..utils.errors import NonFiniteLossError, WeightsError
from ..utils.files import atomic_write
from ..utils.text import name_some
from .class_rows import carry_classes
from .files import check_weights_file
from .first_convolution import describe_inflation
from .fit import Fit, fit_weights, outside_backbone, parameters_of, report_fit
from .folder import LAST_CHECKPOINT, check_sums, find_checkpoint, has_checkpoints, newest_intact
from .of_model import pixel_format_of, sources_of
from .weight_file import WeightFile, read_weight_file

ANOTHER_FOLDER = "give the config of that training, or another OUTPUT_DIR, or leave out --resume"
NO_OTHER = "no other checkpoint is intact, so start over with --overwrite"
ADVICE = "give weights of this model, or a config that fits the file"


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, which reads files safely and rejects those that do not fit the model.

    Differs: files are read without running code from them, under the names of any code base of
    :data:`~centermask_solo.checkpoint.sources.SOURCES`; a file that does not fit the model is an error instead of a
    warning, and leaves the model as it was; if only the classes differ, those that both name keep their weights, and
    the others start from their initialization; a checkpoint of another training is not resumed; images other than those
    the weights were trained on are an error or a warning; class names and config are saved with the weights, and come
    back as ``thing_classes`` and ``config`` of what :meth:`load` returns.
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
            model: Model whose parameters are loaded and saved.
            save_dir: Folder to write checkpoints to, and to look for them in when resuming.
            complete: Raise an error, not a warning, if a file leaves a parameter unfilled or was trained on other
                images than the config gives. For prediction and evaluation, which would be meaningless; training may
                start from a backbone, and adapts.
            thing_classes: Names of the classes in the order of the model's outputs, to save with the weights.
            config: Config of the model, as YAML, to save with the weights.
            checkpointables: What else to save and load, as in Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.thing_classes = thing_classes
        self.config = config
        self._path = ""
        self._resuming = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth to the folder of checkpoints, with class names and config where they are known.

        The file appears under its name once it is complete, and only then ``last_checkpoint`` names it: neither a full
        disk nor the end of the process costs an earlier checkpoint.

        Raises:
            NonFiniteLossError: A parameter is infinite or NaN; nothing is written.
            ConfigError: The file cannot be written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: x.state_dict() for key, x in self.checkpointables.items()}
        path = self.write(name, {"model": self.model.state_dict(), **states, **kwargs})
        self.tag_last_checkpoint(os.path.basename(path))

    def write(self, name: str, data: dict[str, Any]) -> str:
        """Write ``name``.pth with class names and config to the folder of checkpoints, whole or not at all.

        Args:
            name: Name of the file, without its suffix. ``last_checkpoint`` does not change.
            data: Content of the file, with the weights under "model".

        Returns:
            The path of the file.

        Raises:
            NonFiniteLossError: A weight is infinite or NaN; nothing is written.
            ConfigError: The file cannot be written.
        """
        weights = data["model"].items()
        faulty = next((key for key, x in weights if x.is_floating_point() and not x.isfinite().all()), None)
        if faulty is not None:
            raise NonFiniteLossError(
                f"training diverged: '{faulty}' became infinite or NaN, so {name}.pth is not written; lower "
                "SOLVER.BASE_LR, or set SOLVER.CLIP_GRADIENTS.ENABLED True"
            )
        if self.thing_classes is not None:
            data["thing_classes"] = list(self.thing_classes)
        if self.config is not None:
            data["config"] = self.config
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        with atomic_write(path, "wb") as file:
            torch.save(data, file)
        return path

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the newest checkpoint; a run killed meanwhile can still resume from the one before.

        Args:
            last_filename_basename: File name of the checkpoint, without its folder.
        """
        with atomic_write(os.path.join(self.save_dir, LAST_CHECKPOINT)) as file:
            file.write(last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Return whether the folder holds a checkpoint, be it one that ``last_checkpoint`` does not name."""
        return has_checkpoints(self.save_dir)

    def get_checkpoint_file(self) -> str:
        """See :func:`.folder.find_checkpoint`."""
        return find_checkpoint(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint of the folder with all its state if ``resume`` and there is one, or else ``path``.

        Raises:
            WeightsError: As for :meth:`load`; also if the checkpoint to resume has other classes, or leaves a parameter
                unfilled.
        """
        self._resuming = resume and not self.complete and self.has_checkpoint()
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self._resuming = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a file, or nothing if ``path`` is empty; return what it holds besides the model and the checkpointables.

        Raises:
            WeightsError: The file is missing, is not a checkpoint, or does not fit the model.
        """
        if path:
            check_weights_file(path)
        self._path = path
        self._parsed_url_during_load = None  # Detectron2 asserts it, but does not reset it after a failure
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if self._resuming:
            file = self._read_to_resume()
        else:
            file = read_weight_file(self._path, known_only=False, of_model=sources_of(self.model))
        if file.source is not None:
            self.logger.info(f"{file.path} is {file.source_name}.")
        names = {} if file.thing_classes is None else {"thing_classes": file.thing_classes}
        rest = {key: value for key, value in file.metadata.items() if key != "thing_classes"}
        return {**rest, **names, "model": file}

    def _read_to_resume(self) -> WeightFile:
        """Return the checkpoint to resume; raise WeightsError, with the one to resume instead, if it is damaged."""
        try:
            check_sums(self._path)
            return read_weight_file(self._path, known_only=False)
        except WeightsError as error:
            other = newest_intact(self.save_dir, damaged=self._path)
            way_out = f"delete it to resume from {other}, the newest that is intact" if other else NO_OTHER
            raise WeightsError(
                f"training cannot be resumed from {self._path}, which is damaged or not finite: {way_out}"
            ) from error

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Fill the model; return what Detectron2 is to report, which is nothing for a file of a known source."""
        file: WeightFile = checkpoint.pop("model")
        state = self.model.state_dict()
        if file.source is None and file.metadata.get("matching_heuristics"):
            self._convert_ndarray_to_tensor(file.weights)
            by_caffe2 = file.metadata.get("__author__") == "Caffe2"
            file = replace(file, weights=align_and_update_state_dicts(state, file.weights, c2_conversion=by_caffe2))
        if self._resuming:
            self._check_same_classes(file)
        elif self.thing_classes is not None and not self.complete:
            file = self._carry_classes(file, state)
        fit = fit_weights(file, state, inflate=not self.complete and not self._resuming)
        advice = ANOTHER_FOLDER if self._resuming else ADVICE
        if fit.faults:
            source = f" ({file.source_name})" if file.source else ""
            raise WeightsError(f"{file.path}{source} does not fit {self._name}: {'; '.join(fit.faults)}; {advice}")
        if (self.complete or self._resuming) and fit.missing:
            raise WeightsError(self._explain_incomplete(file, fit, len(parameters_of(state))))
        if fit.inflated:
            self.logger.info(describe_inflation(file.path, fit.inflated, self.model))
        else:
            self._check_pixel_format(file)
        mismatch = super()._load_model({"model": fit.weights})
        only_backbone = self._report_bare_backbone(file, fit, parameters_of(state))
        if file.source is not None:
            report_fit(file, fit, self.logger)
            return None
        missing = [] if only_backbone else fit.missing
        return mismatch._replace(missing_keys=missing, unexpected_keys=fit.left_over, incorrect_shapes=fit.wrong_shapes)

    @property
    def _name(self) -> str:
        return type(self.model).__name__

    def _explain_incomplete(self, file: WeightFile, fit: Fit, num_parameters: int) -> str:
        """Return the message for a file that does not fill the model."""
        shape = ""
        if fit.wrong_shapes:
            key, there, here = min(fit.wrong_shapes)
            shape = f"; '{key}' is {there} in the file but {here} in the model"
        if set(fit.missing) <= set(fit.class_layers):
            fix = "give the config the number of classes of the file, or train on your dataset"
            if self._resuming:
                fix = ANOTHER_FOLDER
            return f"{file.path} was trained on another number of classes than {self._name} has here{shape}; {fix}"
        effect, fix = "its detections would be meaningless", ADVICE
        if self._resuming:
            effect, fix = "training cannot be resumed", ANOTHER_FOLDER
        return (
            f"{file.path} lacks {len(fit.missing)} of the {num_parameters} parameters of {self._name} (such as "
            f"'{min(fit.missing)}'{shape}), so {effect}; {fix}"
        )

    def _check_same_classes(self, file: WeightFile) -> None:
        """Raise WeightsError if the checkpoint to resume names other classes, or another order, than the data."""
        theirs, ours = file.thing_classes, self.thing_classes
        if theirs is None or ours is None or theirs == list(ours):
            return
        raise WeightsError(
            f"{file.path} was trained on other classes, or on these in another order, so training cannot be resumed "
            f"(checkpoint: {list_names(theirs)}; dataset: {list_names(ours)}): {ANOTHER_FOLDER}"
        )

    def _carry_classes(self, file: WeightFile, state: dict[str, Any]) -> WeightFile:
        """Return a file in the classes of the training data, by name; say so in the log."""
        carried = carry_classes(file, state, self.thing_classes or ())
        if carried is None:
            return file
        new = [name for name in self.thing_classes or () if name not in carried.kept]
        parts = [f"those that both name keep their weights ({name_some(carried.kept)})"] if carried.kept else []
        parts += [f"these start from their initialization: {name_some(new)}"] if new else []
        if carried.restarted:
            parts = [f"{', '.join(carried.restarted)} start from their initialization"]
        self.logger.warning(
            f"{file.path} was trained on other classes, or on these in another order: {'; '.join(parts)}."
        )
        return carried.file

    def _check_pixel_format(self, file: WeightFile) -> None:
        """Warn, or raise WeightsError, if the config gives other images than those the weights were trained on."""
        expected, given = file.pixel_format, pixel_format_of(self.model)
        if expected is None or given is None or expected.agrees_with(given):
            return
        message = (
            f"{file.path} was trained on other images than the config gives ({given}), so its detections would be "
            f"wrong: give {expected}"
        )
        if self.complete and file.format_is_certain:
            raise WeightsError(message)
        self.logger.warning(
            message + ("" if file.format_is_certain else "; unless these weights are not the published ones")
        )

    def _report_bare_backbone(self, file: WeightFile, fit: Fit, keys: list[str]) -> bool:
        """Return whether the file fills the backbone only, after one line in the log that says so."""
        rest = outside_backbone(keys)
        if not rest or not set(rest) <= set(fit.missing):
            return False
        self.logger.info(
            f"{file.path} fills {len(keys) - len(fit.missing)} parameters of the backbone; "
            f"the other {len(fit.missing)} parameters of {self._name} start from their initialization."
        )
        return True
