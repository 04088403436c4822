"""Training: resuming equals not stopping, several processes equal one, and errors name their cause."""

import argparse
import json
import shutil

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY

from centermask_solo.data.mapper import InstanceMapper
from centermask_solo.training import trainer as trainer_module
from centermask_solo.training.evaluate import evaluate
from centermask_solo.training.launch import launch
from centermask_solo.training.setup import check_config
from centermask_solo.training.trainer import Trainer, training_data_of
from centermask_solo.utils.errors import ConfigError, DataError, NonFiniteLossError
from tests.training.tiny import (
    CLASSES,
    RecordingTrainer,
    TinyModel,
    register,
    tiny_cfg,
    train,
    train_in_process,
    write_dataset,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("amp", [False, True])
def test_resumed_training_has_the_losses_of_uninterrupted_training(data, tmp_path, num_workers, amp):
    def cfg(name):
        cfg = tiny_cfg(data, tmp_path / name)
        cfg.DATALOADER.NUM_WORKERS = num_workers
        cfg.SOLVER.AMP.ENABLED = amp
        cfg.SEED = 3
        return cfg

    uninterrupted = train(cfg("uninterrupted"))
    interrupted = train(
        cfg("interrupted"), kill_before=6
    )  # the checkpoint is from iteration 4, so two iterations are repeated
    torch.rand(9)
    resumed = train(cfg("interrupted"), resume=True)
    assert len(uninterrupted.history) == 8
    assert interrupted.history == uninterrupted.history[:6]
    assert resumed.history == uninterrupted.history[4:]
    for name, value in uninterrupted.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_checkpoint_stores_a_random_seed(data, tmp_path):
    cfg = tiny_cfg(data, tmp_path)
    cfg.SEED = -1
    interrupted = train(cfg, kill_before=4)
    resumed = train(cfg, resume=True)
    assert resumed.data_loader.seed == interrupted.data_loader.seed
    assert resumed.data_loader.start_iter == 4
    other = train(tiny_cfg(data, tmp_path / "other"), kill_before=0)
    assert other.data_loader.seed != interrupted.data_loader.seed


@pytest.mark.slow
@pytest.mark.usefixtures("forked_processes")
def test_two_processes_equal_one(data, tmp_path):
    results = []
    for num_processes in (1, 2):
        output = tmp_path / str(num_processes)
        args = argparse.Namespace(
            data=str(data), output=str(output), num_gpus=num_processes, num_machines=1, machine_rank=0, dist_url="auto"
        )
        launch(train_in_process, args, on_cpu=True)
        results.append(torch.load(output / "result.pth", weights_only=True))
    one, two = results
    assert len(two["history"]) == 8
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for name, value in one["model"].items():
        torch.testing.assert_close(value, two["model"][name], rtol=1e-4, atol=1e-6)


def test_bfloat16_on_the_cpu_trains_like_float32(data, tmp_path):
    def losses(amp):
        cfg = tiny_cfg(data, tmp_path / str(amp))
        cfg.SOLVER.AMP.ENABLED = amp
        cfg.SEED = 1
        return [x["total_loss"] for x in train(cfg).history]

    half, full = losses(True), losses(False)
    assert half != full
    assert half == pytest.approx(full, rel=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_float16_on_a_gpu_trains_like_float32(data, tmp_path):
    """Without dropout, whose mask depends on the dtype, and with a loss scale that overflows in no step."""

    def losses(amp):
        cfg = tiny_cfg(data, tmp_path / str(amp))
        cfg.MODEL.TINY_DROPOUT = 0.0
        cfg.MODEL.DEVICE = "cuda"
        cfg.SOLVER.AMP.ENABLED = amp
        cfg.SEED = 1
        torch.manual_seed(0)
        trainer = RecordingTrainer(cfg)
        if amp:
            trainer._trainer.grad_scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
        trainer.resume_or_load(resume=False)
        trainer.train()
        return [x["total_loss"] for x in trainer.history]

    half, full = losses(True), losses(False)
    assert half != full
    assert half == pytest.approx(full, rel=0.03)


def test_non_finite_loss_names_the_images(tmp_path):
    folder = tmp_path / "data"
    write_dataset(folder, num_images=2)
    (folder / "2.png").rename(folder / "poison.png")
    json_file = folder / "instances.json"
    json_file.write_text(json_file.read_text().replace('"2.png"', '"poison.png"'))
    cfg = tiny_cfg(folder, tmp_path / "out")
    cfg.SOLVER.IMS_PER_BATCH = 2
    with pytest.raises(NonFiniteLossError, match=r"at iteration 0: .*loss_mean.*nan.*poison\.png.*SOLVER\.BASE_LR"):
        train(cfg)


def test_checkpoints_store_class_names_and_evaluation_is_written(data, tmp_path):
    cfg = tiny_cfg(data, tmp_path)
    trainer = train(cfg)
    assert trainer.checkpointer.load(str(tmp_path / "model_final.pth"))["thing_classes"] == CLASSES
    results = evaluate(cfg, resume=True, trainer=RecordingTrainer)
    assert results["segm"]["AP"] == pytest.approx(results["bbox"]["AP"])
    assert results["bbox"]["AP-cat"] > 40  # the one box is right; the class is right in half of the images
    assert results["bbox"]["AP-dog"] == 0
    assert "mask" in (tmp_path / "evaluation.txt").read_text()
    assert MetadataCatalog.get("tiny").thing_classes == CLASSES
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    predictor = DefaultPredictor(cfg)  # Detectron2's own can read the file, too
    assert torch.equal(predictor.model.head.weight, trainer.model.head.weight)


def test_evaluation_needs_weights(data, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing to evaluate: give MODEL\.WEIGHTS"):
        evaluate(tiny_cfg(data, tmp_path))


def test_memory_format_follows_the_config(data, tmp_path):
    cfg = tiny_cfg(data, tmp_path)
    formats = []
    for cfg.MODEL.CHANNELS_LAST in (True, False):
        weight = RecordingTrainer.build_model(cfg).backbone[0].weight
        formats.append(weight.is_contiguous(memory_format=torch.channels_last))
    assert formats == [True, False]


class StatesItsData(TinyModel):
    @property
    def input_size(self):
        return 40

    @property
    def gt_mask_sizes(self):
        return {"gt_small_masks": (5, 7)}


def test_the_model_states_its_training_data(data, tmp_path, monkeypatch):
    """The trainer asks the model, not the config, for which input size and reduced masks its data is made."""
    assert training_data_of(TinyModel(tiny_cfg(data, tmp_path))) == {"input_size": None, "mask_sizes": {}}
    asked = []
    monkeypatch.setattr(
        trainer_module, "InstanceMapper", lambda cfg, **options: asked.append(options) or InstanceMapper(cfg)
    )
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "TinyModel", StatesItsData)
    RecordingTrainer(tiny_cfg(data, tmp_path))
    assert asked == [{"is_train": True, "input_size": 40, "mask_sizes": {"gt_small_masks": (5, 7)}}]


def test_last_results_are_returned(data, tmp_path):
    cfg = tiny_cfg(data, tmp_path)
    cfg.SOLVER.MAX_ITER = 1
    assert "AP" in train_and_return(cfg)["segm"]
    cfg.DATASETS.TEST = ()
    assert train_and_return(cfg) == {}


def train_and_return(cfg):
    trainer = RecordingTrainer(cfg)
    trainer.resume_or_load(resume=False)
    return trainer.train()


def test_data_that_was_never_checked_is_checked_when_it_is_loaded(tmp_path):
    write_dataset(tmp_path / "data", num_images=3)
    path = tmp_path / "data" / "instances.json"
    content = json.loads(path.read_text())
    for i, x in enumerate(content["annotations"]):
        x["id"] = i
        del x["iscrowd"]
    content["images"][0]["file_name"] = "folder\\1.png"
    (tmp_path / "data" / "folder").mkdir()
    (tmp_path / "data" / "1.png").rename(tmp_path / "data" / "folder" / "1.png")
    path.write_text(json.dumps(content))
    cfg = tiny_cfg(tmp_path / "data", tmp_path / "output")
    samples = [x for batch in Trainer.build_test_loader(cfg, "tiny") for x in batch]
    assert [x["file_name"][len(str(tmp_path)) :] for x in samples] == [
        "/data/folder/1.png",
        "/data/2.png",
        "/data/3.png",
    ]
    content["annotations"][1]["bbox"] = [0, 0, "wide", 3]
    path.write_text(json.dumps(content))
    register(tmp_path / "data")
    with pytest.raises(DataError, match="bbox that is not"):
        Trainer.build_test_loader(cfg, "tiny")
    with pytest.raises(ConfigError, match="the dataset 'tinny' is not registered"):
        Trainer.build_test_loader(cfg, "tinny")


def test_predictions_for_a_test_set_without_annotations(data, tmp_path):
    content = json.loads((data / "instances.json").read_text())
    del content["annotations"]
    shutil.copytree(data, tmp_path / "test_set")
    (tmp_path / "test_set" / "instances.json").write_text(json.dumps(content))
    register(tmp_path / "test_set", "test_set")
    cfg = tiny_cfg(data, tmp_path / "output")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ("test_set",)
    check_config(cfg, for_training=False)
    Trainer.test(cfg, TinyModel(cfg).eval())
    path = tmp_path / "output" / "inference" / "test_set" / "coco_instances_results.json"
    assert len(json.loads(path.read_text())) == 6
    cfg.DATASETS.TRAIN = ("test_set",)
    with pytest.raises(DataError, match="lacks the list 'annotations'"):
        check_config(cfg, for_training=True)
