"""SOLOv2 with a semantic head: labels, losses, merging, results; the common suite has what all systems share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from centermask_solo.checkpoint import Checkpointer, read_weight_file
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.results import predict_to_folder
from centermask_solo.modeling.solov2 import panoptic, sem_seg
from centermask_solo.structures.compact_masks import RLEMasks
from centermask_solo.structures.label_map import LabelMap
from centermask_solo.structures.mask_formats import MASK_FORMAT
from centermask_solo.utils.errors import ConfigError, DataError
from centermask_solo.visualization import drawing
from centermask_solo.visualization.colors import stuff_color
from tests.modeling.detections import HEIGHT, SIZE, WIDTH, inference_inputs, two_objects
from tests.modeling.inputs import rectangles
from tests.modeling.models import SYSTEMS, gradients_of, learn, losses_of
from tests.modeling.solov2.tiny import tiny_model, tiny_panoptic_cfg

COMBINE = "MODEL.PANOPTIC_FPN.COMBINE."


def model(*overrides):
    torch.manual_seed(0)
    return build_model(tiny_panoptic_cfg(*overrides)).train()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r'needs semantic labels, but a\.jpg has no "sem_seg": train on a dataset that register_coco_panoptic'),
        (
            {"sem_seg": torch.zeros(HEIGHT, WIDTH - 1, dtype=torch.int64)},
            r"shape \(96, 127\), but its image .*\(96, 128",
        ),
        ({"sem_seg": torch.full(SIZE, 3)}, r"labels of a\.jpg hold 3, but MODEL\.SEM_SEG_HEAD\.NUM_CLASSES is 3"),
        ({"sem_seg": torch.full(SIZE, -1)}, r"labels of a\.jpg hold -1, but"),
    ],
)
def test_labels_that_do_not_fit_are_an_error(change, message):
    x = two_objects()
    del x["sem_seg"]
    with pytest.raises(DataError, match=message):
        losses_of(model(), [x | {"file_name": "a.jpg"} | change])


def test_the_loss_is_detectron2s():
    m, x = model(), two_objects()
    x["sem_seg"][:30] = m.sem_seg_head.ignore_value
    features = m.backbone(m.preprocess_image([x]).tensor)
    expected = m.sem_seg_head.losses(m.sem_seg_head.layers(features), x["sem_seg"][None])["loss_sem_seg"]
    assert expected > 0.1
    assert losses_of(m, [x])["loss_sem_seg"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_pixels_of_the_padding_do_not_count():
    """A smaller image in a batch: its loss is the same as alone, weighted by its pixels."""
    m, large = model(), two_objects()
    small = two_objects()
    small = small | {"image": small["image"][:, :64, :96], "sem_seg": small["sem_seg"][:64, :96]}
    small["instances"] = Instances((64, 96), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    (_, labels) = m.ground_truth([large, small])
    assert labels.shape == (2, HEIGHT, WIDTH)
    assert torch.equal(labels[1, :64, :96], small["sem_seg"])
    assert (labels[1, 64:] == 255).all() and (labels[1, :, 96:] == 255).all()


def test_a_batch_without_labels_has_no_semantic_loss_but_gradients():
    m, x = model(), two_objects()
    x["sem_seg"][:] = m.sem_seg_head.ignore_value
    losses = losses_of(m, [x])
    assert losses["loss_sem_seg"].item() == 0
    gradients = gradients_of(m, losses)
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert not gradients["sem_seg_head.predictor.weight"].any()


@pytest.mark.parametrize("output_size", [SIZE, (200, 90)])
def test_maps_of_the_output_size_are_detectron2s_and_made_a_few_classes_at_a_time(output_size, monkeypatch):
    logits = torch.randn(7, 24, 32, generator=torch.Generator().manual_seed(0))
    upsampled = nn.functional.interpolate(logits[None], scale_factor=4, mode="bilinear", align_corners=False)[0]
    expected = sem_seg_postprocess(upsampled, (90, 128), *output_size)
    monkeypatch.setattr(sem_seg, "rows_per_chunk", lambda _: 2)
    maps, labels = sem_seg.sem_seg_map(logits, 4, (90, 128), output_size, max_bytes=1e9)
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)
    assert torch.equal(labels, expected.argmax(dim=0))
    packed, same = sem_seg.sem_seg_map(logits, 4, (90, 128), output_size, max_bytes=4 * maps.numel() - 1)
    assert isinstance(packed, LabelMap)
    assert packed.shape == maps.shape and torch.equal(packed.argmax(dim=0), labels) and torch.equal(same, labels)
    with pytest.raises(ValueError, match="dimension 1"):
        packed.argmax(dim=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_logits_are_no_stuff(value):
    logits = torch.zeros(3, 8, 8)
    logits[2] = 5.0
    logits[1, :, 4:] = value
    maps, labels = sem_seg.sem_seg_map(logits, 4, (32, 32), (32, 32), max_bytes=1e9)
    assert maps.isfinite().all()
    assert (labels[:, :14] == 2).all() and (labels[:, 18:] == 0).all()


def fake_predictions(m, monkeypatch, instances, logits):
    """Let ``m`` find these instances and semantic logits in any image."""
    monkeypatch.setattr(m, "predict", lambda images: panoptic.PanopticPredictions([], [], logits, logits))
    monkeypatch.setattr(m, "inference", lambda predictions, sizes, **_: [instances])
    monkeypatch.setattr(m, "paste", lambda found, *_: (found, torch.ones(len(found), dtype=torch.bool)))


def merging_case():
    """In 64 x 64 pixels: three instances, and stuff 1 above stuff 2."""
    corners = ((0, 0, 32, 32), (0, 16, 32, 32), (32, 0, 48, 32), (48, 0, 64, 64))
    found = Instances((64, 64), pred_masks=rectangles(64, 64, *corners))
    found.pred_boxes = Boxes(torch.tensor([[x0, y0, x1, y1] for y0, x0, y1, x1 in corners]).float())
    found.scores, found.pred_classes = torch.tensor([0.9, 0.8, 0.7, 0.4]), torch.tensor([2, 1, 0, 0])
    logits = torch.zeros(1, 3, 16, 16)
    logits[0, 1, :8], logits[0, 2, 8:] = 4.0, 4.0
    return found, logits


@pytest.mark.parametrize("codes", [False, True], ids=["masks", "codes"])
def test_merging_by_hand(codes, monkeypatch):
    """The second instance lies within the first, the fourth scores too low; stuff fills the rest."""
    found, logits = merging_case()
    m = model(f"{COMBINE}STUFF_AREA_LIMIT", 100).eval()
    if codes:
        found.pred_masks = RLEMasks.encode(found.pred_masks)
        monkeypatch.setattr(panoptic, "MAX_MASK_BYTES", 0)
    fake_predictions(m, monkeypatch, found, logits)
    (output,) = m([{"image": torch.zeros(3, 64, 64), MASK_FORMAT: "rle" if codes else "dense"}])
    assert set(output) == {"instances", "sem_seg", "panoptic_seg"}
    assert isinstance(output["sem_seg"], LabelMap if codes else torch.Tensor)
    segmentation, segments = output["panoptic_seg"]
    assert [(s["id"], s["isthing"], s["category_id"]) for s in segments] == [
        *((1, True, 2), (2, True, 0)),
        *((3, False, 1), (4, False, 2)),
    ]
    expected = torch.full((64, 64), 4, dtype=torch.int32)
    expected[:32] = 3
    expected[:32, :32], expected[32:48, :32] = 1, 2
    assert torch.equal(segmentation, expected)


@pytest.mark.parametrize(
    ("option", "value", "num_things", "num_stuff"),
    [
        ("OVERLAP_THRESH", 1.0, 3, 2),  # the second instance may overlap, but nothing of it is left
        ("INSTANCES_CONFIDENCE_THRESH", 0.3, 3, 2),
        ("STUFF_AREA_LIMIT", 1100, 2, 1),  # stuff 1 has 1024 pixels left, stuff 2 has 1536
    ],
)
def test_the_options_of_merging(option, value, num_things, num_stuff, monkeypatch):
    found, logits = merging_case()
    m = model(f"{COMBINE}STUFF_AREA_LIMIT", 100, f"{COMBINE}{option}", value).eval()
    fake_predictions(m, monkeypatch, found, logits)
    _, segments = m([{"image": torch.zeros(3, 64, 64)}])[0]["panoptic_seg"]
    things = sum(s["isthing"] for s in segments)
    assert (things, len(segments) - things) == (num_things, num_stuff)


def test_it_learns_an_image():
    x = two_objects()
    m, _ = learn(SYSTEMS["Panoptic SOLOv2"], [x], num_classes=3)
    m.combine_instances_score_thresh, m.combine_stuff_area_thresh = 0.4, 100
    with torch.no_grad():
        (output,) = m(inference_inputs(x))
    segmentation, segments = output["panoptic_seg"]
    assert sorted((s["isthing"], s["category_id"]) for s in segments) == [(False, 1), (True, 0), (True, 2)]
    (stuff,) = [s["id"] for s in segments if not s["isthing"]]
    agree = (segmentation == stuff) == (x["sem_seg"] == 1)
    assert agree.float().mean() > 0.95
    assert output["sem_seg"].shape == (3, *SIZE)


def test_predict_draws_stuff_and_names_it(tmp_path, monkeypatch):
    """The names of things are in the checkpoint, those of stuff in the metadata of the config's dataset."""
    metadata = MetadataCatalog.get("panoptic_to_draw").set(stuff_classes=["things", "sky", "road"])
    m, cfg = model(), tiny_panoptic_cfg("DATASETS.TEST", ("panoptic_to_draw",), f"{COMBINE}STUFF_AREA_LIMIT", 0)
    nn.init.zeros_(m.sem_seg_head.predictor.weight)
    m.sem_seg_head.predictor.bias.data = torch.tensor([0.0, 0.0, 1.0])  # all is road
    cfg.MODEL.WEIGHTS = str(tmp_path / "x.pth")
    torch.save({"model": m.state_dict(), "thing_classes": ["cat", "dog", "cow"]}, cfg.MODEL.WEIGHTS)
    cv2.imwrite(str(tmp_path / "a.png"), np.full((60, 80, 3), 100, np.uint8))
    drawn = []
    monkeypatch.setattr(drawing, "draw_label", lambda picture, text, place, color: drawn.append(text))
    try:
        predict_to_folder(
            cfg, [str(tmp_path / "a.png")], str(tmp_path / "found"), filters=Filters(score_threshold=0.99)
        )
    finally:
        MetadataCatalog.remove(metadata.name)
    assert drawn == ["road"]
    picture = cv2.imread(str(tmp_path / "found" / "0001_a.jpg"))[150, 200, ::-1]
    assert np.abs(picture - (100 + 255 * np.array(stuff_color(2))) / 2).max() < 4


def test_the_weights_are_told_from_solov2s(tmp_path):
    m, path = model(), str(tmp_path / "x.pth")
    for content in ({"model": m.state_dict()}, {"model": m.state_dict(), "thing_classes": list("abc")}):
        torch.save(content, path)
        assert read_weight_file(path).system.name == "PanopticSOLOv2"
    torch.save({"model": tiny_model().state_dict()}, path)
    assert read_weight_file(path).system.name == "SOLOv2"


def test_it_can_start_from_solov2(tmp_path, caplog):
    instances, m = tiny_model(seed=1), model()
    path = str(tmp_path / "x.pth")
    torch.save({"model": instances.state_dict(), "thing_classes": list("abc")}, path)
    Checkpointer(m).load(path)
    state = m.state_dict()
    assert all(torch.equal(state[k], v) for k, v in instances.state_dict().items())
    assert "sem_seg_head" in caplog.text


class OtherHead(nn.Module):
    """A semantic head without the layers of Detectron2's."""

    def __init__(self, cfg, shapes):
        super().__init__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.SEM_SEG_HEAD.NAME", "OtherHead"], "OtherHead does not fit MODEL.META_ARCHITECTURE PanopticSOLOv2"),
        (["MODEL.SEM_SEG_HEAD.CONVS_DIM", 40], "MODEL.SEM_SEG_HEAD.CONVS_DIM must be a multiple of 32"),
        (["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["p2", "res5"]], "IN_FEATURES names res5, but the backbone gives"),
        (["MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 2.0], "PanopticSOLOv2 does not read this option"),
        (["MODEL.SOLOV2.SCORE_THRESH_TEST", 2.0], "MODEL.SOLOV2.SCORE_THRESH_TEST is a probability"),
    ],
)
def test_options_that_do_not_fit(options, message, monkeypatch):
    from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY

    monkeypatch.setitem(SEM_SEG_HEADS_REGISTRY._obj_map, "OtherHead", OtherHead)
    with pytest.raises(ConfigError) as error:
        model(*options)
    assert message in str(error.value)
