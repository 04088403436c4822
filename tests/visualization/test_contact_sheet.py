"""Contact sheets show image, ground truth and prediction of each sample, and fit a screen."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as rle

from centermask_solo.utils.errors import ConfigError
from centermask_solo.visualization import contact_sheet as contact_sheet_module
from centermask_solo.visualization import drawing
from centermask_solo.visualization.colors import class_color
from centermask_solo.visualization.contact_sheet import (
    CAPTION,
    GAP,
    HEADER,
    MARGIN,
    MAX_HEIGHT,
    MAX_PANEL,
    MAX_WIDTH,
    MIN_PANEL,
    contact_sheet,
    plan,
)

CLASSES = ["ring", "disc"]
METADATA = Metadata(name="test", thing_classes=CLASSES)
GRAY = 100


def ring_mask(height=60, width=80):
    mask = np.zeros((height, width), dtype=bool)
    mask[10:50, 10:50] = True
    mask[20:40, 20:40] = False
    return mask


@pytest.fixture
def record(tmp_path):
    Image.new("RGB", (80, 60), (GRAY, GRAY, GRAY)).save(tmp_path / "a.png")
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
    """The names that are drawn, in this order."""
    drawn = []
    original = drawing.draw_label
    monkeypatch.setattr(
        drawing, "draw_label", lambda picture, text, *rest: (drawn.append(text), original(picture, text, *rest))
    )
    return drawn


def at(sheet, panel, x, y, layout=None):
    """The pixel of a panel of the first sample where the image's pixel (x, y) is drawn."""
    layout = layout or plan([(80, 60)])
    scale = layout.panel / 80
    left, top = layout.corner(0, panel)
    return sheet[int(top + (y + 0.5) * scale), int(left + (x + 0.5) * scale)].astype(int)


def at_around(sheet, panel, x, y):
    """The pixels of a panel of the first sample where the image's pixel (x, y) and its neighbors are drawn."""
    layout = plan([(80, 60)])
    scale = layout.panel // 80
    left, top = layout.corner(0, panel)
    rows = slice(top + (y - 1) * scale, min(top + (y + 2) * scale, top + layout.heights[0]))
    return sheet[rows, left + (x - 1) * scale : left + (x + 2) * scale].astype(int)


def draw(path, records, predictions, score_threshold=0.3):
    assert contact_sheet(records, predictions, METADATA, str(path), score_threshold) == str(path)
    return np.asarray(Image.open(path).convert("RGB"))


def test_sheet_shows_image_ground_truth_and_prediction(tmp_path, record, names):
    sheet = draw(tmp_path / "out" / "sheet.png", [record] * 2, [detections([0.9]), detections([])])
    layout = plan([(80, 60)] * 2)
    panel_height = MAX_PANEL * 60 // 80
    assert (layout.panel, layout.columns, layout.heights) == (MAX_PANEL, 1, (panel_height, panel_height))
    height = HEADER + 2 * (panel_height + CAPTION) + MARGIN
    assert sheet.shape == (height, 3 * MAX_PANEL + 2 * GAP + 2 * MARGIN, 3)
    assert (at(sheet, 0, 15, 45) == GRAY).all()
    mixed = (GRAY + 255 * np.asarray(class_color(0))) / 2
    for panel in (1, 2):
        np.testing.assert_allclose(at(sheet, panel, 15, 45), mixed, atol=3)  # on the ring
        assert (at(sheet, panel, 30, 38) == GRAY).all()  # in its hole
        assert (at(sheet, panel, 70, 50) == GRAY).all()  # beside it
    assert sorted(names) == ["disc (crowd)", "disc (crowd)", "ring", "ring", "ring 0.90"]


@pytest.mark.parametrize("size", [(256, 256), (640, 480), (480, 640), (1333, 800)])
@pytest.mark.parametrize("count", [1, 2, 5, 12, 20])
def test_sheet_fits_a_screen(size, count):
    layout = plan([size] * count)
    width, height = layout.size
    assert width <= MAX_WIDTH and height <= MAX_HEIGHT
    assert len(layout.heights) == -(-count // layout.columns)
    assert layout.panel >= MIN_PANEL + (40 if count <= 12 else 0)
    boxes = [
        (*layout.corner(i, j), layout.panel, layout.heights[i // layout.columns])
        for i in range(count)
        for j in range(3)
    ]
    for left, top, box_width, box_height in boxes:
        assert left >= MARGIN and left + box_width <= width - MARGIN
        assert top >= HEADER and top + box_height + CAPTION <= height
    assert len({box[:2] for box in boxes}) == 3 * count


def test_rows_are_as_high_as_their_highest_image():
    layout = plan([(100, 100), (200, 100), (200, 100), (200, 100), (200, 100)])
    rows = [layout.heights[i] for i in range(len(layout.heights))]
    assert rows[0] == layout.panel
    assert all(row == round(layout.panel / 2) for row in rows[1:])


def test_too_many_images_make_the_sheet_higher():
    layout = plan([(256, 256)] * 100)
    assert layout.panel == MIN_PANEL and layout.columns == 4
    assert layout.size[0] <= MAX_WIDTH and layout.size[1] > MAX_HEIGHT


def test_samples_of_a_row_stand_side_by_side(tmp_path, record, names):
    sheet = draw(tmp_path / "sheet.png", [record] * 12, [detections([0.9])] * 12)
    layout = plan([(80, 60)] * 12)
    assert sheet.shape[:2] == layout.size[::-1]
    assert layout.columns > 1
    for sample in range(12):
        left, top = layout.corner(sample, 0)
        middle = sheet[top + layout.heights[0] // 2, left + layout.panel // 2]
        assert (middle == GRAY).all()
    assert names.count("ring 0.90") == 12


@pytest.mark.parametrize("name", ["sheet", "sheet.txt", "sheet.psd"])
def test_files_that_are_no_pictures(tmp_path, record, name):
    with pytest.raises(ConfigError, match=rf"{name} does not have the extension of a picture"):
        draw(tmp_path / name, [record], [detections([])])
    assert not (tmp_path / name).exists()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing to draw in .*sheet\.png"):
        draw(tmp_path / "sheet.png", [], [])


def test_scores_below_the_threshold_are_dropped(tmp_path, record, names):
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [detections([0.5, 0.49])], score_threshold=0.5)
    assert names == ["ring 0.50"]


def test_boxes_are_drawn_if_there_are_no_masks(tmp_path, record, names):
    boxes = Boxes(torch.tensor([[10.0, 20.0, 50.2, 60.0]]))
    found = Instances((60, 80), scores=torch.tensor([0.9]), pred_classes=torch.tensor([1]), pred_boxes=boxes)
    sheet = draw(tmp_path / "sheet.png", [record], [found])
    assert names[-1] == "disc 0.90"
    color = np.array(class_color(0)) * 255  # of the first instance
    for x, y in ((10, 30), (50, 30), (20, 20), (20, 59)):  # the last row of the image is the box's lower side
        patch = at_around(sheet, 2, x, y)
        assert np.abs(patch - color).max(axis=2).min() <= 1
    assert np.ptp(at(sheet, 2, 20, 25)) < 10 and np.ptp(at(sheet, 2, 60, 30)) < 10


def test_many_objects_are_drawn_without_names(tmp_path, record, names):
    masks = np.repeat(ring_mask()[None], 30, axis=0)
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [detections([0.9] * 30, masks)])
    assert not names
    assert contact_sheet_module._count(30, "detection") == "30 detections, unlabeled"


def test_empty_masks_and_images_without_annotations(tmp_path, record, names):
    unlabelled = {key: value for key, value in record.items() if key != "annotations"}
    sheet = draw(tmp_path / "a.jpg", [unlabelled], [detections([0.9], np.zeros((1, 60, 80), dtype=bool))])
    assert not names
    np.testing.assert_allclose(at(sheet, 2, 30, 30), GRAY, atol=3)


def test_unknown_classes_have_a_number(tmp_path, record, names):
    instances = detections([0.8])
    instances.pred_classes[0] = 7
    draw(tmp_path / "a.png", [{**record, "annotations": []}], [instances])
    assert names == ["class 7 0.80"]
