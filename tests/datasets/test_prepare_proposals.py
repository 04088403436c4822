"""Proposals by the RPN of a small random Faster R-CNN, and a Fast R-CNN trained, evaluated and drawn with them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model

import train_net
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.data.datasets import register_datasets
from centermask_solo.data.proposals import read_proposals
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.demo import FROM_SCRATCH
from centermask_solo.inference.comparison import compare_with_ground_truth
from centermask_solo.inference.predictor import Predictor
from centermask_solo.utils.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "configs" / "shapes"
spec = importlib.util.spec_from_file_location("prepare_proposals", ROOT / "datasets" / "prepare_proposals.py")
prepare_proposals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(prepare_proposals)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The name, json and images of three generated images."""
    root = tmp_path_factory.mktemp("data")
    generate_shapes(root, "few", 3, size=128)
    return ["few_shapes", str(root / "few" / "annotations.json"), str(root / "few" / "images")]


@pytest.fixture(scope="module")
def rpn(tmp_path_factory):
    """The path of random weights for a small Faster R-CNN."""
    cfg = make_cfg("faster_rcnn")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("rpn") / "model_final.pth"
    torch.save({"model": build_model(cfg).state_dict()}, path)
    return str(path)


def make_cfg(system, *opts):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, str(SHAPES / f"{system}_shapes.yaml"), ["MODEL.DEVICE", "cpu", *opts])
    return cfg


def test_proposals_by_an_rpn_for_fast_rcnn(data, rpn, tmp_path, capsys):
    config = str(SHAPES / "faster_rcnn_shapes.yaml")
    folder = str(tmp_path / "proposals")
    prepare_proposals.main(["--coco-json", *data, "--rpn", config, rpn, "--output", folder])
    path = f"{folder}/few_shapes.pkl"
    assert f"{path}: proposals for 3 images, by the RPN of {config} with {rpn}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        prepare_proposals.main(["--coco-json", *data, "--rpn", config, rpn, "--output", folder])
    assert f"{path} exists already: choose another name, or replace it with --overwrite" in capsys.readouterr().err
    content = read_proposals(path)
    images = {x["id"]: x for x in json.loads(Path(data[1]).read_text())["images"]}
    assert sorted(content["ids"]) == sorted(images) and content["source"] == f"the RPN of {config} with {rpn}"
    for image_id, boxes, logits in zip(content["ids"], content["boxes"], content["objectness_logits"], strict=True):
        assert 0 < len(boxes) <= 250 and (np.diff(logits) <= 0).all()
        height, width = images[image_id]["height"], images[image_id]["width"]
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert boxes[:, 2].max() > width / 2  # in the frame of the file, not of the model's input

    opts = ["DATASETS.COCO_JSON", str([data]), "DATASETS.TRAIN", "('few_shapes',)", "DATASETS.TEST", "('few_shapes',)"]
    opts += ["DATASETS.PROPOSAL_FILES_TRAIN", str((path,)), "DATASETS.PROPOSAL_FILES_TEST", str((path,))]
    opts += ["SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"]
    opts += [*FROM_SCRATCH, "OUTPUT_DIR", str(tmp_path / "output"), "MODEL.DEVICE", "cpu"]
    arguments = ["--config-file", str(SHAPES / "fast_rcnn_shapes.yaml"), *opts]
    train_net.main(default_argument_parser().parse_args(arguments))
    assert "AP50" in json.loads((tmp_path / "output" / "evaluation.json").read_text())["bbox"]

    weights = ["MODEL.WEIGHTS", str(tmp_path / "output" / "model_final.pth")]
    cfg = make_cfg("fast_rcnn", *opts, *weights)
    register_datasets(cfg)
    sheet = compare_with_ground_truth(cfg, str(tmp_path / "sheet.png"), count=2)
    assert Path(sheet).stat().st_size > 5_000
    with pytest.raises(ConfigError, match="needs precomputed proposals, which images alone do not have"):
        Predictor(cfg)(np.zeros((32, 32, 3), np.uint8))


def test_a_model_without_an_rpn(data, rpn, capsys):
    config = str(SHAPES / "centermask_shapes.yaml")
    with pytest.raises(SystemExit) as end:
        prepare_proposals.main(["--coco-json", *data, "--rpn", config, rpn])
    assert end.value.code == 2
    assert "a CenterMask with MODEL.PROPOSAL_GENERATOR.NAME 'FCOS' has no RPN: give" in capsys.readouterr().err


def test_weights_that_do_not_fill_the_rpn(data, rpn, tmp_path, capsys):
    weights = {key: value for key, value in torch.load(rpn)["model"].items() if "rpn_head.conv" not in key}
    torch.save({"model": weights}, tmp_path / "half.pth")
    config = str(SHAPES / "faster_rcnn_shapes.yaml")
    with pytest.raises(SystemExit):
        prepare_proposals.main(["--coco-json", *data, "--rpn", config, str(tmp_path / "half.pth")])
    message = capsys.readouterr().err
    assert "half.pth" in message
    assert "it lacks proposal_generator.rpn_head.conv.bias, proposal_generator.rpn_head.conv.weight;" in message


def test_without_datasets(capsys):
    with pytest.raises(SystemExit):
        prepare_proposals.main([])
    assert "name a dataset" in capsys.readouterr().err
