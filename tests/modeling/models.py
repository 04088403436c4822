"""One small model of every system, and how it overfits an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from centermask_solo.modeling.fcos import FCOS
from tests.modeling.centermask import helpers as centermask
from tests.modeling.fcos import tiny as fcos
from tests.modeling.solo import tiny as solo
from tests.modeling.solov2 import tiny as solov2
from tests.modeling.yolact import tiny as yolact


class System(NamedTuple):
    """What the tests need to know of a system."""

    make_cfg: Callable[..., CfgNode]  # the config of a small model, from overrides
    num_classes: str  # the key of that option
    score_thresh: str  # the key of that option
    object_losses: set[str]  # those that images without objects leave at zero
    background_loss: str  # one that they do not
    steps: int  # in which it overfits an image
    learning_rate: float
    loss_bound: float  # of the sum of the losses afterwards
    stuff_losses: frozenset[str] = frozenset()  # of a panoptic system

    @property
    def has_mask_scores(self) -> bool:
        """Whether it predicts the masks' IoU."""
        return bool(self.object_losses & {"loss_maskiou", "loss_mask_iou"})

    @property
    def nms_name(self) -> str:
        """The key of that option."""
        return f"{self.score_thresh.rpartition('.')[0]}.NMS.NAME"

    def cfg(self, *overrides: object, num_classes: int = 3) -> CfgNode:
        """The config of the small model."""
        return self.make_cfg(self.num_classes, num_classes, *overrides)

    def model(self, *overrides: object, num_classes: int = 3) -> nn.Module:
        """A model of :meth:`cfg` in training mode, whose weights are random, but always the same."""
        torch.manual_seed(0)
        return build_model(self.cfg(*overrides, num_classes=num_classes)).train()


# Of SOLO and SOLOv2, for graphs, in which every level is traced anew: a reduced one, one as it is, an enlarged one.
THREE_LEVELS = {
    "IN_FEATURES": ["p2", "p4", "p6"],
    "STRIDES": [8, 16, 32],
    "SCALE_RANGES": ((1, 64), (32, 128), (64, 512)),
}

# The sum of CenterMask's losses cannot reach zero: centerness is a fraction, learned by cross entropy.
FCOS_LOSSES = {"loss_fcos_loc", "loss_fcos_ctr"}
CENTERMASK_LOSSES = FCOS_LOSSES | {"loss_mask", "loss_maskiou"}
YOLACT_LOSSES = {"loss_box", "loss_class", "loss_mask"}
eager_solov2_cfg = partial(solov2.tiny_cfg, "MODEL.SOLOV2.PRIOR_PROB", 0.2)  # some find something without training
# Features of random weights are large.
QUIET = ("MODEL.MASK_ON", True, "MODEL.PIXEL_STD", [600.0] * 3)
quiet_yolact_cfg, quiet_yolact_plus_cfg = partial(yolact.tiny_cfg, *QUIET), partial(yolact.tiny_plus_cfg, *QUIET)
FCOS_SCORE, YOLACT = "MODEL.FCOS.SCORE_THRESH_TEST", "MODEL.YOLACT."


def grid_system(node: str, make_cfg: Callable[..., CfgNode], steps: int, loss_bound: float) -> System:
    """SOLOv2 or a SOLO."""
    keys = (f"MODEL.{node}.NUM_CLASSES", f"MODEL.{node}.SCORE_THRESH_TEST")
    return System(make_cfg, *keys, {"loss_ins"}, "loss_cate", steps, 3e-3, loss_bound)


eager_panoptic_cfg = partial(solov2.tiny_panoptic_cfg, "MODEL.SOLOV2.PRIOR_PROB", 0.2)
SYSTEMS = {
    "SOLOv2": grid_system("SOLOV2", eager_solov2_cfg, 30, 0.1),
    "Panoptic SOLOv2": grid_system("SOLOV2", eager_panoptic_cfg, 40, 0.3)._replace(
        stuff_losses=frozenset({"loss_sem_seg"})
    ),
    "SOLO": grid_system("SOLO", solo.eager_cfg, 60, 0.7),
    "Decoupled SOLO": grid_system("SOLO", partial(solo.eager_cfg, "MODEL.SOLO.HEAD", "decoupled"), 40, 0.1),
    "Decoupled SOLO Light": grid_system("SOLO", partial(solo.eager_cfg, *solo.LIGHT_DCN), 40, 0.1),
    "CenterMask": System(
        centermask.make_cfg,
        "MODEL.ROI_HEADS.NUM_CLASSES",
        FCOS_SCORE,
        CENTERMASK_LOSSES,
        "loss_fcos_cls",
        50,
        3e-3,
        1.5,
    ),
    "FCOS": System(fcos.tiny_cfg, "MODEL.FCOS.NUM_CLASSES", FCOS_SCORE, FCOS_LOSSES, "loss_fcos_cls", 50, 3e-3, 1.0),
    "YOLACT": System(
        *(quiet_yolact_cfg, YOLACT + "NUM_CLASSES", YOLACT + "SCORE_THRESH_TEST", YOLACT_LOSSES, "loss_sem_seg"),
        *(40, 2e-3, 5.0),
    ),
    "YOLACT++": System(
        *(quiet_yolact_plus_cfg, YOLACT + "NUM_CLASSES", YOLACT + "SCORE_THRESH_TEST"),
        *(YOLACT_LOSSES | {"loss_mask_iou"}, "loss_sem_seg", 50, 2e-3, 5.0),
    ),
}


def losses_of(model: nn.Module, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The losses of a batch; what is drawn at random for them is always the same."""
    torch.manual_seed(0)
    with EventStorage():
        return model(inputs)


def gradients_of(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of the losses' sum with respect to each parameter that is not frozen."""
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def losses_and_gradients(
    model: nn.Module, inputs: list[dict[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Both for a batch."""
    losses = losses_of(model, inputs)
    return losses, gradients_of(model, losses)


def learn(system: System, inputs: list[dict[str, Any]], num_classes: int) -> tuple[nn.Module, list[float]]:
    """Return a model that overfits a batch, in evaluation mode, and the sum of its losses in each step."""
    model = system.model("MODEL.BACKBONE.FREEZE_AT", 5, num_classes=num_classes)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], system.learning_rate)
    history = []
    with computed_once(model.backbone.bottom_up):
        for _ in range(system.steps):
            losses = losses_of(model, inputs)
            gradients_of(model, losses)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            history.append(sum(x.item() for x in losses.values()))
    return model.eval(), history


@contextmanager
def computed_once(network: nn.Module) -> Iterator[None]:
    """Let a network compute its features of a batch, always the same one, only once, unless it learns."""
    if any(p.requires_grad for p in network.parameters()):
        yield
        return
    seen: list[tuple[Tensor, dict[str, Tensor]]] = []
    forward = network.forward

    def remembered(images: Tensor) -> dict[str, Tensor]:
        if not seen:
            seen.append((images, forward(images)))
        assert torch.equal(images, seen[0][0])
        return dict(seen[0][1])

    network.forward = remembered
    try:
        yield
    finally:
        del network.forward


def detect(model: nn.Module, inputs: list[dict[str, Any]]) -> list[Any]:
    """The detections of each image."""
    with torch.no_grad():
        found = [x["instances"] for x in model.eval()(inputs)]
    assert all(x.has("pred_masks") is not isinstance(model, FCOS) for x in found)
    return found
