from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, PolygonMasks
from detectron2.utils.events import EventStorage

from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.inputs import empty_instances, input_of, instances_of, rectangles
from tests.modeling.models import losses_and_gradients
from tests.modeling.solov2.tiny import tiny_cfg, tiny_model


def batch():
    """Two images of different sizes with three objects and one."""
    first = instances_of(rectangles(64, 96, (4, 8, 40, 60), (30, 50, 60, 90), (2, 70, 12, 82)), [0, 2, 1])
    second = instances_of(rectangles(50, 70, (5, 5, 45, 65)), [1])
    return [input_of(first), input_of(second, seed=1)]


EMPTY = empty_instances(64, 64)
NOTHING_DRAWN = instances_of(torch.zeros(2, 64, 64, dtype=torch.bool), [0, 1])
ONE_PIXEL = instances_of(rectangles(64, 64, (7, 9, 8, 10)), [2])
WHOLE_IMAGE = instances_of(rectangles(64, 64, (0, 0, 64, 64)), [0])


@pytest.mark.parametrize(
    "gt_of_images",
    [[EMPTY], [EMPTY, EMPTY], [EMPTY, WHOLE_IMAGE], [WHOLE_IMAGE, EMPTY], [NOTHING_DRAWN], [ONE_PIXEL], [WHOLE_IMAGE]],
    ids=["empty", "all empty", "first empty", "last empty", "no pixels", "one pixel", "whole image"],
)
def test_every_parameter_learns_from_any_batch(gt_of_images):
    losses, gradients = losses_and_gradients(tiny_model(), [input_of(x, seed=i) for i, x in enumerate(gt_of_images)])
    assert set(losses) == {"loss_ins", "loss_cate"}
    assert all(x.isfinite() and x.dtype == torch.float32 and x.shape == () for x in losses.values())
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []
    if all(x is EMPTY or x is NOTHING_DRAWN for x in gt_of_images):
        assert losses["loss_ins"].item() == 0
        assert not gradients["ins_head.kernel_pred.weight"].any()
    elif gt_of_images == [ONE_PIXEL]:
        assert losses["loss_ins"].item() == pytest.approx(3)  # reduced, nothing is left of it to overlap with
    else:
        assert 0 < losses["loss_ins"].item() <= 3
        assert gradients["ins_head.kernel_pred.weight"].any()
        assert gradients["mask_head.conv_pred.0.weight"].any()
    assert gradients["ins_head.cate_pred.weight"].any()


def test_a_batch_pads_each_image_to_the_largest():
    model, inputs = tiny_model(), batch()
    inputs[1] = input_of(instances_of(torch.ones(1, 50, 70, dtype=torch.bool), [1]))
    predictions = model.predict(model.preprocess_image(inputs).tensor)
    assert predictions.mask_features.shape == (2, 32, 16, 24)
    targets = model.label(predictions, [x["instances"] for x in inputs])
    assert targets.masks.shape == (4, 16, 24)
    assert torch.equal(targets.masks[3], rectangles(16, 24, (0, 0, 13, 18))[0])
    # Grids span the padded input: of the 8 x 8 cells on 64 x 96, the center (34.5, 24.5) is in row 3 and column 2.
    assert targets.classes[1][1, 3, 2] == 1
    assert (targets.classes[1][1, :, 4:] == 3).all()


@pytest.mark.parametrize("wrong", [3, 80])
def test_a_class_beyond_the_models_is_an_error(wrong):
    with pytest.raises(DataError, match=f"class {wrong}, but MODEL.SOLOV2.NUM_CLASSES is 3"):
        tiny_model()([input_of(instances_of(rectangles(64, 64, (8, 8, 50, 50)), [wrong]))])


def test_instances_without_masks_are_an_error():
    instances = instances_of(rectangles(64, 64, (8, 8, 50, 50)), [1])
    instances.remove("gt_masks")
    with pytest.raises(DataError, match=r"no gt_masks: the model needs MODEL\.MASK_ON"):
        tiny_model()([input_of(instances)])


def test_polygons_bit_masks_and_tensors_are_the_same():
    corners = [(4, 8, 40, 60), (30, 50, 60, 90), (2, 70, 12, 82)]
    masks = rectangles(64, 96, *corners)
    polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for y0, x0, y1, x1 in corners]
    model, x = tiny_model(), input_of(instances_of(masks, [0, 2, 1]))
    predictions = model.predict(model.preprocess_image([x]).tensor)
    targets = []
    for form in (BitMasks(masks), PolygonMasks(polygons), masks, masks.to(torch.uint8)):
        x["instances"].gt_masks = form
        targets.append(model.label(predictions, [x["instances"]]))
    for other in targets[1:]:
        assert torch.equal(targets[0].term_cells, other.term_cells)
        assert torch.equal(targets[0].masks, other.masks)
        assert all(torch.equal(a, b) for a, b in zip(targets[0].classes, other.classes, strict=True))


def test_masks_are_read_in_chunks(monkeypatch):
    model, inputs = tiny_model(), batch()
    whole = losses_and_gradients(model, inputs)[0]
    monkeypatch.setattr("centermask_solo.ops.chunks.CHUNK_BYTES", 2 * 2 * 64 * 96)
    chunked = losses_and_gradients(model, inputs)[0]
    assert {k: v.item() for k, v in whole.items()} == {k: v.item() for k, v in chunked.items()}


@pytest.mark.parametrize("part", ["last", "all"])
@pytest.mark.parametrize("modulated", [False, True])
def test_deformable_heads_train(part, modulated):
    model = tiny_model(
        *("MODEL.SOLOV2.DEFORM_IN_INSTANCE", part),
        *("MODEL.SOLOV2.DEFORM_IN_MASK", part == "all"),
        *("MODEL.SOLOV2.DEFORM_MODULATED", modulated),
    )
    losses, gradients = losses_and_gradients(model, batch())
    assert all(x.isfinite() for x in losses.values())
    offsets = [name for name in gradients if "conv_offset.weight" in name]
    assert len(offsets) == (2 if part == "last" else 10)
    assert all(gradients[name].any() for name in offsets)


def test_loss_weights():
    plain = tiny_model()(batch())
    weighted = tiny_model("MODEL.SOLOV2.LOSS.MASK_WEIGHT", 1.5, "MODEL.SOLOV2.LOSS.CLASS_WEIGHT", 4.0)(batch())
    assert weighted["loss_ins"].item() == pytest.approx(plain["loss_ins"].item() / 2)
    assert weighted["loss_cate"].item() == pytest.approx(plain["loss_cate"].item() * 4)


def test_counts_are_logged():
    model, inputs = tiny_model(), batch()
    with EventStorage() as storage:
        predictions = model.predict(model.preprocess_image(inputs).tensor)
        targets = model.label(predictions, [x["instances"] for x in inputs])
        model.losses(predictions, targets)
    latest = {k: v for k, (v, _) in storage.latest().items()}
    assert latest["solov2/num_positive_cells"] == sum(int((x < 3).sum()) for x in targets.classes) > 0
    assert latest["solov2/num_dice_terms"] == len(targets.term_cells) >= latest["solov2/num_positive_cells"]


@pytest.mark.parametrize("gt", [WHOLE_IMAGE, EMPTY], ids=["one object", "empty"])
def test_training_is_shown_in_pictures(gt):
    model, inputs = tiny_model("VIS_PERIOD", 2, "MODEL.SOLOV2.SCORE_THRESH_TEST", 0.001), [input_of(gt)]
    for iteration, pictures in ((0, 1), (1, 0), (2, 1)):
        with EventStorage(iteration) as storage:
            losses = model(inputs)
        assert len(storage._vis_data) == pictures
        assert all(x.requires_grad for x in losses.values())
        for name, picture, _ in storage._vis_data:
            assert name == "Top: GT masks; Bottom: 20 Highest Scoring Results"
            assert picture.shape == (3, 128, 64)


NODE = "MODEL.SOLOV2."


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["IN_FEATURES", ["p2", "p3", "p4", "p5"]], "NUM_GRIDS has 5 entries, but .*FEATURES has 4"),
        (["NUM_GRIDS", [8, 6, 4]], "NUM_GRIDS has 3 entries, but .*IN_FEATURES has 5: give one for each"),
        (["STRIDES", [8, 8, 16, 32]], "STRIDES has 4 entries, but .*FEATURES has 5"),
        (["SCALE_RANGES", ((1, 96), (48, 2048))], "SCALE_RANGES has 2 entries, but .*FEATURES has 5"),
        (
            ["IN_FEATURES", ["p2", "p3", "p4", "p5", "p7"]],
            "IN_FEATURES names p7, but the backbone gives p2, p3, p4, p5, p6",
        ),
        (["MASK_IN_FEATURES", ["p3", "p4", "p5"]], r"strides 4, 8, 16, \.\.\. in order, not \[8, 16, 32\]"),
        (["NORM", "BN"], "MODEL.SOLOV2.NORM must be one of GN, none, not 'BN'"),
        (
            ["DEFORM_IN_INSTANCE", "first"],
            "MODEL.SOLOV2.DEFORM_IN_INSTANCE must be one of none, last, all, not 'first'",
        ),
        (["IN_FEATURES", []], "MODEL.SOLOV2.IN_FEATURES is empty: name some of p2, p3, p4, p5, p6"),
        (["NUM_CLASSES", 0], "MODEL.SOLOV2.NUM_CLASSES must be at least 1, not 0"),
        (["MASK_CHANNELS", 40], "MODEL.SOLOV2.MASK_CHANNELS must be a multiple of 32, the groups of NORM GN, not 40"),
        (["NUM_INSTANCE_CONVS", 0], "MODEL.SOLOV2.NUM_INSTANCE_CONVS must be at least 1, not 0"),
        (
            ["INSTANCE_CHANNELS", 100],
            "MODEL.SOLOV2.INSTANCE_CHANNELS must be a multiple of 32, the groups of NORM GN, not 100",
        ),
        (["NUM_MASKS", 20], "MODEL.SOLOV2.NUM_MASKS must be a multiple of 32, the groups of NORM GN, not 20"),
    ],
)
def test_contradictions_in_the_config_are_errors(overrides, message):
    key, value = overrides
    with pytest.raises(ConfigError, match=message) as error:
        build_model(tiny_cfg(NODE + key, value))
    assert "\n" not in str(error.value)


def test_four_levels_build_and_train():
    model = tiny_model(
        *(NODE + "IN_FEATURES", ["p2", "p3", "p4", "p5"]),
        *(NODE + "NUM_GRIDS", [10, 8, 6, 4]),
        *(NODE + "STRIDES", [8, 8, 16, 32]),
        *(NODE + "SCALE_RANGES", ((1, 56), (28, 112), (56, 224), (112, 896))),
    )
    losses, gradients = losses_and_gradients(model, batch())
    assert all(x.isfinite() for x in losses.values())
    assert all(g is not None for g in gradients.values())


CROWD = """
import resource, sys
import torch
from detectron2.structures import Boxes, Instances, PolygonMasks
from centermask_solo.modeling.solov2 import SOLOv2Predictions
from tests.modeling.solov2.tiny import tiny_model

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

num_objects, height, width = 2000, 480, 672
torch.set_num_threads(1)
model = tiny_model("MODEL.SOLOV2.NUM_GRIDS", [40, 36, 24, 16, 12])
corners = torch.rand(num_objects, 2) * torch.tensor([width - 90.0, height - 90.0])
boxes = torch.cat((corners, corners + torch.rand(num_objects, 2) * 80 + 8), dim=1)
polygons = [[box[[0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()] for box in boxes]
gt = Instances((height, width), gt_boxes=Boxes(boxes), gt_masks=PolygonMasks(polygons))
gt.gt_classes = torch.arange(num_objects) % 3
grids = model.ins_head.num_grids
predictions = SOLOv2Predictions(
    [torch.zeros(1, 3, s, s, requires_grad=True) for s in grids],
    [torch.randn(1, 32, s, s, requires_grad=True) for s in grids],
    torch.rand(1, 32, height // 4, width // 4, requires_grad=True),
)
before = peak()
targets = model.label(predictions, [gt])
labelled = peak()
sum(model.losses(predictions, targets).values()).backward()
print(len(targets.term_cells), labelled - before, peak() - before)
"""


@pytest.mark.slow
def test_two_thousand_objects_train_in_bounded_memory():
    """Everything at once would take 2.6 GB of float masks, and 0.7 GB for each copy of the terms' probabilities."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "ignore", "-c", CROWD]
    output = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True).stdout
    num_terms, label_mb, total_mb = map(int, output.split())
    assert num_terms > 7000
    assert label_mb < 300
    assert total_mb < 450
