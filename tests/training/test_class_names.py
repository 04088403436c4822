"""Classes are matched by name: in evaluation, fine-tuning, resuming and pictures, whatever the order of a json."""

import json

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from centermask_solo.checkpoint import Checkpointer
from centermask_solo.evaluation.by_name import order_in_dataset, reorder_classes
from centermask_solo.inference import comparison
from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.setup import check_same_classes
from centermask_solo.utils.class_names import class_order
from centermask_solo.utils.errors import DataError, WeightsError
from tests.modeling.models import SYSTEMS, detect
from tests.modeling.test_meta_archs import inference_inputs, two_objects
from tests.training.tiny import CLASSES, RecordingTrainer, TinyModel, register, tiny_cfg, write_dataset


@pytest.fixture
def cfg(tmp_path):
    """A config with weights whose one class that they ever find is the cat."""
    write_dataset(tmp_path / "data")
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    Checkpointer(TinyModel(cfg), str(tmp_path), thing_classes=CLASSES).save("weights")
    return cfg


def change_categories(tmp_path, categories):
    """Rewrite the json with other category ids for the same objects; ``categories`` maps ids to old and new names."""
    json_file = tmp_path / "data" / "instances.json"
    content = json.loads(json_file.read_text())
    ids = {old: i for i, (old, _) in categories.items()}
    for x in content["annotations"]:
        x["category_id"] = ids[CLASSES[x["category_id"] - 1]]
    content["categories"] = [{"id": i, "name": new} for i, (_, new) in categories.items()]
    json_file.write_text(json.dumps(content))
    register(tmp_path / "data")


REORDERED = {1: ("dog", "dog"), 2: ("cat", "cat")}
RENAMED = {1: ("cat", "Cat "), 2: ("dog", "dog")}
BOTH_LISTS = r"only the model has cat; only the dataset has 'Cat ' \(model: cat, dog; dataset: 'Cat ', dog\)"


def test_order_of_classes():
    assert class_order(["a", "b", "c"], ["c", "a", "b"]) == [1, 2, 0]
    assert class_order(["a", "a"], ["a", "a"]) == [0, 1]
    for other in (["a", "B"], ["a"], ["a", "b", "c"], ["a", "a"]):
        assert class_order(["a", "b"], other) is None


def test_evaluation_of_reordered_classes_is_that_of_the_original_order(cfg, tmp_path):
    expected = evaluate(cfg, trainer=RecordingTrainer)
    change_categories(tmp_path, REORDERED)
    found = evaluate(cfg, trainer=RecordingTrainer)
    assert found["segm"] == pytest.approx(expected["segm"], nan_ok=True) and found["segm"]["AP-cat"] > 40
    assert MetadataCatalog.get("tiny").thing_classes == ["dog", "cat"]


def test_evaluation_of_renamed_classes_is_refused(cfg, tmp_path):
    change_categories(tmp_path, RENAMED)
    with pytest.raises(DataError, match=rf"dataset 'tiny' are not those .* trained on: {BOTH_LISTS}"):
        evaluate(cfg, trainer=RecordingTrainer)


def test_evaluation_of_weights_without_names_trusts_the_order(cfg, tmp_path):
    torch.save({"model": TinyModel(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    change_categories(tmp_path, RENAMED)
    assert evaluate(cfg, trainer=RecordingTrainer)["segm"]["AP-Cat "] > 40


def test_training_evaluates_on_reordered_test_data_by_name(cfg, tmp_path):
    trainer = RecordingTrainer(cfg)
    cfg.DATASETS.TEST = ("tiny_reordered",)
    expected = trainer.test(tiny_cfg(tmp_path / "data", tmp_path / "output"), trainer.model)
    change_categories(tmp_path, REORDERED)
    register(tmp_path / "data", "tiny_reordered")
    assert trainer.test(cfg, trainer.model)["segm"] == pytest.approx(expected["segm"], nan_ok=True)
    check_same_classes({"train": ["a", "b"], "test": ["b", "a"]}, ("train",))
    with pytest.raises(DataError, match=r"\(a, b; b, a\): give them the same classes in the same order"):
        check_same_classes({"train": ["a", "b"], "more": ["b", "a"]}, ("train", "more"))
    with pytest.raises(DataError, match=r"\(a, b; a, c\): give them the same names, in any order"):
        check_same_classes({"train": ["a", "b"], "test": ["a", "c"]}, ("train",))


def test_pictures_of_reordered_classes(cfg, tmp_path, monkeypatch):
    change_categories(tmp_path, REORDERED)
    drawn = []
    monkeypatch.setattr(comparison, "contact_sheet", lambda chosen, instances, *args, **kwargs: drawn.extend(instances))
    comparison.compare_with_ground_truth(cfg, "sheet.png", count=2)
    assert [x.pred_classes.tolist() for x in drawn] == [[1], [1]]
    change_categories(tmp_path, {1: ("dog", "dog"), 2: ("cat", "Cat ")})
    with pytest.raises(DataError, match="only the model has cat"):
        comparison.compare_with_ground_truth(cfg, "sheet.png", count=2)


def test_panoptic_segments_are_reordered_but_not_stuff(cfg):
    segments = [{"id": 1, "isthing": True, "category_id": 0}, {"id": 2, "isthing": False, "category_id": 0}]
    output = reorder_classes({"panoptic_seg": (torch.zeros(2, 2), segments)}, [1, 0])
    assert [x["category_id"] for x in output["panoptic_seg"][1]] == [1, 0]
    assert [x["category_id"] for x in segments] == [0, 0]
    assert order_in_dataset(CLASSES, "tiny") is None and order_in_dataset(None, "tiny") is None


def save_named(tmp_path, model, names):
    Checkpointer(model, str(tmp_path), thing_classes=names).save("theirs")
    return str(tmp_path / "theirs.pth")


@pytest.mark.parametrize("name", SYSTEMS)
def test_fine_tuning_keeps_the_weights_of_classes_by_name(name, tmp_path, caplog):
    """A model with the classes in another order, with one more among them, finds what the original finds."""
    model = SYSTEMS[name].model("MODEL.SOLOV2.NMS.SCORE_THRESH", 0.0)
    path = save_named(tmp_path, model, ["a", "b", "c"])
    model.eval()
    theirs = detect(model, inference_inputs(two_objects()))[0]
    assert len(theirs) and len(theirs.pred_classes.unique()) > 1
    names, order = ["c", "a", "b"], torch.tensor([1, 2, 0])
    other = SYSTEMS[name].model("MODEL.SOLOV2.NMS.SCORE_THRESH", 0.0)
    Checkpointer(other, thing_classes=names).load(path)
    ours = detect(other, inference_inputs(two_objects()))[0]
    assert "those that both name keep their weights (c, a, b)." in caplog.text
    pairs = [
        sorted(zip(x.scores.tolist(), classes.tolist(), strict=True))
        for x, classes in ((ours, ours.pred_classes), (theirs, order[theirs.pred_classes]))
    ]
    assert [k for _, k in pairs[0]] == [k for _, k in pairs[1]]
    assert [score for score, _ in pairs[0]] == pytest.approx([score for score, _ in pairs[1]], abs=1e-5)
    more = SYSTEMS[name].model(num_classes=4)
    fresh = {key: value.clone() for key, value in more.state_dict().items()}
    Checkpointer(more, thing_classes=["x", *names]).load(path)
    assert "; these start from their initialization: x." in caplog.text
    state, moved = more.state_dict(), other.state_dict()
    for key, value in state.items():
        if value.shape == moved[key].shape:
            assert torch.equal(value, moved[key]), key
        else:  # each row is the original's, or one of the initialization
            rows = {tuple(row.flatten().tolist()) for row in moved[key]}
            new = [row for row in value if tuple(row.flatten().tolist()) not in rows]
            old = {tuple(row.flatten().tolist()) for row in fresh[key]}
            assert len(new) <= value.shape[0] - moved[key].shape[0], key
            assert all(tuple(row.flatten().tolist()) in old for row in new), key


def test_fine_tuning_on_other_classes_starts_their_rows_anew(tmp_path, caplog):
    system = SYSTEMS["SOLOv2"]
    path = save_named(tmp_path, system.model(), ["a", "b", "c"])
    with torch.no_grad():
        model = system.model()
        model.ins_head.cate_pred.weight.fill_(7)
    Checkpointer(model, thing_classes=["x", "y", "z"]).load(path)
    assert (model.ins_head.cate_pred.weight == 7).all()
    assert "was trained on other classes, or on these in another order: these start from their initializ" in caplog.text


def test_resuming_with_other_classes_is_refused(cfg, tmp_path):
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.DATASETS.TEST = 1, (), ()
    RecordingTrainer(cfg).train()
    change_categories(tmp_path, REORDERED)
    with pytest.raises(WeightsError, match=r"\(checkpoint: cat, dog; dataset: dog, cat\): give .*another OUTPUT_DIR"):
        RecordingTrainer(cfg).resume_or_load(resume=True)


@pytest.mark.parametrize("first, then", [("AdamW", "SGD"), ("SGD", "AdamW")])
def test_resuming_with_another_optimizer_is_refused(cfg, first, then):
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.DATASETS.TEST, cfg.SOLVER.OPTIMIZER = 1, (), (), first
    RecordingTrainer(cfg).train()
    cfg.SOLVER.OPTIMIZER = then
    message = rf"model_final\.pth: its optimizer is not the {then} of SOLVER\.OPTIMIZER; give .*another OUTPUT_DIR"
    with pytest.raises(WeightsError, match=message):
        RecordingTrainer(cfg).resume_or_load(resume=True)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_resuming_with_parameters_of_other_shapes_is_refused(cfg, optimizer, monkeypatch):
    """Also where neither names nor a record tell that the number of classes is another one."""
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.DATASETS.TEST, cfg.SOLVER.OPTIMIZER = 1, (), (), optimizer
    RecordingTrainer(cfg).train()
    build = RecordingTrainer.build_model

    def wider(cfg):
        model = build(cfg)
        model.head = torch.nn.Linear(4, 5)
        return model

    monkeypatch.setattr(RecordingTrainer, "build_model", staticmethod(wider))
    with pytest.raises(
        WeightsError, match=r"model_final\.pth lacks .*'head\.bias'; .*resumed; give the config of that"
    ):
        RecordingTrainer(cfg).resume_or_load(resume=True)


@pytest.mark.parametrize(
    "there, here, message",
    [
        (SYSTEMS["SOLOv2"].cfg(num_classes=2), SYSTEMS["SOLOv2"].cfg(), "was trained on another number of classes"),
        (SYSTEMS["SOLOv2"].cfg(), SYSTEMS["YOLACT"].cfg(), "does not fit YOLACT"),
        (SYSTEMS["YOLACT"].cfg(), SYSTEMS["YOLACT++"].cfg(), r"lacks \d+ of the|does not fit YOLACT"),
    ],
)
def test_resuming_another_model_is_refused(there, here, message, tmp_path):
    Checkpointer(build_model(there), str(tmp_path)).save("model_0000001")
    model = build_model(here)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"{message}.*; give the config of that training, or another OUTPUT_DIR"):
        Checkpointer(model, str(tmp_path)).resume_or_load("", resume=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
