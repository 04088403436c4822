"""A batch in parts has the losses and gradients of the whole batch, in every system."""

import copy

import pytest
import torch
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.parts_of_batch import PartsOfBatch, pad_as_whole, per_part, total
from tests.modeling.inputs import empty_instances, input_of, instances_of, rectangles
from tests.modeling.models import SYSTEMS, gradients_of, losses_of

BATCH = [
    input_of(instances_of(rectangles(64, 96, (4, 4, 40, 44), (8, 50, 60, 92)), [0, 1]), 0),
    input_of(instances_of(rectangles(96, 64, (10, 6, 80, 50)), [2]), 1),
    input_of(empty_instances(64, 64), 2),
    input_of(instances_of(rectangles(70, 90, (0, 0, 70, 90), (30, 30, 44, 44), (2, 60, 20, 80)), [0, 0, 2]), 3),
]


def in_parts(model, number):
    """The losses, and the gradients of their sum, from parts of the batch."""
    whole = PartsOfBatch(BATCH, number, model)
    with whole.counting(), torch.no_grad():
        for part in whole.parts:
            losses_of(model, part)
    model.zero_grad()
    losses: dict[str, torch.Tensor] = {}
    with whole.dividing():
        for part in whole.parts:
            found = losses_of(model, part)
            (sum(found.values()) / number).backward()
            losses = {name: losses.get(name, 0.0) + x.detach() / number for name, x in found.items()}
    return losses, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module", params=SYSTEMS)
def whole(request):
    """A model with the losses and gradients of the batch; in float64, because rounding decides on pixels of masks."""
    model = SYSTEMS[request.param].model().double()
    losses = losses_of(model, BATCH)
    return model, losses, copy.deepcopy(gradients_of(model, losses))


@pytest.mark.parametrize("number", [2, 4])
def test_parts_have_the_losses_and_gradients_of_the_batch(whole, number):
    model, losses, gradients = whole
    found, found_gradients = in_parts(model, number)
    for key, loss in losses.items():
        torch.testing.assert_close(found[key], loss.detach().to(found[key]), rtol=1e-5, atol=1e-6)
    scale = max(x.abs().max() for x in gradients.values() if x is not None)
    for key, gradient in gradients.items():
        if gradient is not None:
            assert (found_gradients[key] - gradient).abs().max() < 1e-5 * max(scale, 1), key


def test_without_counting_the_losses_differ():
    """Otherwise the test above would prove nothing."""
    model = SYSTEMS["SOLOv2"].model()
    whole = losses_of(model, BATCH)
    means = [losses_of(model, [x]) for x in BATCH]
    mean = sum(x["loss_ins"].item() for x in means) / 4
    assert abs(mean - whole["loss_ins"].item()) > 1e-3


def test_counts_are_shared_and_divided():
    whole = PartsOfBatch(BATCH, 2, torch.nn.Identity())
    assert [len(x) for x in whole.parts] == [2, 2] and not whole.counted
    with whole.counting():
        assert [total("cells", 3), total("cells", 5)] == [3, 5]
    assert whole.counted
    with whole.dividing():
        assert total("cells", 3) == 8 and per_part(8) == 4
        assert total("another", 3) == 6
    assert total("cells", 3) == 3 and per_part(8) == 8


def test_an_error_ends_the_context():
    whole = PartsOfBatch(BATCH, 2, torch.nn.Identity())
    with pytest.raises(KeyError), whole.dividing():
        raise KeyError
    assert per_part(8) == 8


def test_a_part_is_padded_as_the_batch():
    model = SYSTEMS["SOLOv2"].model()
    sizes = {}
    with EventStorage(), PartsOfBatch(BATCH, 4, model).dividing():
        sizes = {tuple(model.preprocess_image([x]).tensor.shape[2:]) for x in BATCH}
    assert sizes == {tuple(model.preprocess_image(BATCH).tensor.shape[2:])}
    alone = ImageList.from_tensors([torch.zeros(3, 64, 96)], 32)
    assert pad_as_whole(alone) is alone
