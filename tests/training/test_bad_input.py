"""What a user can get wrong: exit code 2 and a one-line message that names the culprit and the fix."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser

import train_net
from centermask_solo.config import value_of
from centermask_solo.modeling import systems
from centermask_solo.training.setup import setup_cfg
from tests.training.tiny import CLASSES, register, write_dataset

SMALL = {
    "VERSION": 2,
    "MODEL": {"META_ARCHITECTURE": "TinyModel", "WEIGHTS": "", "RETINANET": {"NUM_CLASSES": 2}, "DEVICE": "cpu"},
    "DATASETS": {"TRAIN": ["tiny"], "TEST": ["tiny"]},
    "DATALOADER": {"NUM_WORKERS": 0},
    "INPUT": {"MIN_SIZE_TRAIN": [32], "MIN_SIZE_TEST": 32},
    "SOLVER": {"IMS_PER_BATCH": 2, "MAX_ITER": 1},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    record = systems.System("TinyModel", "MODEL.RETINANET.NUM_CLASSES", ("head.weight",), (), ())
    monkeypatch.setitem(systems._SYSTEMS, "TinyModel", record)
    write_dataset(tmp_path / "data", num_images=2)
    register(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SMALL | {"OUTPUT_DIR": str(tmp_path / "output")}))
    return tmp_path


def run(folder, capfd, *arguments):
    """Return the message with which train_net.py ends."""
    args = default_argument_parser().parse_args(["--config-file", str(folder / "config.yaml"), *arguments])
    with pytest.raises(SystemExit) as end:
        train_net.main(args)
    assert end.value.code == 2
    captured = capfd.readouterr()
    assert "Traceback" not in captured.out + captured.err
    message = captured.err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--config-file", "configs/SOLOv2/absent.yaml"],
            "there is no config file configs/SOLOv2/absent.yaml; the nearest",
        ),
        (["MODEL.WEIGHTS", "absent.pth"], "there is no file absent.pth"),
        (
            ["MODEL.RETINANET.NUM_CLASES", "3"],
            "no config key MODEL.RETINANET.NUM_CLASES; the nearest one is MODEL.RETINANET.NUM_CLASSES",
        ),
        (["MODEL.NOTHING.X", "3"], "no config key MODEL.NOTHING.X"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER expects int, such as 1, but was given many (str)"),
        (["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
        (["MODEL.META_ARCHITECTURE", "SOLOv3"], "MODEL.META_ARCHITECTURE 'SOLOv3' is not one of"),
        (["MODEL.BACKBONE.NAME", "build_resnet"], "MODEL.BACKBONE.NAME 'build_resnet' is not one of"),
        (["MODEL.ROI_HEADS.NAME", "Heads"], "MODEL.ROI_HEADS.NAME 'Heads' is not one of"),
        (["OUTPUT_DIR", f"{__file__}/output"], "test_bad_input.py/output cannot be created (Not a directory)"),
        (["DATASETS.TRAIN", "('tinny',)"], "the dataset 'tinny' is not registered; the nearest one is tiny"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (
            ["MODEL.RETINANET.NUM_CLASSES", "3"],
            "MODEL.RETINANET.NUM_CLASSES is 3, but the dataset 'tiny' has 2 classes (cat, dog): set",
        ),
        (["DATALOADER.SAMPLER_TRAIN", "Best"], 'DATALOADER.SAMPLER_TRAIN must be "TrainingSampler"'),
        (
            ["SOLVER.REFERENCE_WORLD_SIZE", "8"],
            "SOLVER.IMS_PER_BATCH 2 is not a multiple of SOLVER.REFERENCE_WORLD_SIZE 8",
        ),
        (
            ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all"],
            'CLIP_TYPE must be "value", "norm" or "full_model", not "all"',
        ),
        (["--eval-only"], "nothing to evaluate"),
        (["MODEL.DEVICE", "gpu"], "MODEL.DEVICE 'gpu' is not a device of PyTorch: give 'cuda' or 'cpu'"),
        (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
    ],
)
def test_arguments(folder, capfd, arguments, message):
    assert message in run(folder, capfd, *arguments)


SOLOV2 = ["--config-file", "configs/shapes/solov2_shapes.yaml", "DATASETS.TRAIN", "('tiny',)", "DATASETS.TEST", "()"]
SOLOV2 += ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.SOLOV2.NUM_CLASSES", "2"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["MODEL.SOLOV2.IN_FEATURES", "['p2', 'p3', 'p4', 'p5']"], "IN_FEATURES"),
        (["MODEL.SOLOV2.NMS.NAME", "BestNMS"], "BestNMS"),
        (["MODEL.SOLOV2.NUM_CLASSES", "3"], "MODEL.SOLOV2.NUM_CLASSES is 3, but the dataset 'tiny' has 2 classes"),
        (
            ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.5"],
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST is 0.5, but SOLOv2 does not read this option: set MODEL.SOLOV2.SCORE_TH",
        ),
        (["MODEL.YOLACT.SCORE_THRESH_TEST", "0.5"], "SOLOv2 does not read this option: set MODEL.SOLOV2.SCORE_THRESH"),
        (["MODEL.SOLOV2.LOSS.FOCAL_ALFA", "1"], "the nearest one is MODEL.SOLOV2.LOSS.FOCAL_ALPHA"),
    ],
)
def test_options_of_a_model(folder, capfd, arguments, message):
    assert message in run(folder, capfd, *SOLOV2, "OUTPUT_DIR", str(folder / "output"), *arguments)


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_number_of_stuff_classes(folder, capfd, flags):
    MetadataCatalog.get("tiny").stuff_classes = ["things", "sky", "road"]
    config = ["--config-file", "configs/CenterMask/panoptic_centermask_R_50_FPN_ms_3x.yaml", "MODEL.DEVICE", "cpu"]
    options = ["DATASETS.TRAIN", "('tiny',)", "DATASETS.TEST", "('tiny',)", "SOLVER.REFERENCE_WORLD_SIZE", "0"]
    assert run(folder, capfd, *flags, *config, *options).endswith(
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 54, but the dataset 'tiny' has 3 stuff_classes (things, sky, road): "
        "set MODEL.SEM_SEG_HEAD.NUM_CLASSES 3"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is usable here")
def test_missing_device(folder, capfd):
    assert "MODEL.DEVICE is 'cuda', but no GPU is usable" in run(folder, capfd, "MODEL.DEVICE", "cuda")


@pytest.mark.parametrize("text", ["MODEL: [", "- a\n- b\n", "5"])
def test_file_that_is_not_a_config(folder, capfd, text):
    (folder / "config.yaml").write_text(text)
    assert "config.yaml" in run(folder, capfd)


def test_missing_files_of_a_dataset(folder, capfd):
    (folder / "data" / "instances.json").unlink()
    message = run(folder, capfd)
    assert "the dataset 'tiny' lacks" in message
    assert "instances.json" in message


@pytest.mark.parametrize("text", ["not json", "[1, 2]", json.dumps({"shapes": []})])
def test_json_that_is_not_coco(folder, capfd, text):
    (folder / "data" / "instances.json").write_text(text)
    message = run(folder, capfd)
    assert "instances.json" in message
    assert "COCO" in message


@pytest.mark.parametrize("arguments", [[], ["--eval-only"]])
def test_faults_of_annotations(folder, capfd, arguments):
    """Training and evaluation refuse what data check lists, before anything is built."""
    json_file = folder / "data" / "instances.json"
    json_file.write_text(json_file.read_text().replace("[0, 0, 28, 20]", "[0, 0, NaN, 20]"))
    message = run(folder, capfd, *arguments)
    assert (
        "instances.json: 2 x box with NaN or infinity, such as annotation 1 (1.png): [0.0, 0.0, NaN, 20.0]" in message
    )
    assert f"'centermask-solo data check {json_file} {folder / 'data'}' lists every fault" in message
    assert not (folder / "output").exists()


def test_masks_are_needed_only_by_models_of_masks(folder, capfd):
    json_file = folder / "data" / "instances.json"
    content = json.loads(json_file.read_text())
    for x in content["annotations"]:
        del x["segmentation"]
    json_file.write_text(json.dumps(content))
    assert "2 x object without mask" in run(folder, capfd, "MODEL.MASK_ON", "True")
    assert "absent.pth" in run(folder, capfd, "MODEL.MASK_ON", "False", "MODEL.WEIGHTS", "absent.pth")


@pytest.mark.parametrize("num_workers", ["0", "1"])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_damaged_image(folder, capfd, content, num_workers):
    path = folder / "data" / "1.png"
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    assert "1.png" in run(folder, capfd, "DATALOADER.NUM_WORKERS", num_workers)


def test_missing_image(folder, capfd):
    (folder / "data" / "1.png").unlink()
    assert "1.png" in run(folder, capfd)


def test_weights_of_another_model(folder, capfd):
    path = str(folder / "other.pth")
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, path)
    assert f"{path} does not fit TinyModel: it holds the weights of another model" in run(
        folder, capfd, "MODEL.WEIGHTS", path
    )
    assert f"{path} does not fit TinyModel: it holds the weights of another model" in run(
        folder, capfd, "--eval-only", "MODEL.WEIGHTS", path
    )


def test_datasets_with_different_classes(folder, capfd):
    write_dataset(folder / "more", num_images=2)
    json_file = folder / "more" / "instances.json"
    json_file.write_text(json_file.read_text().replace(CLASSES[1], "cow"))
    register(folder / "more", "tiny_more")
    message = run(folder, capfd, "DATASETS.TRAIN", "('tiny', 'tiny_more')")
    assert "'tiny' and 'tiny_more' have different classes (cat, dog; cat, cow): give them the same" in message


@pytest.mark.slow
@pytest.mark.parametrize("num_gpus", [1, 2])
def test_command_line(folder, num_gpus):
    """The whole program, in one process and in two, prints a single line on stderr."""
    command = [sys.executable, "-W", "ignore", "train_net.py", "--num-gpus", str(num_gpus), "--dist-url", "auto"]
    command += ["--config-file", "configs/shapes/solov2_shapes.yaml"]  # whose model a fresh process must know
    command += ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", "('nothing_like_it',)"]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(train_net.__file__).parent, env=environment()
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the dataset 'nothing_like_it' is not registered" in errors[0]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def configure(folder, *arguments, **changes):
    """Return the config of a command line, whose file has other options."""
    text = yaml.safe_dump(SMALL | {"OUTPUT_DIR": str(folder / "output")} | changes)
    (folder / "config.yaml").write_text(text)
    args = default_argument_parser().parse_args(["--config-file", str(folder / "config.yaml"), *arguments])
    return setup_cfg(args, screen="nothing")


def test_number_of_classes_comes_from_the_data(folder, capfd):
    """Where "auto" asks for it, and where no file of the user's and no override gives a number."""
    key = "MODEL.RETINANET.NUM_CLASSES"
    plain = {name: value for name, value in SMALL["MODEL"].items() if name != "RETINANET"}
    assert configure(folder, MODEL=plain).MODEL.RETINANET.NUM_CLASSES == 2
    assert f"{key} is 2, the number of classes of 'tiny'." in (folder / "output" / "log.txt").read_text()
    assert yaml.safe_load((folder / "output" / "config.yaml").read_text())["MODEL"]["RETINANET"]["NUM_CLASSES"] == 2
    assert configure(folder, key, "auto").MODEL.RETINANET.NUM_CLASSES == 2
    auto = {**plain, "RETINANET": {"NUM_CLASSES": "auto"}}
    assert configure(folder, MODEL=auto).MODEL.RETINANET.NUM_CLASSES == 2
    assert configure(folder, "--eval-only", MODEL=auto).MODEL.RETINANET.NUM_CLASSES == 2
    message = "MODEL.RETINANET.NUM_CLASSES is 3, but the dataset 'tiny' has 2 classes (cat, dog): set"
    configure(folder, MODEL=auto)
    assert message in run(folder, capfd, key, "3")
    (folder / "base.yaml").write_text(yaml.safe_dump(SMALL | {"MODEL": {**plain, "RETINANET": {"NUM_CLASSES": 3}}}))
    (folder / "config.yaml").write_text("_BASE_: base.yaml\n")
    assert message in run(folder, capfd)


@pytest.mark.parametrize("config", ["solov2_shapes", "yolact_shapes", "centermask_shapes", "retinanet_shapes"])
def test_number_of_classes_of_a_published_config_gives_way_to_the_data(folder, config):
    opts = [*SOLOV2[2:-2], "OUTPUT_DIR", str(folder / "output")]
    args = default_argument_parser().parse_args(["--config-file", f"configs/shapes/{config}.yaml", *opts])
    cfg = setup_cfg(args, screen="nothing")
    assert value_of(cfg, systems.find_system(cfg.MODEL.META_ARCHITECTURE).num_classes_key) == len(CLASSES)


def test_datasets_with_different_numbers_of_classes(folder, capfd):
    write_dataset(folder / "more", num_images=2)
    content = json.loads((folder / "more" / "instances.json").read_text())
    content["categories"].append({"id": 3, "name": "cow"})
    (folder / "more" / "instances.json").write_text(json.dumps(content))
    register(folder / "more", "tiny_more")
    arguments = ["DATASETS.TRAIN", "('tiny', 'tiny_more')", "MODEL.RETINANET.NUM_CLASSES", "auto"]
    message = (
        "NUM_CLASSES is 2 as in 'tiny', but the dataset 'tiny_more' has 3 classes (cat, dog, cow): give all datasets"
    )
    assert message in run(folder, capfd, *arguments)
