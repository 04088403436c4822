"""Proposals by a trained RPN, for Fast R-CNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.modeling import ProposalNetwork, build_model

from ..checkpoint import Checkpointer
from ..data.loader import Sample
from ..data.mapper import InstanceMapper
from ..data.proposals import Proposals

SYSTEMS = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")


def rpn_proposals(cfg: CfgNode, dataset: Sequence[Sample]) -> Iterator[Proposals]:
    """The proposals of each image by the RPN of ``MODEL.WEIGHTS``, ``MODEL.RPN.POST_NMS_TOPK_TEST`` at most.

    Args:
        cfg: of a model that has an RPN: Faster or Mask R-CNN, or an RPN alone.
        dataset: dicts in Detectron2's standard format.

    Raises:
        ValueError: the model has no RPN, or the weights do not fill it.
        FileNotFoundError: there are no such weights.
    """
    system, generator = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if system not in SYSTEMS or generator != "RPN":
        raise ValueError(
            f"a {system} with MODEL.PROPOSAL_GENERATOR.NAME '{generator}' has no RPN: give the config of a Faster or "
            "Mask R-CNN, or of an RPN"
        )
    model = build_model(cfg)
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
