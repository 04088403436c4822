"""The description inside an exported file: what was written is read, and everything else is refused in one line."""

import json

import pytest

from centermask_solo.runtime.metadata import Input, Masks, Metadata, Resize, parse_metadata
from centermask_solo.utils.errors import WeightsError

INPUT = Input(
    channel_order="RGB",
    mean=(123.5, 116.0, 103.5),
    std=(58.0, 57.0, 57.5),
    divisibility=32,
    resize=Resize(short_edge=800, max_long_edge=1333, stretch=False),
    size=None,
    min_size=(33, 33),
    image_sizes=True,
)
METADATA = Metadata(
    system="SOLOv2",
    variant="detections",
    format="onnx",
    half=False,
    int8=False,
    config="VERSION: 2\n",
    class_names=("a", "b"),
    num_classes=2,
    input=INPUT,
    masks=Masks(frame="input", stride=4, threshold=0.5, whole_boxes=False, boxes=True),
    max_detections=100,
    score_threshold=0.1,
    display_threshold=0.3,
    score_tolerance=1e-3,
    outputs={"boxes": "boxes", "scores": "scores"},
    weights_sha256="0" * 64,
    versions={"torch": "2.14.1"},
)


def changed(**values):
    return json.dumps(json.loads(METADATA.to_json()) | values)


def changed_in(part, **values):
    return changed(**{part: json.loads(METADATA.to_json())[part] | values})


def test_round_trip():
    assert parse_metadata(METADATA.to_json(), "x.onnx") == METADATA


def test_foreign_files():
    with pytest.raises(WeightsError, match=r"^x.onnx was not made by 'centermask-solo export'"):
        parse_metadata(None, "x.onnx")


def test_other_versions():
    with pytest.raises(WeightsError, match=r"inside x.onnx has version 2, but this program reads 1: export it again"):
        parse_metadata(changed(schema_version=2), "x.onnx")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "1",
        "{}",
        "[" * 100_000,
        changed(schema="other"),
        changed(system=1),
        changed(half=0),
        changed(class_names="ab"),
        changed(class_names=[1]),
        changed(class_names=["a"]),
        changed(max_detections=1.5),
        changed(score_threshold="0.1"),
        changed(outputs=["boxes"]),
        changed(versions=None),
        changed(more=1),
        changed(input={}),
        changed(variant="full"),
        changed(max_detections=0),
        *(changed_in("input", **x) for x in ({"size": [1, 2, 3]}, {"size": [0, 5]}, {"mean": [None]})),
        *(changed_in("input", **x) for x in ({"channel_order": "XYZ"}, {"divisibility": 0}, {"min_size": [0, 1]})),
        changed_in("input", resize={"short_edge": -1, "max_long_edge": 9, "stretch": False}),
        *(changed_in("masks", **x) for x in ({"frame": "strange"}, {"stride": -4})),
    ],
)
def test_damaged_descriptions_are_one_line(text):
    with pytest.raises(WeightsError, match=r"^the description inside x.onnx is damaged \(.*\): export it again") as end:
        parse_metadata(text, "x.onnx")
    assert "\n" not in str(end.value)


def test_wrong_values_are_named():
    with pytest.raises(WeightsError, match=r'damaged \(input\.channel_order is "XYZ", not "BGR" or "RGB"\): export it'):
        parse_metadata(changed_in("input", channel_order="XYZ"), "x.onnx")


def test_unknown_names_are_no_wrong_number_of_names():
    assert parse_metadata(changed(class_names=None), "x.onnx").class_names is None
    with pytest.raises(
        WeightsError, match=r'\(class_names is \["a"\], not a list of 2, each a text, or None\): export'
    ):
        parse_metadata(changed(class_names=["a"]), "x.onnx")


def test_integers_are_numbers_too():
    assert parse_metadata(changed(score_threshold=0), "x.onnx").score_threshold == 0.0
