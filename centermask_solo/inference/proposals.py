"""Proposals from a trained RPN, for Fast R-CNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import ProposalNetwork

from ..checkpoint import Checkpointer
from ..data.loader import Sample
from ..data.mapper import InstanceMapper
from ..data.proposals import Proposals
from ..modeling.parts import build_checked
from ..utils.errors import ConfigError

SYSTEMS = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")


def rpn_proposals(cfg: CfgNode, dataset: Sequence[Sample]) -> Iterator[Proposals]:
    """Return an iterator over the proposals of each image, at most ``MODEL.RPN.POST_NMS_TOPK_TEST``.

    Args:
        cfg: Config of a model that has an RPN (Faster or Mask R-CNN, or an RPN alone), with its ``MODEL.WEIGHTS``.
        dataset: Dicts in Detectron2's standard format.

    Raises:
        ConfigError: The model has no RPN.
        WeightsError: The weights are missing or do not fill the model.
    """
    system, generator = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if system not in SYSTEMS or generator != "RPN":
        raise ConfigError(
            f"a {system} with MODEL.PROPOSAL_GENERATOR.NAME '{generator}' has no RPN: give the config of a Faster or "
            "Mask R-CNN, or of an RPN"
        )
    model = build_checked(cfg)
    Checkpointer(model, complete=True).load(cfg.MODEL.WEIGHTS)
    network = ProposalNetwork(
        backbone=model.backbone,
        proposal_generator=model.proposal_generator,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
    )
    return _propose(network.to(cfg.MODEL.DEVICE).eval(), InstanceMapper(cfg, is_train=False), dataset)


@torch.no_grad()
def _propose(model: torch.nn.Module, mapper: InstanceMapper, dataset: Sequence[Sample]) -> Iterator[Proposals]:
    for sample in dataset:
        found = model([mapper(sample)])[0]["proposals"].to("cpu")  # in the frame of the image file
        yield Proposals(found.proposal_boxes.tensor.numpy(), found.objectness_logits.numpy())
