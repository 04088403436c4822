"""What a checkpoint stores of a training beside its weights, and how an interrupted training goes on from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detectron2.solver import LRMultiplier

from ..data.loader import TrainLoader
from ..utils.errors import WeightsError
from ..utils.text import name_some
from .optimizer import check_kind, check_optimizer_state, check_shapes

if TYPE_CHECKING:
    from .trainer import Trainer

logger = logging.getLogger(__name__)

PARAMETERS, SEED, BATCHES, UNMEASURED = "parameters", "data_seed", "batches", "unmeasured"  # entries of checkpoints
OPTIONS = {  # of the optimizer, by their names in its groups of parameters
    "initial_lr": "learning rate",
    "weight_decay": "weight decay",
    "momentum": "momentum",
    "nesterov": "Nesterov momentum",
    "betas": "betas",
    "eps": "epsilon",
}
RATES = ("lr", "initial_lr")
NAMED = 2  # changes of an option


def training_state(trainer: Trainer) -> dict[str, Any]:
    """Return what resuming needs beside the weights and Detectron2's own state."""
    state: dict[str, Any] = {PARAMETERS: _trained(trainer)}
    if isinstance(trainer.data_loader, TrainLoader):
        state |= {SEED: trainer.data_loader.seed, BATCHES: trainer.data_loader.batches}
    if trainer.best is not None:
        state[UNMEASURED] = sorted(trainer.best.unmeasured)
    return state


def with_own_options(trainer: Trainer, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored state with the options that the trainer's optimizer has now, such as its learning rates.

    Options that changed are logged in one line. Parameters are matched by name, because other factors of learning rates
    group them otherwise.

    Args:
        trainer: Its optimizer is as the config says.
        state: What ``state_dict`` of the interrupted training returned.

    Raises:
        WeightsError: Its optimizer is of another kind, or has other parameters.
    """
    stored, optimizer, ours = state["_trainer"]["optimizer"], trainer.optimizer, _trained(trainer)
    theirs = state.get(PARAMETERS) or ours
    if PARAMETERS not in state or len(set(theirs)) < len(theirs):  # of an earlier version
        check_optimizer_state(optimizer, stored)
        theirs = ours
    check_kind(optimizer, stored)
    if set(theirs) != set(ours):
        only = sorted({*theirs} ^ {*ours})
        raise WeightsError(
            f"its optimizer trains other parameters, such as with another MODEL.FREEZE or MODEL.BACKBONE.FREEZE_AT: "
            f"{name_some(only, NAMED)}"
        )
    places = {name: i for i, name in enumerate(theirs)}
    of_parameter = {i: group for group in stored["param_groups"] for i in group["params"]}
    buffers = {j: stored["state"][places[name]] for j, name in enumerate(ours) if places[name] in stored["state"]}
    check_shapes(optimizer, buffers)
    groups: list[dict[str, Any]] = []
    changes: dict[str, list[tuple[Any, Any]]] = {key: [] for key in OPTIONS}
    for group in optimizer.state_dict()["param_groups"]:
        before = [of_parameter[places[ours[j]]] for j in group["params"]]
        if not isinstance(trainer.scheduler, LRMultiplier):  # its rates cannot be computed anew
            group = group | {key: before[0][key] for key in RATES if before and key in before[0]}
        groups.append(group)
        for key, pairs in changes.items():
            pairs += [(x[key], group[key]) for x in before if key in x and key in group and x[key] != group[key]]
    _log_changes(changes)
    inner = state["_trainer"] | {"optimizer": {"state": buffers, "param_groups": groups}}
    return {**state, "_trainer": inner}


def restore_training(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Restore what :func:`training_state` returned, after Detectron2's own state.

    The learning rate is computed anew from the config, which gives the same one if nothing has changed.
    """
    scheduler, groups = trainer.scheduler, trainer.optimizer.param_groups
    if isinstance(scheduler, LRMultiplier):
        scheduler.base_lrs = [group["initial_lr"] for group in groups]
        if scheduler.last_epoch <= trainer.max_iter:
            for group, rate in zip(groups, scheduler.get_lr(), strict=True):
                group["lr"] = rate
    if isinstance(trainer.data_loader, TrainLoader) and SEED in state:
        if trainer.cfg.SEED >= 0 and state[SEED] != trainer.cfg.SEED:
            logger.warning(f"SEED {trainer.cfg.SEED} has no effect: the interrupted training goes on with its own seed")
        trainer.data_loader.seed = state[SEED]
        trainer.data_loader.warn_of_other_batches(state.get(BATCHES))
    if trainer.best is not None:
        trainer.best.unmeasured = set(state.get(UNMEASURED, ()))


def _trained(trainer: Trainer) -> list[str]:
    """Return the names of the parameters in the order of the optimizer."""
    names = {id(p): name for name, p in trainer.checkpointer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    return [names.get(id(p), "") for group in groups for p in group["params"]]


def _log_changes(changes: Mapping[str, Sequence[tuple[Any, Any]]]) -> None:
    """Log which options are others than before: pairs of values by the name of the option."""
    texts = []
    for key, pairs in changes.items():
        distinct = [f"{now} instead of {before}" for before, now in dict.fromkeys(pairs)]
        if distinct:
            texts.append(f"{OPTIONS[key]} {name_some(distinct, NAMED)}")
    if texts:
        logger.warning(f"The training goes on with other options than the interrupted one: {'; '.join(texts)}")
