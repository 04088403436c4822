"""From images to instances with nothing but a checkpoint."""

import json
import re
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from centermask_solo.data.input_images import as_bgr
from centermask_solo.inference.calibration import calibrate_to_file
from centermask_solo.inference.comparison import compare_with_ground_truth
from centermask_solo.inference.filters import Filters
from centermask_solo.inference.outputs import Outputs
from centermask_solo.inference.predictions import predict
from centermask_solo.inference.predictor import Predictor
from centermask_solo.inference.results import predict_to_folder
from centermask_solo.inference.sources import find_images
from centermask_solo.model_zoo import find_config
from centermask_solo.modeling import systems
from centermask_solo.modeling.systems import default_score_threshold
from centermask_solo.utils.errors import ConfigError, DataError, WeightsError
from tests.modeling.centermask.helpers import make_cfg, make_model
from tests.modeling.detections import assert_same
from tests.modeling.models import SYSTEMS
from tests.training.tiny import CLASSES, TinyModel, tiny_cfg, write_dataset
from tests.utils.waiting import wait_for

NO_PICTURES = Outputs(pictures=False)


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "data", num_images=3)
    return tmp_path


@pytest.fixture
def cfg(folder):
    cfg = tiny_cfg(folder / "data", folder / "output")
    cfg.MODEL.WEIGHTS = str(folder / "weights.pth")
    torch.save({"model": TinyModel(cfg).state_dict(), "thing_classes": ["cow", "horse"]}, cfg.MODEL.WEIGHTS)
    return cfg


def assert_equal(output, other):
    a, b = output["instances"], other["instances"]
    assert a.image_size == b.image_size
    assert torch.equal(a.pred_masks, b.pred_masks)
    assert torch.equal(a.scores, b.scores)


def test_class_names_come_from_the_checkpoint(cfg):
    assert Predictor(cfg).metadata.thing_classes == ["cow", "horse"]


def test_otherwise_class_names_come_from_the_dataset_if_it_is_registered(cfg):
    torch.save({"model": TinyModel(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    from detectron2.data import DatasetCatalog

    DatasetCatalog.get("tiny")
    assert Predictor(cfg).metadata.thing_classes == CLASSES
    cfg.DATASETS.TEST = ("a_dataset_of_someone_else",)
    assert Predictor(cfg).metadata.get("thing_classes") is None


def test_a_batch_gives_what_single_images_give(cfg):
    predictor = Predictor(cfg)
    images = [np.full((h, w, 3), i, np.uint8) for i, (h, w) in enumerate([(20, 30), (31, 17), (8, 8)])]
    singles = [predictor(image) for image in images]
    for output, single, image in zip(predictor.predict_batch(images), singles, images, strict=True):
        assert_equal(output, single)
        assert output["instances"].image_size == image.shape[:2]
    assert predictor.predict_batch([]) == []


def test_images_of_mixed_sizes_do_not_affect_each_other_in_detectron2s_own_models(tmp_path):
    """Those of this package take care of it themselves."""
    cfg = make_cfg("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128)
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": make_model("MODEL.META_ARCHITECTURE", "GeneralizedRCNN").state_dict()}, cfg.MODEL.WEIGHTS)
    predictor, rng = Predictor(cfg), np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(64, 128), (64, 64), (128, 64)]]
    for image, together in zip(images, predictor.predict_batch(images), strict=True):
        assert len(together["instances"]) > 1
        assert_same(together["instances"], predictor(image)["instances"], scores=2e-5, boxes=0.01, ious=0.999)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_files_come_in_order(cfg, folder, batch_size):
    paths = find_images([str(folder / "data" / "3.png"), str(folder / "data" / "[12].png")])
    results = list(Predictor(cfg).predict_files(paths, batch_size))
    assert [path[-5:] for path, _, _ in results] == ["3.png", "1.png", "2.png"]
    for path, image, _ in results:
        assert np.array_equal(image, cv2.imread(path))


@pytest.mark.parametrize("channels, order", [("BGR", [10, 20, 30]), ("RGB", [30, 20, 10])])
def test_channels_are_in_the_order_of_the_config(cfg, channels, order):
    cfg.INPUT.FORMAT = channels
    image = np.full((16, 16, 3), [10, 20, 30], np.uint8)
    tensor = Predictor(cfg).model_input(image)["image"]
    assert tensor.dtype == torch.float32
    assert tensor[:, 0, 0].tolist() == order


def test_configs_that_cannot_predict(cfg):
    cfg.INPUT.FORMAT = "L"
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT is 'L'"):
        Predictor(cfg)
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(ConfigError, match=r"MODEL\.WEIGHTS is empty"):
        Predictor(cfg)


def test_files_that_are_no_images(folder):
    (folder / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.png is not a readable image \(damaged, or of an unknown format\)"):
        as_bgr(str(folder / "x.png"))
    with pytest.raises(DataError, match=r"there is no image .*y\.png"):
        as_bgr(str(folder / "y.png"))
    with pytest.raises(DataError, match="there is no image"):
        find_images([str(folder / "*.jpg")])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder .*empty contains no images \(\.jpg, "):
        find_images([str(folder / "empty")])


def test_folder_of_images(folder):
    (folder / "data" / "sub").mkdir()
    shutil.copy(folder / "data" / "1.png", folder / "data" / "sub" / "4.PNG")
    assert [path[-5:] for path in find_images([str(folder / "data")])] == ["1.png", "2.png", "3.png"]
    assert len(find_images([str(folder / "data" / "sub"), str(folder / "data" / "1.png")])) == 2


def test_subfolders(folder, caplog):
    (folder / "data" / "sub" / "b").mkdir(parents=True)
    shutil.copy(folder / "data" / "1.png", folder / "data" / "sub" / "b" / "4.png")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / "data" / "sub" / "a.GIF", "gif")
    (folder / "data" / "._1.png").write_bytes(b"of macOS")
    data = str(folder / "data")
    names = [path[len(data) + 1 :] for path in find_images([data], recursive=True)]
    assert names == ["1.png", "2.png", "3.png", "sub/a.GIF", "sub/b/4.png"]
    assert caplog.text == ""
    assert len(find_images([data])) == 3
    assert f"{data}: 3 images; its subfolders contain 2, which --recursive includes" in caplog.text
    (folder / "data" / "sub" / "a.GIF").unlink()
    message = r"sub contains no images \(its subfolders contain 1, which --recursive includes\)"
    with pytest.raises(DataError, match=message):
        find_images([data + "/sub"])


def test_the_precision_is_that_of_the_call_or_of_the_config(cfg, folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "centermask_solo.inference.predictor.prepare_as_configured",
        lambda model, used, **_: asked.append(used.TEST.DTYPE),
    )
    cfg.TEST.DTYPE = "int8"
    assert Predictor(cfg).cfg.TEST.DTYPE == "int8"
    assert Predictor(cfg, dtype="bfloat16").cfg.TEST.DTYPE == "bfloat16"
    assert (asked, cfg.TEST.DTYPE) == (["int8", "bfloat16"], "int8")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="the precision 'float61' is unknown: use float32"):
        Predictor(cfg, dtype="float61")


def test_what_is_given_for_an_image(cfg, folder):
    """See test_input_images.py for the conversion."""
    predictor = Predictor(cfg)
    image = cv2.imread(str(folder / "data" / "1.png"))
    for x in (str(folder / "data" / "1.png"), folder / "data" / "1.png", image / 255, image.astype(np.uint16) * 257):
        assert np.array_equal(predictor.read(x), image)
        assert_equal(predictor(x), predictor(image))
    with pytest.raises(DataError, match="the image is None"):
        predictor(None)
    for batch in (image, "1.png", None):
        with pytest.raises(DataError, match="a batch of images must be a list, not a "):
            predictor.predict_batch(batch)
    cfg.INPUT.MAX_IMAGE_PIXELS = 99
    with pytest.raises(DataError, match=r"1\.png is too large: .* INPUT\.MAX_IMAGE_PIXELS"):
        list(Predictor(cfg).predict_files([str(folder / "data" / "1.png")]))


@pytest.mark.parametrize("name", ["SOLOv2", "CenterMask", "YOLACT"])
@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 1)])
def test_strips(name, size, tmp_path):
    system = SYSTEMS[name]
    cfg = system.cfg(system.score_thresh, 0.0, "INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160)
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": system.model().state_dict(), "config": cfg.dump()}, cfg.MODEL.WEIGHTS)
    found = Predictor(cfg)(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))["instances"]
    assert found.image_size == size
    assert found.pred_masks.shape == (len(found), *size)


def test_predictions_are_written_in_coco_format_and_drawn(cfg, folder, capfd):
    output = folder / "predictions"
    assert predict_to_folder(cfg, [str(folder / "data")], str(output), batch_size=2)[:4] == (3, 3, [], 0)
    assert not (output / "predictions.jsonl").exists()
    coco = COCO(str(output / "predictions.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cow", "horse"]
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.imgs[annotation["image_id"]]
        mask = coco.annToMask(annotation)
        assert mask.shape == (image["height"], image["width"]) == (40, 56)
        assert mask.sum() == annotation["area"] == 20 * 28
        assert annotation["bbox"] == [0, 0, 28, 20]
        assert annotation["category_id"] == 1
    pictures = sorted(output.glob("*.jpg"))
    assert [path.name for path in pictures] == ["0001_1.jpg", "0002_2.jpg", "0003_3.jpg"]
    picture = cv2.imread(str(pictures[0]))
    assert picture.shape == (8 * 40, 8 * 56, 3)  # enlarged, so that names are readable
    picture = cv2.resize(picture, (56, 40), interpolation=cv2.INTER_AREA).astype(int)
    plain = cv2.imread(str(folder / "data" / "1.png")).astype(int)
    difference = np.abs(picture - plain).mean(axis=2)
    assert difference[:18, :26].mean() > 1.5 * difference[24:, 32:].mean()  # the rest: JPEG alone


def test_a_high_threshold_leaves_nothing(cfg, folder):
    output = folder / "predictions"
    done = predict_to_folder(
        cfg, [str(folder / "data")], str(output), filters=Filters(score_threshold=0.95), outputs=NO_PICTURES
    )
    assert (done.num_images, done.num_instances) == (3, 0)
    assert json.loads((output / "predictions.json").read_text())["annotations"] == []
    assert not list(output.glob("*.jpg"))


def test_threshold_is_that_of_the_system(cfg, folder, monkeypatch):
    """Without an explicit threshold, instances are kept by the record of the system, or by its default."""
    assert default_score_threshold(cfg) == systems.System.score_threshold == 0.3
    images, output = [str(folder / "data")], str(folder / "predictions")
    assert predict_to_folder(cfg, images, output, outputs=NO_PICTURES).num_instances == 3
    record = systems.System("TinyModel", "MODEL.RETINANET.NUM_CLASSES", (), (), (), score_threshold=0.95)
    monkeypatch.setitem(systems._SYSTEMS, "TinyModel", record)
    assert default_score_threshold(cfg) == 0.95
    assert predict_to_folder(cfg, images, output, outputs=NO_PICTURES, overwrite=True).num_instances == 0
    done = predict_to_folder(
        cfg, images, output, filters=Filters(score_threshold=0.0), outputs=NO_PICTURES, overwrite=True
    )
    assert done.num_instances == 3


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_damaged_images_are_left_out_and_named(cfg, folder, batch_size):
    """As before in batches that they would have been in; the first and the last, too."""
    for name in ("0.png", "2.png", "9.png"):
        (folder / "data" / name).write_bytes(b"damaged")
    output = folder / "predictions"
    done = predict_to_folder(cfg, [str(folder / "data")], str(output), batch_size=batch_size)
    assert (done.num_images, done.num_instances) == (2, 2)
    assert [name in str(x) for x, name in zip(done.failures, ("0.png", "2.png", "9.png"), strict=True)] == [True] * 3
    content = json.loads((output / "predictions.json").read_text())
    assert [x["file_name"][-5:] for x in content["images"]] == ["1.png", "3.png"]
    assert [x["image_id"] for x in content["annotations"]] == [x["id"] for x in content["images"]] == [1, 2]
    assert sorted(path.name for path in output.glob("*.jpg")) == ["0001_1.jpg", "0002_3.jpg"]
    with pytest.raises(DataError, match=r"2\.png"):
        list(Predictor(cfg).predict_files([str(folder / "data" / "2.png")]))


def test_no_readable_image_at_all(cfg, folder):
    for i in (1, 2, 3):
        (folder / "data" / f"{i}.png").write_bytes(b"damaged")
    (folder / "data" / "4.png").write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"1\.png is not .*; \S*2\.png is not .*; \S*3\.png is not .*; and 1 image more"
    ):
        predict_to_folder(cfg, [str(folder / "data")], str(folder / "predictions"), outputs=Outputs(cutouts=True))
    assert not (folder / "predictions").exists()  # so that another try needs no --overwrite


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_results_are_kept_whatever_ends_the_prediction(cfg, folder, monkeypatch, error):
    original, output, calls = TinyModel.forward, folder / "predictions", []

    def forward(self, inputs):
        calls.append(inputs)
        if len(calls) == 2:
            wait_for(lambda: (output / "predictions.jsonl").read_text())  # what a killed program would leave
            line = (output / "predictions.jsonl").read_text()
            assert json.loads(line)["image"]["file_name"].endswith("1.png")
            raise error
        return original(self, inputs)

    monkeypatch.setattr(TinyModel, "forward", forward)
    before = threading.active_count()
    with pytest.raises(error):
        predict_to_folder(cfg, [str(folder / "data")], str(output))
    assert len(calls) == 2 and threading.active_count() == before
    assert [x.name for x in output.glob("*.jpg")] == ["0001_1.jpg"]
    content = json.loads((output / "predictions.json").read_text())
    assert [x["file_name"][-5:] for x in content["images"]] == ["1.png"] and len(content["annotations"]) == 1


@pytest.mark.parametrize("number", [0, -1, "2", 1.5])
def test_numbers_of_images_must_be_positive(cfg, folder, number):
    impossible = re.escape(f"{number!r} images per forward pass are impossible: give 1 or more")
    inputs, output = [str(folder / "data")], str(folder / "predictions")
    with pytest.raises(ConfigError, match=impossible):
        predict_to_folder(cfg, inputs, output, batch_size=number)
    with pytest.raises(ConfigError, match=f"{number!r} images are impossible"):
        predict_to_folder(cfg, inputs, output, max_images=number)
    assert not (folder / "predictions").exists()
    with pytest.raises(ConfigError, match=impossible):
        next(predict(cfg, inputs, batch_size=number))
    with pytest.raises(ConfigError, match=impossible):
        next(Predictor(cfg).predict_files(["absent.png"], number))
    with pytest.raises(ConfigError, match=f"{number!r} images are impossible"):
        calibrate_to_file(cfg, inputs, output, count=number)


def test_comparison(cfg, folder):
    torch.save({"model": TinyModel(cfg).state_dict(), "thing_classes": CLASSES}, cfg.MODEL.WEIGHTS)
    path = str(folder / "new" / "sheet.png")
    assert compare_with_ground_truth(cfg, path, count=2) == path
    assert cv2.imread(path).shape[1] <= 1600
    before = Path(path).read_bytes()
    with pytest.raises(ConfigError, match=r"sheet\.png exists already: choose another name, or replace it"):
        compare_with_ground_truth(cfg, path, count=1)
    for name in ("data/1.png", "link.png"):
        with pytest.raises(ConfigError, match=rf"{name} is an input, which would be lost"):
            (folder / "link.png").exists() or (folder / "link.png").symlink_to(folder / "data" / "1.png")
            compare_with_ground_truth(cfg, str(folder / name), count=1, overwrite=True)
    assert Path(path).read_bytes() == before
    compare_with_ground_truth(cfg, path, count=1, overwrite=True)
    assert Path(path).read_bytes() != before
    with pytest.raises(ConfigError, match="a picture of 0 images cannot be drawn"):
        compare_with_ground_truth(cfg, path, count=0)
    cfg.DATASETS.TEST = ()
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST is empty"):
        compare_with_ground_truth(cfg, path)


def test_config_is_found_next_to_the_weights(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file .*x\.pth; correct the path"):
        find_config(str(tmp_path / "x.pth"))
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"config\.yaml: name the config of these weights with --config-file"):
        find_config(str(tmp_path / "x.pth"))
    (tmp_path / "config.yaml").touch()
    assert find_config(str(tmp_path / "x.pth")) == str(tmp_path / "config.yaml")
