"""What an exported file says about itself: a JSON document of a versioned schema."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any

from ..utils.errors import WeightsError
from ..utils.rules import COUNT, Rule, each, integer, one_of, unless
from ..utils.text import first_line
from .formats import VARIANTS

KEY = "centermask_solo"  # of the document in the file: ONNX metadata_props, OpenVINO rt_info; its name inside .pt2
WEIGHTS_KEY = "centermask_solo_weights"  # of the SHA-256 of the .bin in the rt_info of an .xml
VERSION = 1
_TEXT = Rule("a text", lambda value: isinstance(value, str))
CHANNEL_ORDERS, FRAMES = ("BGR", "RGB"), ("input", "box", "none")


@dataclass(frozen=True)
class Resize:
    """How an image is resized before it is given to the graph, in bilinear steps of Pillow.

    Attributes:
        short_edge: Length that the shorter edge gets, pixels; 0 for no resizing.
        max_long_edge: Length that the longer edge may not exceed, pixels.
        stretch: Whether the aspect ratio is given up: the graph resizes what it gets to the network's own size.
    """

    short_edge: int
    max_long_edge: int
    stretch: bool


@dataclass(frozen=True)
class Input:
    """What the graph takes.

    Attributes:
        channel_order: Of ``images``: "BGR" or "RGB".
        mean: Of each channel in that order, subtracted in the graph.
        std: Of each channel, by which the graph divides.
        divisibility: The graph pads to multiples of it, pixels.
        resize: What happens to an image before.
        size: Height and width that ``images`` must have; None if they are free.
        min_size: Smallest height and width of ``images``, pixels.
        image_sizes: Whether the graph also takes ``image_sizes``.
    """

    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    divisibility: int
    resize: Resize
    size: tuple[int, int] | None
    min_size: tuple[int, int]
    image_sizes: bool


@dataclass(frozen=True)
class Masks:
    """What the output ``masks`` means.

    Attributes:
        frame: "input" if each mask spans the padded input, "box" if it spans its box, "none" if there are no masks.
        stride: Input pixels per mask pixel; 0 if a mask spans the input, whatever its size.
        threshold: Probability that a pixel of the object exceeds, or in a box reaches.
        whole_boxes: Whether a mask in a box that is partly outside of the image spans the whole box, not the part.
        boxes: Whether the boxes of detections are those around their masks.
    """

    frame: str
    stride: int
    threshold: float
    whole_boxes: bool
    boxes: bool


@dataclass(frozen=True)
class Metadata:
    """The document.

    Attributes:
        system: Meta-architecture of the model.
        variant: "detections", "full-masks" or "raw".
        format: Name of the file's format.
        half: Whether weights are stored as float16.
        int8: Whether convolutions multiply 8-bit integers.
        config: The model's config as YAML.
        class_names: In the order of the classes; None if they are unknown.
        num_classes: Number of classes.
        input: What the graph takes.
        masks: What the masks mean.
        max_detections: Number K of slots per image.
        score_threshold: Scores of detections are not below it, before those of masks are multiplied with them.
        display_threshold: Score from which on detections are worth drawing.
        score_tolerance: Difference of scores between runtimes that is rounding.
        outputs: Names of the graph's outputs by what they are.
        weights_sha256: Digest of the weight file, hexadecimal.
        versions: Of the packages that made the file.
    """

    system: str
    variant: str
    format: str
    half: bool
    int8: bool
    config: str
    class_names: tuple[str, ...] | None
    num_classes: int
    input: Input
    masks: Masks
    max_detections: int
    score_threshold: float
    display_threshold: float
    score_tolerance: float
    outputs: dict[str, str]
    weights_sha256: str
    versions: dict[str, str]

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps({"schema": KEY, "schema_version": VERSION, **dataclasses.asdict(self)})


def parse_metadata(text: str | None, path: str) -> Metadata:
    """Return the metadata of a file.

    Args:
        text: The document; None if the file has none.
        path: The file, for messages.

    Raises:
        WeightsError: It is not the document of an exported model, or one of another version of the schema.
    """
    again = "export it again with 'centermask-solo export'"
    if text is None:
        raise WeightsError(f"{path} was not made by 'centermask-solo export': it does not say how to use it; {again}")
    try:
        document = json.loads(text)
        version = document.pop("schema_version")
        if document.pop("schema") != KEY:
            raise ValueError("it is another schema")
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise WeightsError(f"the description inside {path} is damaged ({first_line(error)}): {again}") from error
    if version != VERSION:
        raise WeightsError(
            f"the description inside {path} has version {version}, but this program reads {VERSION}: {again}"
        )
    try:
        metadata: Metadata = _parse(document, Metadata, "")
        _check_values(metadata)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"the description inside {path} is damaged ({first_line(error)}): {again}") from error
    return metadata


def _check_values(metadata: Metadata) -> None:
    """Raise ValueError if what runs a file cannot use a value."""
    rule, masks = metadata.input, metadata.masks
    checks: dict[str, tuple[Rule, Any]] = {
        "variant": (one_of(*VARIANTS), metadata.variant),
        "class_names": (unless(None, each(_TEXT, length=metadata.num_classes)), metadata.class_names),
        "max_detections": (COUNT, metadata.max_detections),
        "input.channel_order": (one_of(*CHANNEL_ORDERS), rule.channel_order),
        "input.divisibility": (COUNT, rule.divisibility),
        "input.resize.short_edge": (integer(0), rule.resize.short_edge),
        "input.resize.max_long_edge": (integer(0), rule.resize.max_long_edge),
        "input.size": (unless(None, each(COUNT)), rule.size),
        "input.min_size": (each(COUNT), rule.min_size),
        "masks.frame": (one_of(*FRAMES), masks.frame),
        "masks.stride": (integer(0), masks.stride),
    }
    for name, (what, value) in checks.items():
        if not what.allows(value):
            raise ValueError(f"{name} is {json.dumps(value)[:40]}, not {what.text}")


def _parse(value: Any, kind: Any, where: str) -> Any:
    """Return a JSON value as the type that a field is annotated with.

    Raises:
        ValueError: It is of another type; the message names it.
    """
    wrong = ValueError(f"{where or 'the document'} is {json.dumps(value)[:40]}")
    if dataclasses.is_dataclass(kind):
        names = typing.get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != names.keys():
            raise ValueError(f"{where or 'the document'} must have {', '.join(names)}")
        return kind(**{name: _parse(value[name], t, f"{where}{name}") for name, t in names.items()})  # type: ignore[operator]
    arguments = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return None if value is None else _parse(value, arguments[0], where)
    origin = typing.get_origin(kind)
    if origin is tuple:
        is_long = arguments[-1] is Ellipsis
        if not isinstance(value, list) or not (is_long or len(value) == len(arguments)):
            raise wrong
        return tuple(_parse(x, arguments[0], where) for x in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise wrong
        return {name: _parse(x, arguments[1], f"{where}.{name}") for name, x in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise wrong
    return value
