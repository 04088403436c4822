"""Training and prediction on images of other numbers of channels than three."""

import json
import shlex

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from centermask_solo import Predictor
from centermask_solo.checkpoint.first_convolution import inflate_colors
from centermask_solo.cli import build_parser
from centermask_solo.data.transforms.resize import ResizeShortestEdge
from centermask_solo.training.run import run_training
from centermask_solo.training.setup import setup_cfg
from centermask_solo.utils.errors import ConfigError
from tests.data.tools import sets

SMALL = "MODEL.SOLOV2.INSTANCE_CHANNELS 32 MODEL.SOLOV2.MASK_CHANNELS 32 MODEL.SOLOV2.NUM_MASKS 32"
SMALL += " MODEL.FPN.OUT_CHANNELS 32 INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 SOLVER.IMS_PER_BATCH 2 SEED 3"
SMALL += " MODEL.DEVICE cpu SOLVER.MAX_ITER 1 SOLVER.STEPS () DATALOADER.NUM_WORKERS 0 VIS_PERIOD 1"
FIRST = "backbone.bottom_up.conv1.weight"


def dataset(folder, channels, dtype):
    """Write .npy images with as many channels, and their json."""
    json_file, _ = sets.write(folder)
    data = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    high = np.iinfo(dtype).max
    for image in data["images"]:
        image["file_name"] = f"{image['id']}.npy"
        pixels = np.random.default_rng(image["id"]).integers(0, high, (sets.HEIGHT, sets.WIDTH, channels), dtype)
        np.save(folder / image["file_name"], pixels)
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    return json_file


def configure(folder, json_file, options):
    flags = ["train", "--config-file", "shapes/solov2_shapes.yaml", "--train-json", json_file]
    flags += ["--train-images", str(folder), *shlex.split(f"{SMALL} {options} OUTPUT_DIR {folder / 'output'}")]
    return setup_cfg(build_parser().parse_args(flags), screen="nothing")


def of_channels(channels):
    numbers = "[" + ",".join(["100.0"] * channels) + "]"
    return f"INPUT.CHANNELS {channels} MODEL.PIXEL_MEAN {numbers} MODEL.PIXEL_STD {numbers}"


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """Weights of a model for colors."""
    folder = tmp_path_factory.mktemp("colors")
    cfg = configure(folder, dataset(folder, 3, np.uint8), "MODEL.WEIGHTS ''")
    path = folder / "colors.pth"
    state = build_model(cfg).state_dict()
    torch.save({"model": state, "thing_classes": sets.NAMES, "config": cfg.dump()}, path)
    return path, state


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (2, np.uint16), (4, np.uint8), (6, np.uint16)])
def test_training_and_prediction(tmp_path, colors, channels, dtype):
    path, state = colors
    first = next(key for key, x in state.items() if x.ndim == 4 and x.shape[1] == 3)
    json_file = dataset(tmp_path, channels, dtype)
    cfg = configure(tmp_path, json_file, f"MODEL.WEIGHTS {path} {of_channels(channels)} SOLVER.BASE_LR 1e-12")
    run_training(cfg)
    assert f"is carried over to {channels} channels" in (tmp_path / "output" / "log.txt").read_text()
    trained = torch.load(tmp_path / "output" / "model_final.pth", weights_only=True)["model"][first]
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "output" / "model_final.pth")
    reverse = cfg.INPUT.FORMAT == "BGR"
    assert torch.allclose(trained, inflate_colors(state[first], channels, reverse=reverse), atol=1e-5)
    predictor = Predictor(cfg)
    image = str(tmp_path / "1.npy")
    ((_, picture, from_file),) = predictor.predict_files([image])
    from_array = predictor(np.load(image))
    assert picture.shape == (sets.HEIGHT, sets.WIDTH, 3) and picture.dtype == np.uint8
    scores = [x["instances"].scores for x in (from_file, from_array)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 6])
def test_inflated_weights_see_gray_as_before(channels, reverse):
    weight = torch.randn(5, 3, 3, 3)
    gray = torch.rand(1, 1, 9, 9)
    before = torch.nn.functional.conv2d(gray.expand(-1, 3, -1, -1), weight)
    found = inflate_colors(weight, channels, reverse=reverse)
    assert found.shape == (5, channels, 3, 3)
    after = torch.nn.functional.conv2d(gray.expand(-1, channels, -1, -1), found)
    assert torch.allclose(before, after, atol=1e-5)
    if channels > 3:
        assert torch.equal(found[:, 1] * (2 if channels > 4 else 1), weight[:, 1])


def test_a_mean_for_each_channel(tmp_path):
    json_file = dataset(tmp_path, 4, np.uint8)
    with pytest.raises(
        ConfigError, match=r"INPUT.CHANNELS is 4, but MODEL.PIXEL_MEAN has 3 values.*set MODEL.PIXEL_MEAN '\["
    ):
        configure(tmp_path, json_file, "INPUT.CHANNELS 4")


def test_augmentation_for_colors_only(tmp_path):
    json_file = dataset(tmp_path, 4, np.uint8)
    options = f"MODEL.WEIGHTS '' {of_channels(4)}"
    flags = ["train", "--config-file", "shapes/yolact_shapes.yaml", "--train-json", json_file]
    flags += ["--train-images", str(tmp_path), *shlex.split(f"MODEL.DEVICE cpu {options} OUTPUT_DIR {tmp_path / 'o'}")]
    cfg = setup_cfg(build_parser().parse_args([*flags, "INPUT.AUGMENTATION", "ssd"]), screen="nothing")
    with pytest.raises(ConfigError, match=r"INPUT.CHANNELS is 4: set INPUT.AUGMENTATION default"):
        run_training(cfg)


def test_bands_are_resized_as_8_bit_images_are():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    resize = ResizeShortestEdge([21, 21], 100)
    small = resize.get_transform(pixels).apply_image(pixels)
    bands = np.concatenate([pixels, pixels], axis=2).astype(np.float32)
    found = resize.get_transform(bands).apply_image(bands)
    assert found.shape == (21, 28, 6) and abs(found[:, :, 3:] - small).max() <= 1
