"""The report of the first iterations, and the batch whose loss is not finite."""

import json

import pytest
import torch
from detectron2.structures import Boxes, Instances

from centermask_solo.training.first_iterations import _boxes_at_input
from centermask_solo.training.trainer import Trainer
from centermask_solo.utils.errors import NonFiniteLossError
from tests.modeling.models import SYSTEMS
from tests.training.tiny import register, tiny_cfg, train, write_dataset


def run(tmp_path, size, *options):
    write_dataset(tmp_path / "data", num_images=6, size=size)
    register(tmp_path / "data")
    cfg = SYSTEMS["SOLOv2"].cfg(num_classes=2)
    cfg.merge_from_list(["DATASETS.TRAIN", ("tiny",), "DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["OUTPUT_DIR", str(tmp_path), "INPUT.MIN_SIZE_TRAIN", (size[0],), "SOLVER.IMS_PER_BATCH", 5])
    cfg.merge_from_list(["SOLVER.MAX_ITER", 5, "SOLVER.STEPS", (), "SOLVER.REFERENCE_WORLD_SIZE", 0, *options])
    torch.manual_seed(0)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


def test_objects_outside_of_all_ranges_are_a_warning(tmp_path, caplog):
    """Objects of 32 x 48 pixels, of which no level is for sizes from 30 to 60."""
    caplog.set_level("INFO")
    ranges = [[1, 30], [60, 70], [70, 80], [80, 90], [90, 2048]]
    run(tmp_path, (64, 96), "MODEL.SOLOV2.SCALE_RANGES", ranges, "SOLVER.REPORT_ITERATIONS", 4)
    assert "Objects of the first 4 iterations: 20; on each level: 0%, 0%, 0%, 0%, 0%" in caplog.text
    (warning,) = [x.getMessage() for x in caplog.records if "outside of all ranges" in x.getMessage()]
    assert warning.startswith("first 4 iterations: MODEL.SOLOV2.SCALE_RANGES [[1, ") and "100.0% with" in warning


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
