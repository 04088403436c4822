"""The report of the first iterations, and the batch whose loss or step is not finite."""

import json

import pytest
import torch
from detectron2.structures import Boxes, Instances, Keypoints

from centermask_solo.training.bad_batch import _plain
from centermask_solo.training.first_iterations import FirstIterations, _boxes_at_input
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import NonFiniteLossError
from tests.modeling.models import SYSTEMS
from tests.training.test_averaging import fake_scores
from tests.training.tiny import RecordingTrainer, register, tiny_cfg, train, write_dataset


def run(tmp_path, size, *options, system="SOLOv2", objects=1):
    """Train for five iterations on images with ``objects`` objects at the same place."""
    write_dataset(tmp_path / "data", num_images=6, size=size)
    path = tmp_path / "data" / "instances.json"
    content = json.loads(path.read_text())
    annotations = [x | {"id": x["id"] + 100 * i} for i in range(objects) for x in content["annotations"]]
    path.write_text(json.dumps(content | {"annotations": annotations}))
    register(tmp_path / "data")
    cfg = SYSTEMS[system].cfg(num_classes=2)
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "INPUT.MIN_SIZE_TRAIN", (size[0],), "SOLVER.IMS_PER_BATCH", 5])
    cfg.merge_from_list(["SOLVER.MAX_ITER", 5, "SOLVER.STEPS", (), "SOLVER.REFERENCE_WORLD_SIZE", 0, *options])
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


def warnings_of(caplog):
    return [x.getMessage() for x in caplog.records if x.getMessage().startswith("first ")]


def test_objects_outside_of_all_ranges_are_a_warning(tmp_path, caplog):
    """Objects of 32 x 48 pixels, of which no level is for sizes from 30 to 60."""
    caplog.set_level("INFO")
    ranges = [[1, 30], [60, 70], [70, 80], [80, 90], [90, 2048]]
    run(tmp_path, (64, 96), "MODEL.SOLOV2.SCALE_RANGES", ranges, "SOLVER.REPORT_ITERATIONS", 4)
    assert "Objects of the first 4 iterations: 20; on each level: 0%, 0%, 0%, 0%, 0%" in caplog.text
    (warning,) = [x.getMessage() for x in caplog.records if "outside of all ranges" in x.getMessage()]
    assert warning.startswith("first 4 iterations: MODEL.SOLOV2.SCALE_RANGES [[1, ") and "100.0% with" in warning


LOST = {  # options of which no object is learned, what is said of them, and on which levels the objects are
    "CenterMask": (
        ("MODEL.FCOS.SIZES_OF_INTEREST", [15, 16, 17, 18]),  # larger ones: at the last level, whose location is outside
        "of the objects are learned by no location; 100.0% with [15, 16, 17, 18]",
        "0%, 0%, 0%, 0%, 0%",
    ),
    "YOLACT": (
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[4], [100], [512], [512], [512]]),  # objects of 64 x 64 pixels at its input
        "of the objects have no anchor of IoU 0.5; 100.0% with [[4], [100], [512], [512], [512]]",
        "0%, 100%, 0%, 0%, 0%",
    ),
    "SOLO": (
        ("MODEL.SOLO.SCALE_RANGES", [[1, 30], [60, 70], [70, 80], [80, 90], [90, 2048]]),
        "of the objects are outside of all ranges; 100.0% with [[1, 30], ",
        "0%, 0%, 0%, 0%, 0%",
    ),
}


@pytest.mark.parametrize("system", list(LOST))
def test_the_objects_that_a_system_does_not_learn_are_a_warning(tmp_path, caplog, system):
    caplog.set_level("INFO")
    options, text, levels = LOST[system]
    run(tmp_path, (64, 96), *options, "SOLVER.MAX_ITER", 4, "SOLVER.REPORT_ITERATIONS", 4, system=system)
    assert caplog.text.count("Objects of the first 4 iterations: 20; on each level: ") == 1
    assert f"on each level: {levels}\n" in caplog.text
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"first 4 iterations: {options[0]} [") and text in warning


@pytest.mark.parametrize("system", ["SOLO", "SOLOv2"])
def test_objects_without_a_cell_of_their_own_are_a_warning(tmp_path, caplog, system):
    """Of two objects at the same place, one gets the cells."""
    caplog.set_level("INFO")
    run(tmp_path, (64, 96), "SOLVER.MAX_ITER", 2, "SOLVER.REPORT_ITERATIONS", 2, system=system, objects=2)
    assert "Objects of the first 2 iterations: 20; on each level: " in caplog.text
    (warning,) = warnings_of(caplog)
    assert warning.startswith(f"first 2 iterations: MODEL.{system.upper()}.NUM_GRIDS [")
    assert "50.0% of the objects have no cell of their own" in warning


def test_no_report_of_a_resumed_training(tmp_path, monkeypatch):
    write_dataset(tmp_path / "data", num_images=6)
    cfg, reports = tiny_cfg(tmp_path / "data", tmp_path / "output"), []
    cfg.SOLVER.REPORT_ITERATIONS, cfg.DATASETS.TEST = 2, ()
    monkeypatch.setattr(FirstIterations, "_report", lambda self: reports.append(self._done))
    train(cfg, kill_before=6)
    assert reports == [2]
    assert train(cfg, resume=True).start_iter == 4 and reports == [2]


def test_no_report_of_a_model_that_is_not_of_this_package(tmp_path, caplog):
    caplog.set_level("INFO")
    write_dataset(tmp_path / "data", num_images=6)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.SOLVER.REPORT_ITERATIONS, cfg.DATASETS.TEST = 8, ()
    train(cfg)
    assert "Objects of the first" not in caplog.text


def test_no_report_without_iterations(tmp_path, caplog):
    caplog.set_level("INFO")
    run(tmp_path, (64, 96), "SOLVER.REPORT_ITERATIONS", 0)
    assert "Objects of the first" not in caplog.text


def test_boxes_at_the_input():
    """Without crowds, in the frame that the model resizes every image to."""
    boxes = Boxes(torch.tensor([[0.0, 0, 10, 20], [5, 5, 9, 9]]))
    instances = Instances((40, 20), gt_boxes=boxes, gt_is_crowd=torch.tensor([False, True]))
    model = torch.nn.Identity()
    found, size = _boxes_at_input({"instances": instances}, model)
    assert found.tolist() == [[0, 0, 10, 20]] and size == (40, 20)
    model.input_size = (80, 80)
    found, size = _boxes_at_input({"instances": instances}, model)
    assert found.tolist() == [[0, 0, 40, 40]] and size == (80, 80)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_a_batch_with_a_loss_that_is_not_finite_is_kept(tmp_path, mask_format):
    folder = tmp_path / "data"
    write_dataset(folder, num_images=6)
    content = json.loads((folder / "instances.json").read_text())
    (folder / "2.png").rename(folder / "poison.png")
    content["images"][1]["file_name"] = "poison.png"
    (folder / "instances.json").write_text(json.dumps(content))
    cfg = tiny_cfg(folder, tmp_path / "output")
    cfg.merge_from_list(["SEED", 5, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 60])
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, mask_format
    with pytest.raises(NonFiniteLossError) as error:
        train(cfg)
    path = tmp_path / "output" / "non_finite_batch.pth"
    kept = torch.load(path, weights_only=True)
    (sample,) = kept["batch"]
    assert sample["file_name"].endswith("poison.png") and sample["image"].dtype == torch.uint8
    assert sample["gt_boxes"].shape == (1, 4) and sample["gt_classes"].tolist() == [0] and len(sample["gt_masks"]) == 1
    assert f"the batch is in {path}" in str(error.value)
    last = tmp_path / "output" / "last_checkpoint"
    if kept["iteration"]:
        assert f"the last checkpoint, {tmp_path / 'output' / last.read_text()}, has finite weights" in str(error.value)
        assert torch.load(tmp_path / "output" / last.read_text(), weights_only=True)["iteration"] < kept["iteration"]
    else:
        assert "there is no checkpoint yet" in str(error.value)


def test_keypoints_of_a_batch_are_kept_as_tensors():
    points = torch.arange(6.0).reshape(1, 2, 3)
    plain = _plain({"instances": Instances((8, 8), gt_keypoints=Keypoints(points))})
    assert torch.equal(plain["gt_keypoints"], points)


class Diverging(RecordingTrainer):
    """Makes a weight infinite in one step, whose loss is finite."""

    at = 5

    def run_step(self):
        super().run_step()
        if self.iter == self.at:
            with torch.no_grad():
                self.model.head.weight[0, 0] = torch.inf


@pytest.mark.parametrize(
    ("at", "file", "options"),
    [
        (5, "model_0000005", ("SOLVER.CHECKPOINT_PERIOD", 2)),
        (5, "model_best", ("TEST.EVAL_PERIOD", 6, "TEST.KEEP_BEST", "segm/AP")),
        (5, "model_final", ("TEST.EVAL_PERIOD", 2, "TEST.KEEP_BEST", "segm/AP", "TEST.PATIENCE", 2)),
        (7, "model_0000007", ("DATASETS.TEST", ())),
    ],
)
def test_a_step_that_makes_a_weight_infinite_is_as_much_evidence(tmp_path, monkeypatch, at, file, options):
    """Whichever file finds it: a checkpoint, that of the best evaluation, or that of a training that ends early."""
    write_dataset(tmp_path / "data", num_images=6)
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    cfg.merge_from_list(["MODEL.MASK_ON", True, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.CHECKPOINT_PERIOD", 4, *options])
    fake_scores(monkeypatch, [30.0] * 4)
    monkeypatch.setattr(Diverging, "at", at)
    trainer = Diverging(cfg)
    trainer.resume_or_load(resume=False)
    with pytest.raises(NonFiniteLossError) as error:
        trainer.train()
    folder = tmp_path / "output"
    start = f"training diverged: 'head.weight' became infinite or NaN, so {file}.pth is not written; lower"
    end = f"the batch is in {folder}/non_finite_batch.pth, and the last checkpoint, {folder}/model_0000003.pth, has"
    assert str(error.value).startswith(start) and end in str(error.value)
    kept = torch.load(folder / "non_finite_batch.pth", weights_only=True)
    assert kept["iteration"] == at and len(kept["batch"]) == 2
    best = folder / "model_best.pth"
    assert not best.exists() or torch.load(best, weights_only=True)["best"]["iteration"] == 2
    assert not (folder / f"{file}.pth").exists()
