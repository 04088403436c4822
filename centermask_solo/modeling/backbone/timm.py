"""Any model of timm that gives feature maps, as a backbone; the package timm is imported when one is built."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ...utils.errors import ConfigError, MissingPackageError
from ...utils.text import first_line, nearest_hint
from ..option_checks import check_choice
from .fpn import YOLACTFPN, build_fcos_fpn, build_fpn, build_yolact_fpn

__all__ = [
    "TimmBackbone",
    "build_fcos_timm_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
    "build_timm_yolact_fpn_backbone",
]

KEY = "MODEL.TIMM"
NORMS = ("FrozenBN", "BN", "SyncBN")
WHITE = 255.0  # timm states the statistics of pixels in 0..1
# What timm raises, in its models' own code, on arguments or indices that a model does not have.
REFUSALS = (
    RuntimeError,
    TypeError,
    ValueError,
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
)


class TimmBackbone(Backbone):
    """A model of timm without its classifier: features "res1" to "res5" of stride 2 to 32, those that it has.

    If several of its maps have one stride, the deepest is taken. Maps are (N, C, Hi, Wi) whatever the model's own
    layout, and their sizes are the input's over the stride, rounded up: an input that the largest stride does not
    divide is padded with zeros, and the maps are cropped.

    Attributes:
        pixel_mean, pixel_std: Statistics of the images, RGB in 0..255, that timm's weights were trained on.
        published_names: Name here of each entry of timm's own state dict, classifier and deeper layers aside.
    """

    def __init__(
        self,
        name: str,
        *,
        out_features: Sequence[str],
        in_channels: int = 3,
        norm: str = "FrozenBN",
        freeze_at: int = 0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            name: Name in timm, such as "convnext_tiny.fb_in22k"; what follows the point chooses weights, and so means
                and standard deviations.
            out_features: Features to return, some of res1 to res5; deeper layers are not built where the model allows.
            in_channels: Number of channels of the image.
            norm: What the model's batch norms become: "FrozenBN", "BN" or "SyncBN". Other norms stay as they are.
            freeze_at: Layers up to the feature of stride 2 ** ``freeze_at`` are frozen, with their batch norms; 1 also
                stands for the layers before the first stage, 0 for none.
            arguments: Further arguments of the model in timm.

        Raises:
            MissingPackageError: timm is not installed.
            ConfigError: The model or a feature does not exist, or cannot be frozen.
        """
        super().__init__()
        check_choice(f"{KEY}.NORM", norm, NORMS)
        options = {"in_chans": in_channels, **(arguments or {})}
        info, published = _describe(name, options)
        strides = [x["reduction"] for x in info]
        indices = {f"res{int(math.log2(stride))}": i for i, stride in enumerate(strides) if not stride & (stride - 1)}
        missing = [feature for feature in out_features if feature not in indices]
        if missing or not out_features:
            raise ConfigError(
                f"{KEY}.OUT_FEATURES: {name} gives {', '.join(indices)}, not {', '.join(missing) or 'nothing'}: name "
                f"some of these, or choose another {KEY}.NAME"
            )
        chosen = {feature: i for feature, i in indices.items() if feature in out_features}
        self._out_features = list(chosen)
        self._out_feature_channels = {feature: info[i]["num_chs"] for feature, i in chosen.items()}
        self._out_feature_strides = {feature: strides[i] for feature, i in chosen.items()}
        self.max_stride = strides[max(chosen.values())]

        body = _create(name, features_only=True, out_indices=list(chosen.values()), **options)
        self.channels_first = getattr(getattr(body, "output_fmt", None), "value", "NCHW") == "NCHW"
        mean, std = (tuple(WHITE * x for x in body.pretrained_cfg[key]) for key in ("mean", "std"))
        self.name, self.pixel_mean, self.pixel_std = name, mean, std
        _convert_norms(body, norm)
        self.published_names = dict(_published_names(body.state_dict(), published))
        if freeze_at > 0:
            _freeze(body, info, freeze_at, name)
        self.body: nn.Module = body

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the features by name, in order of stride, from images (N, in_channels, T_h, T_w)."""
        height, width = x.shape[-2:]
        if height % self.max_stride or width % self.max_stride:
            x = F.pad(x, (0, -width % self.max_stride, 0, -height % self.max_stride))
        outputs = {}
        for name, feature in zip(self._out_features, self.body(x), strict=True):
            stride = self._out_feature_strides[name]
            if not self.channels_first:
                feature = feature.permute(0, 3, 1, 2)
            outputs[name] = feature[:, :, : -(-height // stride), : -(-width // stride)]
        return outputs


def import_timm() -> Any:
    """Return the package timm; raise MissingPackageError if it is not installed."""
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingPackageError(
            f"{KEY} needs the package timm: run 'pip install timm', or choose another MODEL.BACKBONE.NAME"
        ) from error
    return timm


def _create(name: str, **options: Any) -> Any:
    """Return a model of timm with random weights; raise ConfigError if timm refuses to build it."""
    timm = import_timm()
    if not timm.is_model(name):
        hint = nearest_hint(name, timm.list_models())
        raise ConfigError(f"{KEY}.NAME {name!r} is no model of timm {timm.__version__}{hint}")
    try:
        return timm.create_model(name, pretrained=False, **options)
    except REFUSALS as error:
        raise ConfigError(f"{KEY}: timm cannot build {name} with these options: {first_line(error)}") from error


def _describe(name: str, options: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Collection[str]]:
    """Return what timm says of the features of a model, and the names in the state dict of the whole model.

    That takes no memory on the device "meta". Some models of some versions of timm compute with values that tensors do
    not have there: those are built on the CPU, and random numbers that follow are the same.
    """

    def describe() -> tuple[list[dict[str, Any]], Collection[str]]:
        info = _create(name, features_only=True, **options).feature_info.info
        return info, _create(name, **options).state_dict().keys()

    try:
        with torch.device("meta"):
            return describe()
    except ConfigError:
        with torch.random.fork_rng([]):
            return describe()


def _published_names(state: Mapping[str, Tensor], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the names in timm's state dict of the whole model and in that of the feature extractor, ``state``.

    Extractors of timm write "stages_0" for "stages.0", or have the model below a name of theirs.
    """
    for here in state:
        first, _, rest = here.partition(".")
        places = [i for i, letter in enumerate(first) if letter == "_"]
        candidates = [here, *(f"{first[:i]}.{first[i + 1 :]}.{rest}" for i in places), rest]
        found = next((there for there in candidates if there in names), None)
        if found is not None:
            yield found, here


def _convert_norms(module: nn.Module, norm: str) -> None:
    """Make the batch norms of a model of timm those of ``norm``, in place; activations in them stay."""
    from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d

    if norm != "BN":
        convert = freeze_batch_norm_2d if norm == "FrozenBN" else convert_sync_batchnorm
        for name, child in list(module.named_children()):
            module._modules[name] = convert(child)


def _freeze(body: nn.Module, info: Sequence[Mapping[str, Any]], freeze_at: int, name: str) -> None:
    """Freeze the modules of ``body``, and their batch norms, up to the features of stride 2 ** ``freeze_at``."""
    from timm.layers import freeze_batch_norm_2d

    # Find the last one. Modules are in the order in which the model applies them.
    modules = list(body.named_modules())
    names = [module for module, _ in modules]
    inside = [x["module"] for x in info if x["reduction"] <= 2**freeze_at]
    last = inside[-1] if inside else info[0]["module"]
    place = next((x for x in (last, last.replace(".", "_", 1), f"model.{last}", f"body.{last}") if x in names), None)
    if place is None:
        raise ConfigError(f"MODEL.BACKBONE.FREEZE_AT: the stages of {name} cannot be told apart: set it to 0")
    end = names.index(place)  # without features of such a stride: what is before the first one
    if inside:
        end = 1 + max(i for i, x in enumerate(names) if x == place or x.startswith(f"{place}."))

    for path, module in modules[:end]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        parent, _, child = path.rpartition(".")
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            body.get_submodule(parent)._modules[child] = freeze_batch_norm_2d(module)


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Return the model of timm that ``MODEL.TIMM`` names.

    Raises:
        MissingPackageError: timm is not installed.
        ConfigError: The model, an argument or a feature does not exist, or cannot be frozen.
    """
    options = cfg.MODEL.TIMM
    return TimmBackbone(
        options.NAME,
        out_features=options.OUT_FEATURES,
        in_channels=input_shape.channels,
        norm=options.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        arguments=dict(options.ARGUMENTS),
    )


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return Detectron2's FPN, whose P6 is a subsampled P5, on :func:`build_timm_backbone`."""
    return build_fpn(cfg, build_timm_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Return the FPN of FCOS (``MODEL.FCOS.TOP_LEVELS`` additional levels) on :func:`build_timm_backbone`."""
    return build_fcos_fpn(cfg, build_timm_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_timm_yolact_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> YOLACTFPN:
    """Return the pyramid of YOLACT on :func:`build_timm_backbone`."""
    return build_yolact_fpn(cfg, build_timm_backbone(cfg, input_shape))
