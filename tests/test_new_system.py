"""A user's own meta-architecture needs one record; training, weights, prediction and the common tests handle it."""

import json

import pytest
import torch
import torch.nn.functional as F
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from centermask_solo import add_centermask_solo_config
from centermask_solo.checkpoint import Checkpointer
from centermask_solo.cli import main
from centermask_solo.model_zoo.conversion import convert_weights
from centermask_solo.modeling import systems
from centermask_solo.modeling.systems import ClassOutputs, System, register_system
from centermask_solo.utils.errors import WeightsError
from tests.cli.test_cli import fails
from tests.modeling import models
from tests.modeling import test_meta_archs_training as common
from tests.training.tiny import CLASSES, tiny_cfg, write_dataset


class WholeImageDetector(nn.Module):
    """Classifies an image, and detects one object that fills it unless it is background."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())
        self.classifier = nn.Linear(4, cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)  # background last
        self.score_thresh = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST

    def forward(self, batched_inputs):
        images = [x["image"].to(self.classifier.weight.device) / 255 for x in batched_inputs]
        logits = self.classifier(self.backbone(ImageList.from_tensors(images, 32).tensor).mean(dim=(2, 3)))
        if self.training:
            background = torch.tensor([logits.shape[1] - 1])
            classes = torch.cat([torch.cat([x["instances"].gt_classes, background])[:1] for x in batched_inputs])
            return {"loss_class": F.cross_entropy(logits.float(), classes.to(logits.device))}
        return [{"instances": self._detect(*pair)} for pair in zip(batched_inputs, logits.softmax(dim=1), strict=True)]

    def _detect(self, x, scores):
        size = height, width = x.get("height", x["image"].shape[1]), x.get("width", x["image"].shape[2])
        score, label = scores[:-1].max(dim=0)
        found = Instances(
            size,
            pred_boxes=Boxes(torch.tensor([[0.0, 0.0, width, height]])),
            scores=score[None],
            pred_classes=label[None],
            pred_masks=torch.ones(1, height, width, dtype=torch.bool),
        )
        return found[found.scores > self.score_thresh]


if "WholeImageDetector" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(WholeImageDetector)


@pytest.fixture(autouse=True)
def record(monkeypatch):
    """Register the record, as a user would, for one test."""
    monkeypatch.setattr(systems, "_SYSTEMS", dict(systems._SYSTEMS))
    register_system(
        System(
            name="WholeImageDetector",
            num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
            signature=("backbone.0.weight", "classifier.weight"),
            class_outputs=(ClassOutputs("classifier.weight", background=1),),
            class_layers=("classifier",),
        )
    )


@pytest.fixture
def argv(tmp_path):
    """The command line of a training of two iterations."""
    write_dataset(tmp_path / "data", num_images=4)
    config = {
        "VERSION": 2,
        "MODEL": {"META_ARCHITECTURE": "WholeImageDetector", "DEVICE": "cpu", "ROI_HEADS": {"NUM_CLASSES": 2}},
        "DATASETS": {
            "COCO_JSON": [[tmp_path.name, str(tmp_path / "data" / "instances.json"), str(tmp_path / "data")]],
            "TRAIN": [tmp_path.name],
            "TEST": [],
        },
        "DATALOADER": {"NUM_WORKERS": 0},
        "INPUT": {"MIN_SIZE_TRAIN": [40], "MIN_SIZE_TEST": 40},
        "SOLVER": {"IMS_PER_BATCH": 2, "MAX_ITER": 2, "BASE_LR": 0.1, "STEPS": []},
        "OUTPUT_DIR": str(tmp_path / "output"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return ["train", "--config-file", str(tmp_path / "config.yaml")]


@pytest.fixture
def weights(argv, tmp_path):
    """The checkpoint of that training."""
    main(argv)
    return str(tmp_path / "output" / "model_final.pth")


def make_model(tmp_path, num_classes):
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "unused")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "WholeImageDetector", num_classes
    return build_model(cfg)


def test_the_number_of_classes_is_checked_before_training(argv, capsys):
    code, text = fails(capsys, *argv, "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    assert code == 2
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in text and "Traceback" not in text


def test_it_trains(weights, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / "output" / "metrics.json").read_text().splitlines()]
    assert lines[-1]["iteration"] == 1 and lines[-1]["total_loss"] > 0
    content = torch.load(weights, weights_only=True)
    assert content["thing_classes"] == CLASSES
    fresh = make_model(tmp_path, 2)
    Checkpointer(fresh, complete=True).load(weights)
    assert all(torch.equal(value, content["model"][key]) for key, value in fresh.state_dict().items())


def test_another_number_of_classes_resets_its_class_layers_only(weights, tmp_path, caplog):
    model = make_model(tmp_path, 5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Checkpointer(model).load(weights)
    theirs = torch.load(weights, weights_only=True)["model"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, (before if key.startswith("classifier.") else theirs)[key]), key
    assert "was trained on another number of classes: classifier start from their init" in caplog.text
    with pytest.raises(WeightsError, match="was trained on another number of classes than WholeImageDetector has here"):
        Checkpointer(model, complete=True).load(weights)


def test_a_missing_layer_is_an_error(weights, tmp_path):
    content = torch.load(weights, weights_only=True)
    del content["model"]["backbone.0.bias"]
    torch.save(content, tmp_path / "x.pth")
    message = r"WholeImageDetector of this package\) does not fit WholeImageDetector: it lacks backbone\.0\.bias; give"
    with pytest.raises(WeightsError, match=message):
        Checkpointer(make_model(tmp_path, 2)).load(str(tmp_path / "x.pth"))


def test_weights_inspect_names_it(weights, tmp_path, capsys):
    capsys.readouterr()
    main(["weights", "inspect", weights])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "source    WholeImageDetector of this package",
        "system    WholeImageDetector",
        "backbone  unknown",
        "classes   2: cat, dog",
        "images    INPUT.FORMAT BGR MODEL.PIXEL_MEAN '[103.53, 116.28, 123.675]' MODEL.PIXEL_STD '[1, 1, 1]'",
        "config    the one inside the file",
        "left out  nothing",
    ]
    torch.save(torch.load(weights, weights_only=True)["model"], tmp_path / "plain.pth")
    main(["weights", "inspect", str(tmp_path / "plain.pth")])
    out = capsys.readouterr().out
    assert "source    WholeImageDetector in Detectron2's names\nsystem    WholeImageDetector\n" in out
    assert "classes   2; the file does not name them" in out and "config    none of this package fits" in out


def test_it_predicts_from_its_checkpoint_and_from_a_converted_one(weights, tmp_path):
    converted = str(tmp_path / "converted.pth")
    assert convert_weights(weights, converted).thing_classes == CLASSES
    for i, path in enumerate((weights, converted)):
        argv = ["predict", "--weights", path, "--input", str(tmp_path / "data"), "--output", str(tmp_path / str(i))]
        main([*argv, "--score-threshold", "0", "--no-pictures", "MODEL.DEVICE", "cpu"])
    found, again = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in "01")
    assert [x["name"] for x in found["categories"]] == CLASSES
    assert len(found["annotations"]) == 4 and found["annotations"] == again["annotations"]


def common_suite_cfg(*overrides):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    options = {"META_ARCHITECTURE": "WholeImageDetector", "MASK_ON": True, "DEVICE": "cpu"}
    cfg.merge_from_list([item for key, value in options.items() for item in (f"MODEL.{key}", value)])
    cfg.merge_from_list(list(overrides))
    return cfg


ENTRY = models.System(
    make_cfg=common_suite_cfg,
    num_classes="MODEL.ROI_HEADS.NUM_CLASSES",
    score_thresh="MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    object_losses=set(),
    background_loss="loss_class",
    steps=0,
    learning_rate=0.0,
    loss_bound=0.0,
)
COMMON = [
    common.test_polygons_and_bit_masks_give_the_same_losses,
    common.test_training_under_autocast_is_close_to_float32,
    common.test_one_class,
]


@pytest.mark.parametrize("test", COMMON, ids=lambda test: test.__name__)
def test_the_common_suite_needs_one_entry(test):
    test(ENTRY)


@pytest.mark.parametrize("gt_of_images", [[common.EMPTY], [common.EMPTY, common.WHOLE_IMAGE]], ids=["empty", "mixed"])
def test_the_common_suite_trains_it_on_any_batch(gt_of_images):
    common.test_every_parameter_learns_from_any_batch(ENTRY, gt_of_images)
