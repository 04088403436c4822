"""Which regions R-CNN learns from, by hand."""

import torch

from centermask_solo.modeling.rcnn.targets import SamplingOptions, class_overlaps, sample_regions

GT = torch.tensor([[0.0, 0, 10, 10], [20.0, 0, 30, 10]])
CLASSES = torch.tensor([2, 0])
REGIONS = torch.tensor(
    [
        [0.0, 0, 10, 5],  # half of the first object
        [0.0, 0, 10, 4],  # less than half
        [20.0, 0, 30, 20],  # half of it is the second object
        [50.0, 50, 60, 60],
    ]
)


def sample(count=100, fraction=1.0, gt=GT, classes=CLASSES):
    return sample_regions(REGIONS, gt, classes, 3, SamplingOptions(count, fraction, 0.5))


def test_regions_have_the_class_of_the_object_that_they_overlap():
    boxes, classes = sample()
    found = {tuple(b): k for b, k in zip(boxes.tolist(), classes.tolist(), strict=True)}
    known = {tuple(b): k for b, k in zip(torch.cat([GT, REGIONS]).tolist(), [2, 0, 2, 3, 0, 3], strict=True)}
    assert found == known  # the objects' own boxes are among them


def test_the_sample_is_limited():
    classes = sample(count=4, fraction=0.25).classes
    assert len(classes) == 3 and (classes < 3).sum() == 1  # as there are two of the background


def test_without_objects_all_is_background():
    found = sample(gt=GT[:0], classes=CLASSES[:0])
    assert len(found.boxes) == 4 and (found.classes == 3).all()


def test_overlaps_are_those_with_the_nearest_object_of_each_class():
    overlaps = class_overlaps(REGIONS, torch.cat([GT, GT[:1] + 1]), torch.tensor([2, 0, 2]), 3)
    torch.testing.assert_close(overlaps[:, 0], torch.tensor([0.0, 0, 0.5, 0]))
    assert not overlaps[:, 1].any()
    torch.testing.assert_close(overlaps[:2, 2], torch.tensor([0.5, 0.4]))
    assert not class_overlaps(REGIONS, GT[:0], CLASSES[:0], 3).any()
