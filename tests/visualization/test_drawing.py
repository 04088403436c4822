"""Instances drawn over an image."""

import tracemalloc

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances

from centermask_solo.structures.compact_masks import CroppedMasks, RLEMasks
from centermask_solo.visualization import drawing, labels
from centermask_solo.visualization.colors import CROWD_COLOR, class_color, instance_colors, stuff_color
from centermask_solo.visualization.drawing import Style, draw_ground_truth, draw_panoptic, draw_predictions
from centermask_solo.visualization.labels import choose_labeled, font_size, label_size, overlap, place_label

METADATA = Metadata(name="test", thing_classes=["cat", "dog"])
GRAY = 100


def image(height=300, width=400):
    return np.full((height, width, 3), GRAY, np.uint8)


def instances_of(masks, classes=None):
    masks = np.asarray(masks, dtype=bool)
    classes = [0] * len(masks) if classes is None else classes
    scores = torch.full((len(masks),), 0.5)
    size = masks.shape[1:]
    return Instances(size, scores=scores, pred_classes=torch.tensor(classes), pred_masks=torch.from_numpy(masks))


def rectangle(x0, y0, x1, y1, height=300, width=400):
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def mixed(color):
    return np.rint((GRAY + np.rint(255 * np.asarray(color))) / 2)


@pytest.mark.parametrize("form", [CroppedMasks, RLEMasks])
@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_compact_masks_are_drawn_like_a_tensor(form, scale):
    """Over the image in any size."""
    instances = instances_of([rectangle(10, 20, 60, 70), rectangle(0, 0, 400, 300), rectangle(0, 0, 0, 0)], [0, 1, 0])
    canvas = image(int(300 * scale), int(400 * scale))
    expected = draw_predictions(canvas, instances, METADATA)
    instances.pred_masks = form.encode(instances.pred_masks)
    assert np.array_equal(draw_predictions(canvas, instances, METADATA), expected)


def test_names_do_not_cover_each_other():
    taken = []
    for _ in range(10):
        taken.append(place_label("polygon 0.95", (190, 140, 210, 160), (200, 150), taken, (300, 400)))
    for i, a in enumerate(taken):
        assert a[0] >= 0 and a[1] >= 0 and a[2] <= 400 and a[3] <= 300
        assert not any(overlap(a, b) for b in taken[:i])


def test_names_without_a_place_are_left_out():
    assert place_label("a very long name of a class", (0, 0, 30, 30), (15, 15), [], (40, 60)) is None
    assert place_label("cat", (0, 0, 30, 30), (15, 15), [(0, 0, 100, 100)], (100, 100)) is None


def test_the_largest_objects_have_names_if_there_is_no_room_for_all():
    names, areas = ["object"] * 20, [*range(20)]  # the first is empty
    assert choose_labeled(names, areas, (1000, 1000)) == list(range(1, 20))
    chosen = choose_labeled(names, areas, (150, 150))
    assert 5 <= len(chosen) <= 9 and chosen == list(range(20 - len(chosen), 20))
    covered = sum(np.prod(label_size("object", (150, 150))) for _ in chosen)
    assert covered <= labels.MAX_COVERED * 150 * 150
    assert choose_labeled(names, areas, (20, 20)) == [19]


@pytest.mark.parametrize(("shape", "size"), [((60, 80), 10), ((480, 640), 12), ((3000, 4000), 60)])
def test_names_grow_with_the_picture(shape, size):
    assert font_size(*shape) == size


def test_colors_of_classes_differ():
    colors = np.array([class_color(i) for i in range(10)])
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + np.eye(10) * 9
    assert distance.min() > 0.2


def test_neighbors_have_different_colors():
    """Also the eight around each of many objects of one size."""
    boxes = [(x, y, x + 9, y + 9) for y in range(0, 100, 10) for x in range(0, 100, 10)]
    colors = np.array(instance_colors(boxes)).reshape(10, 10, 3)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        distance = np.abs(colors[dy:, dx:] - colors[: 10 - dy, : 10 - dx]).sum(axis=2)
        assert distance.min() > 0.2
    assert instance_colors([]) == []


def test_each_instance_or_each_class_has_its_color():
    masks = [rectangle(0, 200, 100, 300), rectangle(100, 200, 200, 300), rectangle(200, 200, 300, 300)]
    found = instances_of(masks, [0, 0, 1])
    centers = [(290, 10 + 100 * i) for i in range(3)]
    by_instance = draw_predictions(image(), found, METADATA)
    assert len({tuple(by_instance[c]) for c in centers}) == 3
    by_class = draw_predictions(image(), found, METADATA, Style("class"))
    assert [tuple(by_class[c]) for c in centers] == [tuple(mixed(class_color(c))) for c in (0, 0, 1)]


def test_masks_are_mixed_with_the_image_and_holes_stay_open():
    mask = rectangle(50, 50, 350, 250)
    mask[100:200, 100:300] = False
    picture = draw_predictions(image(), instances_of([mask]), METADATA)
    assert (picture[60:90, 60:340] == mixed(class_color(0))).all()
    assert (picture[:40] == GRAY).all() and (picture[110:130, 110:290] == GRAY).all()
    outline = 255 * np.asarray(class_color(0))
    assert np.abs(picture[50, 60:340] - outline).max() < 12  # of a line with smooth edges
    assert (image() == GRAY).all()


def test_crowds_are_gray_and_polygons_are_scaled():
    polygon = [[100.0, 100.0, 300.0, 100.0, 300.0, 200.0, 100.0, 200.0]]
    record = {"height": 300, "width": 400}
    record["annotations"] = [{"segmentation": polygon, "category_id": 1, "iscrowd": 1}]
    for scale in (1, 2):
        picture = draw_ground_truth(image(300 * scale, 400 * scale), record, METADATA)
        assert (picture[110 * scale, 110 * scale] == mixed(CROWD_COLOR)).all()
        assert (picture[90 * scale, 110 * scale] == GRAY).all()


def panoptic_case():
    """A cat with a score of 0.9 and one with 0.4 on the grass; void at the top."""
    segmentation = torch.zeros(300, 400, dtype=torch.int32)
    segmentation[100:], segmentation[150:250, 50:150], segmentation[150:250, 250:350] = 3, 1, 2
    things = [{"id": i, "isthing": True, "category_id": 0, "score": score} for i, score in ((1, 0.9), (2, 0.4))]
    return segmentation, [*things, {"id": 3, "isthing": False, "category_id": 1, "area": 70000}]


@pytest.mark.parametrize("scale", [1, 2])
def test_panoptic_segments_are_drawn_over_their_pixels(scale):
    """In a picture of another size, too. Stuff is pale; things below the threshold leave the image as it is."""
    metadata = Metadata(name="panoptic", thing_classes=["cat", "dog"], stuff_classes=["things", "grass"])
    picture = draw_panoptic(
        image(300 * scale, 400 * scale), *panoptic_case(), metadata, score_threshold=0.5, style=Style("class")
    )
    at = {
        name: picture[y * scale, x * scale]
        for name, (y, x) in {"void": (20, 200), "grass": (285, 20), "cat": (240, 60), "faint cat": (240, 260)}.items()
    }
    expected = {
        "void": [GRAY] * 3,
        "grass": mixed(stuff_color(1)),
        "cat": mixed(class_color(0)),
        "faint cat": [GRAY] * 3,
    }
    assert {name: list(x) for name, x in at.items()} == {name: list(x) for name, x in expected.items()}


def test_things_and_stuff_have_their_own_names(monkeypatch):
    drawn = []
    monkeypatch.setattr(drawing, "draw_label", lambda picture, text, place, color: drawn.append(text))
    metadata = Metadata(name="panoptic", thing_classes=["cat", "dog"], stuff_classes=["things", "grass"])
    draw_panoptic(image(), *panoptic_case(), metadata)
    assert sorted(drawn) == ["cat 0.40", "cat 0.90", "grass"]
    drawn.clear()
    draw_panoptic(image(), *panoptic_case(), METADATA)
    assert "class 1" in drawn


def test_drawing_takes_little_memory():
    """A picture, and not one of it for each instance."""
    big = image(1500, 2000)
    masks = np.zeros((20, 1500, 2000), dtype=bool)
    for i, mask in enumerate(masks):
        mask[50 * i :, 80 * i :] = True
    found = instances_of(masks)
    draw_predictions(image(), instances_of([rectangle(0, 0, 9, 9)]), METADATA)  # loads the font
    tracemalloc.start()
    drawing.draw_predictions(big, found, METADATA)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * big.nbytes  # the picture and, for a moment, what is mixed with a mask
