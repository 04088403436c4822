"""Contact sheets show what is there, with names and scores, and holes open."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.visualization import pictures
from centermask_solo.visualization.pictures import CAPTION, HEADER, MARGIN, PANEL, class_color, contact_sheet

CLASSES = ["ring", "disc"]
METADATA = Metadata(name="test", thing_classes=CLASSES)
GREY = 100


def ring_mask(height=60, width=80):
    mask = np.zeros((height, width), dtype=bool)
    mask[10:50, 10:50] = True
    mask[20:40, 20:40] = False
    return mask


@pytest.fixture
def record(tmp_path):
    Image.new("RGB", (80, 60), (GREY, GREY, GREY)).save(tmp_path / "a.png")
    code = rle.encode(np.asfortranarray(ring_mask(), dtype=np.uint8))
    square = [[60.0, 5.0, 75.0, 5.0, 75.0, 20.0, 60.0, 20.0]]
    annotations = [{"segmentation": code, "category_id": 0}, {"segmentation": square, "category_id": 1, "iscrowd": 1}]
    return {"file_name": str(tmp_path / "a.png"), "height": 60, "width": 80, "annotations": annotations}


def detections(scores, masks=None):
    count = len(scores)
    masks = np.repeat(ring_mask()[None], count, axis=0) if masks is None else masks
    return Instances(
        (60, 80),
        scores=torch.tensor(scores),
        pred_classes=torch.zeros(count, dtype=torch.long),
        pred_masks=torch.from_numpy(masks),
    )


@pytest.fixture
def names(monkeypatch):
    """The names that are drawn, in order."""
    drawn = []
    original = pictures.Visualizer.draw_text
    monkeypatch.setattr(
        pictures.Visualizer,
        "draw_text",
        lambda self, text, *a, **k: (drawn.append(text), original(self, text, *a, **k))[1],
    )
    return drawn


def at(sheet, panel, x, y):
    """The pixel of a panel of the first row where the image's pixel (x, y) is drawn."""
    scale = PANEL / 80
    left, top = MARGIN + panel * (PANEL + MARGIN), HEADER
    return sheet[int(top + (y + 0.5) * scale), int(left + (x + 0.5) * scale)].astype(int)


def draw(path, records, predictions, **options):
    contact_sheet(records, predictions, METADATA, str(path), **options)
    return np.asarray(Image.open(path).convert("RGB"))


def test_sheet_shows_image_truth_and_prediction(tmp_path, record, names):
    sheet = draw(tmp_path / "out" / "sheet.png", [record] * 2, [detections([0.9]), detections([])])
    panel_height = PANEL * 60 // 80
    assert sheet.shape == (HEADER + 2 * (panel_height + CAPTION + MARGIN), 3 * PANEL + 4 * MARGIN, 3)
    assert (at(sheet, 0, 15, 45) == GREY).all()
    mixed = (GREY + 255 * np.asarray(class_color(0))) / 2
    for panel in (1, 2):
        np.testing.assert_allclose(at(sheet, panel, 15, 45), mixed, atol=3)  # on the ring
        assert (at(sheet, panel, 30, 38) == GREY).all()  # in its hole
        assert (at(sheet, panel, 70, 50) == GREY).all()  # beside it
    assert sorted(names) == ["disc (crowd)", "disc (crowd)", "ring", "ring", "ring 0.90"]


def test_scores_below_the_threshold_are_left_out(tmp_path, record, names):
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [detections([0.5, 0.49])], score_threshold=0.5)
    assert names == ["ring 0.50"]


def test_boxes_stand_for_masks_that_a_model_does_not_give(tmp_path, record, names):
    boxes = Boxes(torch.tensor([[10.0, 20.0, 50.2, 60.0]]))
    found = Instances((60, 80), scores=torch.tensor([0.9]), pred_classes=torch.tensor([1]), pred_boxes=boxes)
    sheet = draw(tmp_path / "sheet.png", [record], [found])
    assert names[-1] == "disc 0.90"
    color = np.array(class_color(1)) * 255
    for x, y in ((10, 30), (50, 30), (20, 20), (20, 59)):  # the last row of the image is the box's lower side
        pixel = at(sheet, 2, x, y)
        assert np.abs(pixel - (GREY + color) / 2).max() < 70 and np.ptp(pixel) > 60
    assert np.ptp(at(sheet, 2, 20, 25)) < 10 and np.ptp(at(sheet, 2, 60, 30)) < 10


def test_many_objects_are_drawn_without_names(tmp_path, record, names):
    masks = np.repeat(ring_mask()[None], 30, axis=0)
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [detections([0.9] * 30, masks)])
    assert not names


def test_empty_masks_and_images_without_annotations(tmp_path, record, names):
    unlabelled = {key: value for key, value in record.items() if key != "annotations"}
    sheet = draw(tmp_path / "a.jpg", [unlabelled], [detections([0.9], np.zeros((1, 60, 80), dtype=bool))])
    assert not names
    np.testing.assert_allclose(at(sheet, 2, 30, 30), GREY, atol=3)


def test_unknown_classes_have_a_number(tmp_path, record, names):
    instances = detections([0.8])
    instances.pred_classes[0] = 7
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [instances])
    assert names == ["class 7 0.80"]


def test_names_do_not_cover_each_other():
    mask = np.zeros((300, 400), dtype=bool)
    mask[140:160, 190:210] = True
    taken = []
    for _ in range(10):
        taken.append(pictures._free_place(mask, "polygon 0.95", taken))
    for i, a in enumerate(taken):
        assert a[0] >= 0
        assert a[1] >= 0
        assert a[2] <= 400
        assert a[3] <= 300
        assert not any(pictures._overlap(a, b) for b in taken[:i])


def test_colors_of_classes_differ():
    colors = np.array([class_color(i) for i in range(10)])
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + np.eye(10) * 9
    assert distance.min() > 0.2
