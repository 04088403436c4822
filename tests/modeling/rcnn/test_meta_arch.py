"""R-CNN from images to losses and detections, and the fit of its SVMs."""

import logging

import pytest
import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from centermask_solo.modeling.rcnn import fitting, meta_arch
from centermask_solo.ops.boxes import pairwise_iou
from centermask_solo.utils.errors import ConfigError, DataError
from tests.modeling.rcnn.tiny import K, color_model, scene, tiny_cfg, tiny_model


def losses(model, inputs):
    with EventStorage():
        return model.train()(inputs)


def test_the_loss_reaches_every_parameter_that_is_trained():
    model = tiny_model()
    empty = scene(2)
    empty["instances"] = Instances((64, 96), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    found = losses(model, [scene(0), empty])
    assert set(found) == {"loss_cls"}
    found["loss_cls"].backward()
    frozen = {"svm.weight", "svm.bias", "box_pred.weight", "box_pred.bias"}
    assert {n for n, p in model.named_parameters() if p.grad is None} == frozen


def test_training_needs_ground_truth_of_known_classes():
    x = scene(0)
    with pytest.raises(DataError, match=r"MODEL\.RCNN\.NUM_CLASSES is 1"):
        losses(tiny_model("MODEL.RCNN.NUM_CLASSES", 1), [x])
    del x["instances"]
    with pytest.raises(DataError, match=r"but 0\.png has no \"instances\""):
        losses(tiny_model(), [x])


def test_options_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match=r"MODEL\.RCNN\.IN_FEATURE 'res5' is not one of res3"):
        tiny_model("MODEL.RCNN.IN_FEATURE", "res5")
    with pytest.raises(ConfigError, match=r"MODEL\.RCNN\.REGION_SIZE must be at least 33"):
        tiny_model("MODEL.RCNN.CONTEXT", 16)
    with pytest.raises(ConfigError, match="R-CNN predicts no masks"):
        tiny_model("MODEL.MASK_ON", True)


@torch.no_grad()
def test_without_proposals_it_searches(monkeypatch):
    seen = []

    def search(image, mode):
        seen.append((image.shape, image[20, 20].tolist(), mode))
        return scene(0)["proposals"].proposal_boxes.tensor.numpy()

    monkeypatch.setattr(meta_arch, "selective_search", search)
    model, x = tiny_model("INPUT.FORMAT", "BGR"), scene(0)
    x["image"] = torch.tensor([10.0, 20.0, 30.0])[:, None, None].expand(3, 64, 96)
    given = model([x])[0]["instances"]
    del x["proposals"]
    found = model([x])[0]["instances"]
    assert seen == [((64, 96, 3), [30, 20, 10], "single")]  # in RGB order
    torch.testing.assert_close(found.scores, given.scores)
    monkeypatch.setattr(meta_arch, "selective_search", lambda *_: torch.zeros(0, 4).numpy())
    assert model.propose(x).tolist() == [[0, 0, 96, 64]]  # always something


@torch.no_grad()
def test_the_number_of_regions_at_once_does_not_matter():
    boxes, one, many = scene(0)["proposals"].proposal_boxes.tensor, tiny_model(), tiny_model()
    many.regions = one.regions._replace(per_batch=3)
    image = one.preprocess_image([scene(0)])[0]
    torch.testing.assert_close(one.pooled_features(image, boxes), many.pooled_features(image, boxes))


@torch.no_grad()
def test_detections_by_hand():
    """Margins 0 and 2 of class 0 for two boxes far apart, and a third that is a duplicate of the second."""
    model = tiny_model("MODEL.RCNN.SCORE_THRESH_TEST", 0.3)
    model.is_fitted.fill_(True)
    boxes = torch.tensor([[0.0, 0, 20, 20], [40.0, 20, 80, 60], [42.0, 20, 82, 60]])
    margins = torch.tensor([[0.0, -5], [2.0, -5], [1.0, -5]])
    deltas = torch.zeros(3, 4 * K)
    deltas[0, :4] = torch.tensor([0.5, 0, 0, torch.tensor(0.5).log()])  # half its width to the right, half as high
    found = model.inference(meta_arch.RegionPredictions(torch.zeros(3, K + 1), margins, deltas), boxes, (64, 96))
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 0.0]).sigmoid())
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[40.0, 20, 80, 60], [10.0, 5, 30, 15]]))
    assert found.pred_classes.tolist() == [0, 0]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model of colors, fitted to 30 scenes, and the folder of its cache."""
    pytest.importorskip("sklearn")
    folder, model = tmp_path_factory.mktemp("features"), color_model()
    model.fit([[scene(i)] for i in range(30)], str(folder))
    return model, folder


@torch.no_grad()
def test_fitting_finds_objects_and_moves_boxes(fitted):
    """Colors tell the classes apart; boxes get nearer to the objects than the regions were."""
    model, _ = fitted
    assert model.is_fitted and not model.training
    right, before, after = 0, [], []
    for i in range(100, 110):
        x = scene(i)
        gt, regions = x["instances"].gt_boxes.tensor, x["proposals"].proposal_boxes.tensor
        found = model([x])[0]["instances"]
        for k in range(K):
            best = found[found.pred_classes == k][:1]
            if len(best) and best.scores > 0.5:
                right += 1
                overlaps = pairwise_iou(gt[k : k + 1], torch.cat([best.pred_boxes.tensor, regions[k:8:2]]))
                after.append(overlaps[0, 0])
                before.append(overlaps[0, 1:].mean())
    assert right >= 15
    assert torch.stack(after).mean() > torch.stack(before).mean()


def test_features_are_computed_once_and_again_where_a_file_is_damaged(fitted, monkeypatch, caplog):
    model, folder = fitted
    expected = model.svm.weight.clone()
    batches = [[scene(i)] for i in range(30)]
    computed = []
    pooled = type(model).pooled_features

    def count(self, image, boxes):
        computed.append(len(boxes))
        return pooled(self, image, boxes)

    monkeypatch.setattr(type(model), "pooled_features", count)
    model.fit(batches, str(folder))
    assert not computed
    torch.testing.assert_close(model.svm.weight, expected)
    path = sorted(folder.rglob("*.array"))[0]
    path.write_bytes(path.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        model.fit(batches, str(folder))
    assert computed == [22] and f"{path} is damaged" in caplog.text
    torch.testing.assert_close(model.svm.weight, expected)


def test_without_room_features_are_computed_in_every_pass(fitted, tmp_path):
    model, _ = fitted
    expected = model.svm.weight.clone()
    model.fit_options = model.fit_options._replace(cache_bytes=0)
    model.fit([[scene(i)] for i in range(30)], str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    torch.testing.assert_close(model.svm.weight, expected)


def test_features_of_other_weights_are_removed(fitted, tmp_path):
    model = tiny_model()
    (tmp_path / "0123456789abcdef").mkdir()
    cache = fitting._open_cache(model, str(tmp_path), 1000)
    assert [x.name for x in tmp_path.iterdir()] == [cache.folder.name]
    with torch.no_grad():
        model.backbone.features[0][0].weight.add_(1)
    assert fitting._open_cache(model, str(tmp_path), 1000).folder != cache.folder


def test_fit_without_objects_detects_nothing(tmp_path):
    pytest.importorskip("sklearn")
    model, x = tiny_model(), scene(0)
    x["instances"] = x["instances"][:0]
    model.fit([[x]], str(tmp_path))
    with torch.no_grad():
        assert len(model([scene(1)])[0]["instances"]) == 0


def test_the_paper_s_numbers_are_the_defaults():
    options = fitting.FitOptions.from_cfg(tiny_cfg())
    assert (options.negative_iou, options.ridge_iou, options.ridge, options.passes) == (0.3, 0.6, 1000.0, 1)
