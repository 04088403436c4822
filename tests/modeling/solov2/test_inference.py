from __future__ import annotations

import pytest
import torch
from detectron2.structures import Boxes, Instances

from benchmarks.solov2_memory import Case, build, predictions
from centermask_solo.modeling.instance_nms import InstanceNMS, NMSOptions
from centermask_solo.modeling.solov2 import SOLOv2Predictions
from centermask_solo.ops.masks import masks_to_boxes
from centermask_solo.utils.errors import ConfigError
from tests.modeling.solov2.tiny import tiny_cfg, tiny_model
from tests.oracles import ops as ops_oracles
from tests.oracles import solov2 as solov2_oracles

CASE = Case("a small image with round objects", 0.05, num_classes=3, image_size=(120, 150), output_size=(200, 90))
FIELDS = {"pred_boxes", "scores", "pred_classes", "pred_masks"}


def predict(model, outputs, image_size=CASE.image_size, output_size=CASE.output_size, index=0):
    size = [image_size] * len(outputs.mask_features)
    return model.postprocess(model.inference(outputs, size)[index], outputs, index, output_size)


def images(*sizes):
    rng = torch.Generator().manual_seed(0)
    return [{"image": torch.rand(3, h, w, generator=rng) * 255} for h, w in sizes]


def eager_model(**overrides):
    """Random weights whose class probabilities, all near 0.01, pass the threshold."""
    overrides = {"MODEL.SOLOV2.SCORE_THRESH_TEST": 0.001, "MODEL.SOLOV2.NMS.SCORE_THRESH": 0.0, **overrides}
    return tiny_model(*[x for pair in overrides.items() for x in pair]).eval()


def assert_well_formed(instances, height, width):
    assert instances.image_size == (height, width)
    assert set(instances.get_fields()) == FIELDS
    count = len(instances)
    assert (instances.pred_masks.dtype, instances.pred_masks.shape) == (torch.bool, (count, height, width))
    assert instances.pred_masks.flatten(1).any(1).all()
    assert isinstance(instances.pred_boxes, Boxes)
    assert torch.equal(instances.pred_boxes.tensor, masks_to_boxes(instances.pred_masks))
    assert (instances.pred_classes.dtype, instances.scores.dtype) == (torch.int64, torch.float32)
    assert torch.equal(instances.scores, instances.scores.sort(descending=True).values)


def test_inference_equals_the_literal_computation():
    model, outputs = build(CASE), predictions(CASE._replace(passing=0.01))
    found = predict(model, outputs)
    logits, kernels = [x[0] for x in outputs.class_logits], [x[0] for x in outputs.kernels]
    candidates = solov2_oracles.candidates(
        logits, kernels, outputs.mask_features[0], model.ins_head.level_strides, CASE.score_thresh, 0.5, 500
    )
    masks = torch.stack([mask for _, _, mask, _ in candidates])
    scores, classes = [s for s, *_ in candidates], [k for _, k, *_ in candidates]
    ious = torch.stack([(m & masks).sum((1, 2)) / (m | masks).sum((1, 2)) for m in masks])
    decayed = ops_oracles.matrix_nms(ious, classes, scores, "gaussian", 2.0)
    rows = [i for i in sorted(range(len(decayed)), key=lambda i: -decayed[i]) if decayed[i] >= 0.05][:100]
    assert 20 < len(rows) <= len(candidates)
    kept = torch.stack([candidates[i][3] for i in rows])
    full = solov2_oracles.full_mask_probabilities(kept, outputs.mask_features[0], 4, CASE.image_size, CASE.output_size)
    visible = (full > 0.5).flatten(1).any(1)
    assert found.pred_classes.tolist() == [classes[i] for i, v in zip(rows, visible, strict=True) if v]
    torch.testing.assert_close(found.scores, torch.tensor([decayed[i] for i in rows])[visible])
    clear = (full[visible] - 0.5).abs() > 1e-5
    assert torch.equal(found.pred_masks[clear], (full[visible] > 0.5)[clear])
    assert_well_formed(found, *CASE.output_size)


def test_objects_within_the_padding_are_left_out():
    """Two discs: one within the image, one below it, which has no pixel in the result."""
    model, outputs = build(CASE), predictions(CASE)
    whole = predict(model, outputs, (128, 160), (128, 160))
    above = whole.pred_masks[:, :64].flatten(1).any(1)
    assert 0 < above.sum() < len(whole)
    cut = predict(model, outputs, (64, 160), (64, 160))
    assert_well_formed(cut, 64, 160)
    assert torch.equal(cut.scores, whole.scores[above])
    assert torch.equal(cut.pred_classes, whole.pred_classes[above])


def test_a_mask_can_vanish_when_it_is_made_small():
    model, outputs = build(CASE), predictions(CASE._replace(radius=0.05))
    found = predict(model, outputs, output_size=(3, 4))
    assert_well_formed(found, 3, 4)
    assert len(found) < len(model.inference(outputs, [CASE.image_size])[0])


@pytest.mark.parametrize(
    "nms", [InstanceNMS("MatrixNMS", NMSOptions(kernel="linear")), InstanceNMS("MaskNMS"), InstanceNMS("BatchedNMS")]
)
def test_any_nms_can_be_used(nms):
    outputs = predictions(CASE)
    found = predict(build(CASE, nms=nms), outputs)
    assert_well_formed(found, *CASE.output_size)
    everything = predict(
        build(CASE._replace(max_detections=500), nms=InstanceNMS("BatchedNMS", NMSOptions(iou_thresh=1.0))), outputs
    )
    assert 10 < len(found) < len(everything)


def test_batched_nms_uses_boxes_in_input_pixels():
    seen = []

    class Spy(InstanceNMS):
        def __call__(self, instances):
            seen.append(instances)
            return super().__call__(instances)

    model, outputs = build(CASE, nms=Spy("BatchedNMS")), predictions(CASE)
    kept = model.inference(outputs, [CASE.image_size])[0]
    assert set(kept.get_fields()) == {"scores", "pred_classes", "kernels"}
    assert kept.image_size == CASE.image_size
    torch.testing.assert_close(seen[0].pred_boxes.tensor, 4 * masks_to_boxes(seen[0].pred_masks))
    assert seen[0].pred_boxes.tensor[:, 2].max() > 100


def test_no_more_than_the_limit():
    outputs = predictions(CASE)
    many, few = predict(build(CASE), outputs), predict(build(CASE._replace(max_detections=3)), outputs)
    assert len(few) == 3
    assert torch.equal(few.scores, many.scores[:3])
    unlimited = predict(build(CASE._replace(max_detections=-1)), outputs)
    assert len(unlimited) > len(many)
    assert torch.equal(unlimited.scores[: len(many)], many.scores)


@pytest.mark.parametrize(
    ("key", "value"),
    [("SCORE_THRESH_TEST", -0.1), ("SCORE_THRESH_TEST", 1.0), ("MASK_THRESH_TEST", 1.5), ("PRE_NMS_TOPK_TEST", 0)],
)
def test_numbers_out_of_range_are_errors(key, value):
    with pytest.raises(ConfigError, match=rf"^MODEL.SOLOV2.{key} .*must be at least .*, not {value}$"):
        tiny_model(f"MODEL.SOLOV2.{key}", value)


def test_each_image_of_a_batch_gives_what_it_gives_alone():
    model, cases = build(CASE), [CASE, CASE._replace(radius=0.3), CASE._replace(passing=0.0)]
    alone = [predictions(case) for case in cases]
    batch = SOLOv2Predictions(
        [torch.cat(x) for x in zip(*(p.class_logits for p in alone), strict=True)],
        [torch.cat(x) for x in zip(*(p.kernels for p in alone), strict=True)],
        torch.cat([p.mask_features for p in alone]),
    )
    sizes = [(120, 150), (90, 160), (64, 64)]
    results = model.inference(batch, sizes)
    for i, (single, size) in enumerate(zip(alone, sizes, strict=True)):
        expected = predict(model, single, size, (50, 60))
        got = model.postprocess(results[i], batch, i, (50, 60))
        assert torch.equal(got.scores, expected.scores)
        assert torch.equal(got.pred_masks, expected.pred_masks)
    assert [len(x) > 0 for x in results] == [True, True, False]


def test_outputs_in_half_precision_are_decoded_in_float32():
    model, inputs = eager_model(), images((64, 96))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.predict(model.preprocess_image(inputs).tensor)
        assert half.mask_features.dtype == torch.bfloat16
        inside = predict(model, half, (64, 96), (64, 96))
    widened = SOLOv2Predictions([x.float() for x in half[0]], [x.float() for x in half[1]], half[2].float())
    outside = predict(model, widened, (64, 96), (64, 96))
    assert len(inside) > 10
    assert torch.equal(inside.scores, outside.scores)
    assert torch.equal(inside.pred_masks, outside.pred_masks)


def test_inference_returns_plain_instances():
    """What DefaultPredictor and evaluators do with the result: index, move, concatenate."""
    found = predict(build(CASE), predictions(CASE))
    both = Instances.cat([found[:3].to("cpu"), found[3:]])
    assert torch.equal(both.pred_masks, found.pred_masks)


def test_options_of_old_files(caplog):
    """What AdelaiDet's config files name and this package does not have."""
    cfg = tiny_cfg()
    cfg.merge_from_list(["MODEL.SOLOV2.USE_COORD_CONV", True, "MODEL.SOLOV2.INSTANCE_IN_CHANNELS", 256])
    assert "USE_COORD_CONV" in caplog.text
    for old, new in {"UPDATE_THR": "NMS.SCORE_THRESH", "NMS_TYPE": "NMS.NAME", "NUM_KERNELS": "NUM_MASKS"}.items():
        with pytest.raises(KeyError, match=f"{old} was renamed to MODEL.SOLOV2.{new}"):
            cfg.merge_from_list([f"MODEL.SOLOV2.{old}", 1])
    with pytest.raises(KeyError, match=r"MAX_PER_IMG was renamed to TEST.DETECTIONS_PER_IMAGE"):
        cfg.merge_from_list(["MODEL.SOLOV2.MAX_PER_IMG", 1])
