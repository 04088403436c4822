"""Published detectors: known by one source each, every entry used or named, and every parameter filled."""

import json
import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import model_zoo
from centermask_solo.checkpoint import SOURCES, Checkpointer, find_source
from centermask_solo.checkpoint.sources import adelaidet, centermask2, mmdet, solo, solo_heads, yolact
from centermask_solo.checkpoint.sources.source import BATCH_COUNTER, STATED
from centermask_solo.config import config_dir
from tests.checkpoint.sources import detectors
from tests.checkpoint.sources import solo as solo_files
from tests.checkpoint.sources.backbones import tensors
from tests.checkpoint.sources.detectors import CenterMask, SOLOv2
from tests.checkpoint.sources.test_yolact import published as yolact_shapes

GOLDENS = Path(__file__).parents[2] / "goldens"
LIGHT = {"convs": 2, "width": 256, "kernels": 128}
DEFORMABLE = {"backbone_dcn": "DCNv2", "deformable_convs": (0, 1, 2, 3), "deformable_masks": True}
LIGHT_DCN = {**LIGHT, "convs": 3, "deformable_convs": (2,)}
DCNV2 = ("MODEL.RESNETS.DEFORM_MODULATED", True, "MODEL.SOLOV2.DEFORM_MODULATED", True)
# Of the original repository and, but for the last, of mmdetection.
SOLOV2 = {
    "solov2_R_50_rgb_1x": SOLOv2(),
    "solov2_R_50_rgb_3x": SOLOv2(),
    "solov2_R_101_rgb_3x": SOLOv2("resnet101"),
    "solov2_R_101_dcn_3x": SOLOv2("resnet101", **DEFORMABLE),
    "solov2_X_101_dcn_3x": SOLOv2("resnext101_64x4d", **DEFORMABLE),
    "solov2_R_18_light448_3x": SOLOv2("resnet18", **LIGHT),
    "solov2_R_34_light448_3x": SOLOv2("resnet34", **LIGHT),
    "solov2_R_50_light448_3x": SOLOv2("resnet50", **LIGHT),
    "solov2_R_50_light512_dcn_3x": SOLOv2("resnet50", **LIGHT_DCN, backbone_dcn="DCN"),
}
MMDET_LIGHT_DCN = SOLOv2("resnet50", **LIGHT_DCN, backbone_dcn="DCNv2")
ADELAIDET = {
    "solov2_R_50_1x": detectors.adelaidet,
    "solov2_R_50_3x": detectors.adelaidet,
    "solov2_R_101_3x": lambda: detectors.adelaidet("resnet101"),
    "solov2_R_50_syncbn_1x": detectors.adelaidet_syncbn,
}
# With the entries, and the millions of values, that they are described with.
CENTERMASK = {
    "centermask_R_50_FPN_ms_3x": (CenterMask("resnet50"), 351, 51.334),
    "centermask_R_101_FPN_ms_3x": (CenterMask("resnet101"), 606, 70.378),
    "centermask_X_101_FPN_ms_3x": (CenterMask("resnext101_32x8d"), 606, 114.718),
    "centermask_V_39_eSE_FPN_ms_3x": (CenterMask("V-39-eSE"), 293, 52.650),
    "centermask_V_57_eSE_FPN_ms_3x": (CenterMask("V-57-eSE"), 389, 68.932),
    "centermask_V_99_eSE_FPN_ms_3x": (CenterMask("V-99-eSE"), 613, 97.023),
    "centermask_V_39_eSE_dcn_FPN_ms_3x": (CenterMask("V-39-eSE", deformable=True), 343, 54.423),
    "centermask_V_57_eSE_dcn_FPN_ms_3x": (CenterMask("V-57-eSE", deformable=True), 469, 71.919),
    "centermask_V_99_eSE_dcn_FPN_ms_3x": (CenterMask("V-99-eSE", deformable=True), 763, 102.437),
    "centermask_lite_V_39_eSE_FPN_ms_4x": (CenterMask("V-39-eSE", lite=True), 269, 35.150),
    "centermask_lite_V_19_eSE_FPN_ms_4x": (CenterMask("V-19-eSE", lite=True), 165, 20.136),
    "centermask_lite_V_19_slim_eSE_FPN_ms_4x": (CenterMask("V-19-slim-eSE", lite=True), 165, 12.456),
    "centermask_lite_V_19_slim_dw_eSE_FPN_ms_4x": (CenterMask("V-19-slim-dw-eSE", lite=True), 194, 11.188),
    "centermask_lite_Mv2_FPN_ms_4x": (CenterMask("mobilenet_v2", lite=True), 317, 11.551),
    "panoptic_centermask_R_50_FPN_ms_3x": (CenterMask("resnet50", panoptic=True), 378, 53.621),
    "panoptic_centermask_R_101_FPN_ms_3x": (CenterMask("resnet101", panoptic=True), 633, 72.665),
    "panoptic_centermask_X_101_FPN_ms_3x": (CenterMask("resnext101_32x8d", panoptic=True), 633, 117.005),
    "panoptic_centermask_V_39_eSE_FPN_ms_3x": (CenterMask("V-39-eSE", panoptic=True), 320, 54.936),
    "panoptic_centermask_V_57_eSE_FPN_ms_3x": (CenterMask("V-57-eSE", panoptic=True), 416, 71.218),
    "panoptic_centermask_V_99_eSE_FPN_ms_3x": (CenterMask("V-99-eSE", panoptic=True), 640, 99.310),
}
YOLACT = {path.stem: path.stem for path in (config_dir() / "YOLACT").glob("yolact_*.yaml")}
YOLACT |= {"yolact_im400": "yolact_base", "yolact_im700": "yolact_base"}  # the same but for sizes


def older(shapes):
    """A YOLACT file of an older version: everything of the backbone's stages twice, and levels that nothing uses."""
    copies = {}
    for key, shape in shapes.items():
        if key.startswith("backbone.layers."):
            stage, rest = key.removeprefix("backbone.layers.").split(".", 1)
            copies[f"backbone.layer{int(stage) + 1}.{rest}"] = shape
    levels = {f"fpn.downsample_layers.{i}.weight": (256, 256, 3, 3) for i in (2, 3, 4)}
    return shapes | copies | levels | {f"fpn.downsample_layers.{i}.bias": (256,) for i in (2, 3, 4)}


# Of each file: its source, a function that gives its names and shapes, and the config that it fills.
FILES = {
    **{f"AdelaiDet {c}": (adelaidet.SOURCE, make, f"SOLOv2/{c}") for c, make in ADELAIDET.items()},
    **{f"SOLO {c}": (solo.SOURCE, lambda m=m: detectors.solo(m), f"SOLOv2/{c}") for c, m in SOLOV2.items()},
    **{
        f"mmdet {c}": (mmdet.SOURCE, lambda m=m: detectors.mmdet(m), f"SOLOv2/{c}")
        for c, m in SOLOV2.items()
        if m.backbone_dcn != "DCN"
    },
    "mmdet light DCNv2": (
        *(mmdet.SOURCE, lambda: detectors.mmdet(MMDET_LIGHT_DCN), "SOLOv2/solov2_R_50_light512_dcn_3x"),
        *DCNV2,
    ),
    **{
        f"{where} {c}": (source, lambda m=m, make=make: make(m), f"SOLO/{c}")
        for c, m in solo_files.MODELS.items()
        for where, source, make in (
            ("SOLO", solo_heads.SOURCE, solo_files.original),
            ("mmdet", solo_heads.MMDET, solo_files.mmdet),
        )
    },
    "mmdet light with two towers": (
        *(solo_heads.MMDET, lambda: solo_files.mmdet(solo_files.SOLO("decoupled", convs=4))),
        *("SOLO/decoupled_solo_R_50_light512_3x", "MODEL.SOLO.HEAD", "decoupled"),
    ),
    **{
        f"CenterMask2 {c}": (
            centermask2.PANOPTIC if m.panoptic else centermask2.SOURCE,
            lambda m=m: detectors.centermask(m),
            f"CenterMask/{c}",
        )
        for c, (m, _, _) in CENTERMASK.items()
    },
    **{f"YOLACT {c}": (yolact.SOURCE, lambda s=s: yolact_shapes(s), f"YOLACT/{c}") for c, s in YOLACT.items()},
    **{
        f"older YOLACT {c}": (yolact.SOURCE, lambda c=c: older(yolact_shapes(c)), f"YOLACT/{c}")
        for c in ("yolact_resnet50", "yolact_base", "yolact_darknet53")
    },
}
REASONS = {BATCH_COUNTER.reason, yolact.COPY.reason, yolact.UNUSED_LEVEL.reason, yolact.FOLDED}


@lru_cache
def build(config, *options):
    """A model without memory for its parameters."""
    cfg = model_zoo.get_config(f"{config}.yaml")
    cfg.merge_from_list(["MODEL.DEVICE", "meta", *options])
    with torch.device("meta"):
        model = build_model(cfg)
    for name, numbers in (("pixel_mean", cfg.MODEL.PIXEL_MEAN), ("pixel_std", cfg.MODEL.PIXEL_STD)):
        setattr(model, name, torch.tensor(numbers).view(-1, 1, 1))  # what is not compared by shape alone
    return model


def shapes_of(values):
    return {key: tuple(value.shape) for key, value in values.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.filterwarnings("ignore:.*meta parameter.*:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_one_source_knows_a_file_and_fills_its_config(name, tmp_path, caplog):
    source, make, *config = FILES[name]
    values = tensors(make())
    assert [found.name for found in SOURCES if found.recognizes(values)] == [source.name]
    weights, dropped = source.translate(values)
    assert len(weights) + len(dropped) == len(values)
    assert set(dropped.values()) <= REASONS

    model = build(*config)
    assert type(model).__name__ == source.system
    assert shapes_of(weights) == shapes_of(model.state_dict())
    torch.save({"state_dict": values, "meta": {"epoch": 36}, "optimizer": {}}, tmp_path / "x.pth")
    with caplog.at_level("WARNING"):
        rest = Checkpointer(model, complete=True).load(str(tmp_path / "x.pth"))
    assert caplog.text == ""
    assert rest["meta"] == {"epoch": 36} and "model" not in rest


def test_every_config_has_its_file():
    configs = {
        f"{folder}/{path.stem}"
        for folder in ("SOLOv2", "SOLO", "CenterMask", "YOLACT")
        for path in (config_dir() / folder).glob("*.yaml")
        # The file of the enhanced recipe is in Paddle's format; those for LVIS and panoptic SOLOv2 are not published.
        if not path.name.startswith(("Base-", "lvis_", "panoptic_solov2_")) and "enhanced" not in path.name
    }
    assert {config for _, _, config, *_ in FILES.values()} == configs


@pytest.mark.parametrize(
    ("case", "shapes"),
    [
        ("solov2_R50_3x", detectors.adelaidet()),
        ("solo_R50", solo_files.original(solo_files.SOLO())),
        ("decoupled_solo_R50", solo_files.original(solo_files.SOLO("decoupled"))),
        ("centermask_V_39_eSE", detectors.centermask(CenterMask("V-39-eSE"))),
        ("centermask_lite_V_19_eSE", detectors.centermask(CenterMask("V-19-eSE", lite=True))),
    ],
)
def test_descriptions_agree_with_the_recorded_files(case, shapes):
    parameters = json.loads((GOLDENS / f"{case}.json").read_text())["parameters"]
    assert shapes == {key: tuple(shape) for key, shape in parameters.items()}


@pytest.mark.parametrize("name", CENTERMASK)
def test_descriptions_agree_with_the_published_sizes(name):
    model, num_entries, millions = CENTERMASK[name]
    shapes = detectors.centermask(model)
    assert len(shapes) == num_entries
    assert round(sum(map(math.prod, shapes.values())) / 1e6, 3) == millions


def test_number_of_entries_of_solov2():
    assert [len(detectors.adelaidet(name)) for name in ("resnet50", "resnet101")] == [333, 588]
    assert sum(map(math.prod, detectors.adelaidet().values())) == pytest.approx(46.65e6, abs=5e3)
    for make in (detectors.solo, detectors.mmdet):
        assert len(make(SOLOv2())) == 333 + 53  # batch normalizations count their batches
    deformable = detectors.solo(SOLOV2["solov2_R_101_dcn_3x"])
    assert len(deformable) - len(detectors.solo(SOLOv2("resnet101"))) == 2 * (30 + 8 + 7 + 1)


@pytest.mark.parametrize("make", [solo_files.original, solo_files.mmdet])
@pytest.mark.parametrize("model", solo_files.SIZES, ids=str)
def test_descriptions_of_solo_agree_with_the_published_sizes(model, make):
    shapes = make(model)
    entries, millions = solo_files.SIZES[model]
    assert len(shapes) - sum(key.endswith("num_batches_tracked") for key in shapes) == entries
    in_head = [shape for key, shape in shapes.items() if key.startswith(("bbox_head.", "mask_head."))]
    assert round(sum(map(math.prod, in_head)) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("SOLO/solo_R_50_3x", []),
        ("SOLO/decoupled_solo_R_50_light512_dcn_3x", []),
        ("SOLOv2/solov2_R_50_3x", [adelaidet.SOURCE]),  # this package's names are theirs
        ("CenterMask/centermask_R_50_FPN_ms_3x", [centermask2.SOURCE]),
        ("CenterMask/panoptic_centermask_R_50_FPN_ms_3x", [centermask2.PANOPTIC]),
        ("YOLACT/yolact_base", []),
        ("baselines/mask_rcnn_R_50_FPN_1x", []),
        ("baselines/retinanet_R_50_FPN_1x", []),
    ],
)
def test_what_knows_the_names_of_this_package(config, expected):
    model = build(config)
    values = model.state_dict()
    assert [source.name for source in SOURCES if source.recognizes(values)] == [source.name for source in expected]
    assert find_source(values).system == type(model).__name__


@pytest.mark.parametrize(
    ("make", "model"),
    [
        (detectors.solo, SOLOV2["solov2_R_101_dcn_3x"]),
        (detectors.mmdet, SOLOV2["solov2_R_101_dcn_3x"]),
        (solo_files.original, solo_files.LIGHT_DCN),
    ],
)
def test_older_names_of_offsets(make, model):
    newer = tensors(make(model))
    older_names = {key.replace(".conv2.conv_offset.", ".conv2_offset."): value for key, value in newer.items()}
    if make is solo_files.original:
        older_names = {key.replace(".conv.conv_offset.", ".conv_offset."): x for key, x in older_names.items()}
        assert "bbox_head.ins_convs.3.conv_offset.weight" in older_names
    source = find_source(newer)
    assert older_names.keys() != newer.keys()
    assert source.translate(older_names).weights.keys() == source.translate(newer).weights.keys()


def test_statistics_and_anchors_are_left_to_the_config():
    stated = {
        "pixel_mean": (3, 1, 1),
        "pixel_std": (3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": (3, 4),
    }
    values = tensors(detectors.adelaidet() | stated)
    assert find_source(values).translate(values).dropped == dict.fromkeys(stated, STATED.reason)
    values = tensors(
        detectors.mmdet(SOLOv2()) | {"data_preprocessor.mean": (3, 1, 1), "data_preprocessor.std": (3, 1, 1)}
    )
    assert Counter(find_source(values).translate(values).dropped.values()) == {
        STATED.reason: 2,
        BATCH_COUNTER.reason: 53,
    }


def test_every_source_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "compatibility.md").read_text()
    assert [source.name for source in SOURCES if f"| {source.name}" not in text] == []
