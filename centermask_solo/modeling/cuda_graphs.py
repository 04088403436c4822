"""Networks replayed as CUDA graphs: one launch in place of one per kernel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as tree

from ..utils.errors import ConfigError
from ..utils.text import first_line
from .layers import Deformable

logger = logging.getLogger(__name__)

MAX_GRAPHS = 8  # input sizes, as each graph has memory of its own; further sizes run without
WARM_UP = 3  # runs before the capture, in which libraries choose their kernels


class _Graph(NamedTuple):
    """A captured run: what it computes from ``images`` stands in ``outputs`` after a replay."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    outputs: list[Any]
    structure: Any


class ReplayedNetworks:
    """A function of a batch of images, captured at the first call of each size, then replayed.

    The first result of each size is compared bit by bit with what the function itself computes, for two inputs; where
    they differ, or where the function cannot be captured, that size is computed without a graph from then on, and a
    warning says so. So are sizes beyond the first :data:`MAX_GRAPHS`: a folder of photographs may have more, and a
    capture takes as long as some ten calls.
    """

    def __init__(self, predict: Callable[[Tensor], Any]) -> None:
        """
        Args:
            predict: Returns a tree of tensors; with no read on the host.
        """
        self.predict = predict
        self._graphs: dict[tuple[Any, ...], _Graph | None] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Any:
        """Return the result for a batch (N, C, H, W) on a GPU."""
        key = (*images.shape, images.dtype, images.stride())
        if key not in self._graphs and len(self._graphs) < MAX_GRAPHS:
            self._graphs[key] = self._capture_checked(images)
            if len(self._graphs) == MAX_GRAPHS:
                logger.info(f"there are CUDA graphs for {MAX_GRAPHS} sizes of the input: others run without")
        graph = self._graphs.get(key)
        return self.predict(images) if graph is None else _replay(graph, images)

    def _capture_checked(self, images: Tensor) -> _Graph | None:
        """Return the graph of inputs like ``images``; None if it does not compute what the function does."""
        try:
            graph = self._capture(images)
        except RuntimeError as error:  # a read on the host, or too little memory
            logger.warning(
                f"the networks cannot be captured as a CUDA graph for inputs of {tuple(images.shape)} "
                f"({first_line(error)}): these run without it"
            )
            return None
        for x in (images, images.flip(3)):
            found, expected = (tree.tree_leaves(y) for y in (_replay(graph, x), self.predict(x)))
            if not all(torch.equal(a, b) for a, b in zip(found, expected, strict=True) if isinstance(a, Tensor)):
                logger.warning(
                    f"the CUDA graph for inputs of {tuple(images.shape)} computes something else than the networks: "
                    "these run without it"
                )
                return None
        return graph

    def _capture(self, images: Tensor) -> _Graph:
        static = images.clone()
        with torch.cuda.device(images.device):  # which need not be the first one
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self.predict(static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads, which may pin memory meanwhile, do not spoil the capture
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = self.predict(static)
        return _Graph(graph, static, *tree.tree_flatten(outputs))


def _replay(graph: _Graph, images: Tensor) -> Any:
    """Return the outputs for ``images``, as copies that later replays do not change."""
    graph.images.copy_(images)
    graph.graph.replay()
    leaves = [x.clone() if isinstance(x, Tensor) else x for x in graph.outputs]
    return tree.tree_unflatten(leaves, graph.structure)


def replay_networks(model: nn.Module) -> None:
    """Make ``model.predict`` replay CUDA graphs, in place: see :class:`ReplayedNetworks`."""
    check_replays(model)
    model.predict = ReplayedNetworks(model.predict)  # type: ignore[assignment, arg-type]


def check_replays(model: nn.Module) -> None:
    """Raise ConfigError unless the networks of a model can be replayed.

    It must be on a GPU, have a verb ``predict``, and have no deformable convolutions, whose replays are silently wrong.
    """
    if any(isinstance(x, Deformable) for x in model.modules()):
        raise ConfigError("CUDA graphs replay deformable convolutions wrongly: set TEST.CUDA_GRAPHS False")
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError("CUDA graphs need a GPU: set MODEL.DEVICE cuda, or TEST.CUDA_GRAPHS False")
    if not hasattr(model, "predict"):
        raise ConfigError(
            f"there are no networks to replay in a {type(model).__name__}: set TEST.CUDA_GRAPHS False, or choose a "
            "model of this package"
        )
