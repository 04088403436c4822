"""Numbers, options, places to write to, and arguments of functions, as they should not be."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.hostile import world as commands
from tests.hostile.tries import ACCEPTED, EITHER, Try, wrote
from tests.hostile.world import World

NUMBERS = ("-1", "nan", "inf", "1e400", "0x10", "1,5", "", " ", "one", "9" * 400)

FLAGS: list[tuple[str, str, Callable[[World, str], Any], tuple[str, ...]]] = [
    ("predict", "--batch-size", lambda w, x: commands.predict(w, f"--batch-size={x}"), ("0", "1.5")),
    ("predict", "--score-threshold", lambda w, x: commands.predict(w, f"--score-threshold={x}"), ("1.01", "-0.1")),
    ("compare", "--count", lambda w, x: commands.compare(w, count=x), ("0",)),
    (
        "check-dataset",
        "--max-image-pixels",
        lambda w, x: commands.check_dataset(w, "", "", f"--max-image-pixels={x}"),
        (),
    ),
    ("train", "--num-gpus", lambda w, x: commands.train(w, flags=(f"--num-gpus={x}",)), ("0",)),
    ("train", "--num-machines", lambda w, x: commands.train(w, flags=(f"--num-machines={x}",)), ("0",)),
    ("train", "--machine-rank", lambda w, x: commands.train(w, flags=(f"--machine-rank={x}",)), ("7",)),
    ("prepare_shapes", "--count", lambda w, x: commands.shapes(w, f"--count={x}"), ("0",)),
    ("prepare_shapes", "--size", lambda w, x: commands.shapes(w, f"--size={x}"), ("5", "0")),
    ("prepare_shapes", "--seed", lambda w, x: commands.shapes(w, f"--seed={x}"), ()),
    ("prepare_subset", "--count", lambda w, x: commands.subset(w, count=x), ("0", "3")),
    ("prepare_panoptic_fpn", "--workers", lambda w, x: commands.panoptic(w, workers=x), ("0",)),
    ("prepare_proposals", "--workers", lambda w, x: commands.proposals(w, "", "", f"--workers={x}"), ("0",)),
]
FLAG_TRIES = [
    Try(command, "number", f"{flag}={value[:12]}", lambda w, u=use, v=value: u(w, v), message=flag[2:] + "|images of")
    for command, flag, use, more in FLAGS
    for value in (*NUMBERS, *more)
    if not (
        flag in ("--seed", "--max-image-pixels", "--count", "--batch-size")
        and value == "9" * 400
        and command != "prepare_shapes"
    )
    and not (value == "9" * 400 and flag in ("--workers", "--num-machines", "--seed"))
]

OPTIONS = {
    "SOLVER.IMS_PER_BATCH": ("0", "-2", "1.5", "nan", "[]"),
    "SOLVER.BASE_LR": ("0", "-1", "nan", "inf", "[1]"),
    "SOLVER.MAX_ITER": ("0", "-1", "1e9", "'many'"),
    "SOLVER.STEPS": ("(5, 3)", "(0,)", "(nan,)", "5", "('a',)"),
    "SOLVER.WEIGHT_DECAY": ("-1", "nan", "'x'"),
    "SOLVER.CHECKPOINT_PERIOD": ("0", "-1"),
    "SOLVER.WARMUP_ITERS": ("-1", "1.5"),
    "SOLVER.MOMENTUM": ("1", "-1", "nan"),
    "DATALOADER.NUM_WORKERS": ("-1", "1.5"),
    "INPUT.MIN_SIZE_TRAIN": ("()", "(-1,)", "(nan,)", "('a',)", "40"),
    "INPUT.MAX_SIZE_TRAIN": ("0", "-1", "nan"),
    "INPUT.FORMAT": ("XYZ", "7", "''"),
    "INPUT.CROP.SIZE": ("[0, 0]", "[1]", "[-1, 2]", "[nan, 1]"),
    "INPUT.MAX_IMAGE_PIXELS": ("-1", "nan"),
    "MODEL.PIXEL_MEAN": ("[]", "[nan, 1, 1]", "['a', 1, 1]"),
    "MODEL.PIXEL_STD": ("[0, 1, 1]", "[-1, 1, 1]", "[]"),
    "MODEL.DEVICE": ("gpu", "cpu:99999999999", "cuda:77", "''", "7", "meta"),
    "MODEL.META_ARCHITECTURE": ("Nothing", "''", "7", "a\nb"),
    "MODEL.BACKBONE.NAME": ("Nothing", "''"),
    "MODEL.ROI_HEADS.NUM_CLASSES": ("-1", "1.5", "many", "9" * 30, "7"),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": ("1", "-1", "nan"),
    "DATASETS.TRAIN": ("('absent',)", "5", "(5,)", "('',)", "()", "[['a']]"),
    "DATASETS.COCO_JSON": ("5", "[5]", "[['a', 'b']]", "[['a', 5, 'c']]", "[['', '', '']]", "{'a': 1}"),
    "SEED": ("-2", "1.5", "9" * 30),
    "VERSION": ("99", "'x'"),
    "NO.SUCH.OPTION": ("1",),
    "MODEL": ("1", "{}"),
    "MODEL.": ("1",),
    ".": ("1",),
    "": ("1",),
    "MODEL.WEIGHTS.X": ("1",),
    "_BASE_": ("x.yaml",),
    "SOLVER": ("{'MAX_ITER': 0}",),
}
EITHER_OF = {("VERSION", "99"), ("INPUT.MIN_SIZE_TRAIN", "40")}
OPTION_TRIES = [
    Try(
        command,
        "option",
        f"{key}={value[:16]}",
        lambda w, u=use, k=key, v=value: u(w, k, v),
        EITHER if (key, value) in EITHER_OF or (command != "train" and key.startswith("DATASETS")) else "clear",
        f"{key.split('.')[-1]}|absent|key|option",
    )
    for command, use in (
        ("train", lambda w, k, v: commands.train(w, *w.data(), k, v)),
        ("predict", lambda w, k, v: commands.predict(w, k, v)),
        ("load", lambda w, k, v: commands.use_load(w, w.weights, opts=[k, v])),
    )
    for key, values in OPTIONS.items()
    for value in values
    if command == "train" or key not in ("DATASETS.TRAIN", "VERSION", "SEED", "MODEL.ROI_HEADS.NUM_CLASSES")
]

# Where a command writes: what it writes there, and how
OUTPUTS: list[tuple[str, str, Callable[[World, str], Any]]] = [
    ("train", "", lambda w, p: commands.train(w, out=p)),
    ("predict", "", lambda w, p: commands.predict(w, out=p)),
    ("compare", ".png", lambda w, p: commands.compare(w, out=p)),
    ("data browse", ".html", lambda w, p: commands.browse(w, out=p)),
    ("weights convert", ".pth", lambda w, p: commands.convert(w, out=p)),
    ("config convert", ".yaml", lambda w, p: commands.convert_config(w, out=p)),
    ("prepare_subset", ".json", lambda w, p: commands.subset(w, out=p)),
    ("prepare_panoptic_fpn", "", lambda w, p: commands.panoptic(w, out=p)),
    ("prepare_shapes", "", lambda w, p: commands.shapes(w, out=p)),
    ("demo", "", lambda w, p: commands.main(["demo", "--output", p, "DATASETS.TRAIN", "('absent',)"])),
    ("prepare_proposals", "", lambda w, p: commands.proposals(w, out=p)),
]


def _below_a_file(w: World, suffix: str) -> str:
    (w.here / "culprit").write_text("a file")
    return str(w.here / "culprit" / f"x{suffix}")


def _in_the_way(w: World, suffix: str) -> str:
    """A folder where a file is written, and a file where a folder is."""
    path = w.here / f"culprit{suffix}"
    path.mkdir() if suffix else path.write_text("a file")
    return str(path)


def _new_folders(w: World, suffix: str) -> str:
    return str(w.here / "a" / "b" / f"données\udce9{suffix}")


PLACES: list[tuple[str, Callable[[World, str], str], str]] = [
    ("below a file", _below_a_file, "clear"),
    ("in the way", _in_the_way, "clear"),
    ("in proc", lambda w, s: f"/proc/culprit/x{s}", "clear"),
    ("in sys", lambda w, s: f"/sys/culprit{s}", "clear"),
    ("long name", lambda w, s: str(w.here / f"culprit{'x' * 300}{s}"), "clear"),
    ("deep path", lambda w, s: str(w.here / "/".join(["culprit"] * 900) / f"x{s}"), "clear"),
    ("zero byte", lambda w, s: f"culprit\0{s}", "clear"),
    ("new folders", _new_folders, ACCEPTED),
    ("empty", lambda w, s: "", EITHER),
]
OUTPUT_TRIES = [
    Try(
        command,
        "output",
        f"{name}",
        lambda w, u=use, p=place, s=suffix: u(w, p(w, s)),
        "clear" if command in ("demo", "prepare_proposals", "train") and expected == ACCEPTED else expected,
        "culprit" if expected == "clear" and command not in ("demo", "prepare_proposals") else "",
    )
    for command, suffix, use in OUTPUTS
    for name, place, expected in PLACES
    if name != "empty"
    or command not in ("compare", "data browse", "weights convert", "config convert", "prepare_subset")
]

_ZEROS = np.zeros((8, 9, 3), np.uint8)
ARRAYS: list[tuple[str, Any, str]] = [
    ("text", "absent.png", "clear"),
    ("number", 7, "clear"),
    ("list", [[1, 2, 3]], "clear"),
    ("bytes", b"x", "clear"),
    ("dict", {}, "clear"),
    ("no pixels", np.zeros((0, 5, 3), np.uint8), "clear"),
    ("no dimensions", np.float32(1), "clear"),
    ("five dimensions", np.zeros((1, 1, 1, 1, 3)), "clear"),
    ("two channels", np.zeros((8, 9, 2), np.uint8), "clear"),
    ("channels first", np.zeros((3, 8, 9), np.uint8), "clear"),
    ("objects", np.full((8, 9, 3), None), "clear"),
    ("text numbers", np.full((8, 9, 3), "a"), "clear"),
    ("dates", np.zeros((8, 9, 3), "datetime64[s]"), "clear"),
    ("complex", np.zeros((8, 9, 3), complex), "clear"),
    ("NaN", np.full((8, 9, 3), np.nan, np.float32), "clear"),
    ("infinite", np.full((8, 9, 3), np.inf), "clear"),
    ("tensor", torch.zeros(3, 8, 9), "clear"),
    ("huge numbers", np.full((8, 9, 3), 1e300), EITHER),
    ("negative", np.full((8, 9, 3), -5, np.int16), EITHER),
    ("one pixel", np.zeros((1, 1, 3), np.uint8), ACCEPTED),
    ("strip", np.zeros((1, 4000, 3), np.uint8), ACCEPTED),
    ("Booleans", np.zeros((8, 9), bool), ACCEPTED),
    ("16 bits", np.zeros((8, 9, 3), np.uint16), ACCEPTED),
    ("alpha", np.zeros((8, 9, 4), np.uint8), ACCEPTED),
    ("not contiguous", np.zeros((16, 18, 3), np.uint8)[::-2, ::2], ACCEPTED),
    ("read-only", np.broadcast_to(np.uint8(1), (8, 9, 3)), ACCEPTED),
    ("big-endian", np.zeros((8, 9, 3), ">u2"), ACCEPTED),
    ("Pillow", Image.new("CMYK", (5, 4)), ACCEPTED),
]
ARRAY_TRIES = [
    Try("Predictor", "array", name, lambda w, a=array: commands.use_predictor(w, a), expected, "image")
    for name, array, expected in ARRAYS
] + [
    Try("DefaultPredictor", "array", name, lambda w, a=array: commands.use_default_predictor(w, a), ACCEPTED)
    for name, array, expected in ARRAYS
    if expected == ACCEPTED and name in ("one pixel", "read-only")
]


def _words(*argv: str) -> Callable[[World], None]:
    return lambda w: commands.main(list(argv))


WORD_TRIES = [
    Try("models", "words", "system", _words("models", "--system", "SOLOv9"), message="SOLOv9"),
    Try("models", "words", "two forms", _words("models", "--json", "--markdown"), message="markdown"),
    Try("models", "words", "json", _words("models", "--json"), ACCEPTED),
    Try("models", "words", "more", _words("models", "more"), message="more"),
    Try("demo", "words", "model", _words("demo", "--model", "../../etc/passwd"), message="passwd"),
    Try("demo", "words", "option", _words("demo", "SOLVER.MAX_ITER", "nan"), message="MAX_ITER"),
    Try("demo", "words", "half a pair", _words("demo", "SOLVER.MAX_ITER"), message="MAX_ITER"),
    Try("benchmark", "words", "nothing", _words("benchmark"), message="--config-file"),
    Try("benchmark", "words", "config", _words("benchmark", "--config-file", "no/such.yaml"), message="such.yaml"),
    Try("benchmark", "words", "weights", _words("benchmark", "--weights", "no.pth"), message="no.pth"),
    Try("benchmark", "words", "size", _words("benchmark", "--size", "0", "64"), message="size"),
    Try("benchmark", "words", "runs", _words("benchmark", "--runs", "0"), message="runs"),
    Try(
        "benchmark",
        "words",
        "half a pair",
        _words("benchmark", "--config-file", "shapes/solov2_shapes.yaml", "--compare", "TEST.DTYPE", "x", "y"),
        message="TEST.DTYPE",
    ),
    Try(
        "benchmark",
        "words",
        "images",
        _words("benchmark", "--config-file", "shapes/solov2_shapes.yaml", "--images", "no such"),
        message="no such",
    ),
    Try("config docs", "words", "more", _words("config", "docs", "x"), message="x"),
    Try("config docs", "words", "plain", _words("config", "docs"), ACCEPTED),
    Try("config show", "words", "none", _words("config", "show"), message="FILE"),
    Try("check-dataset", "words", "name", _words("check-dataset", "no such\ndataset"), message="no such"),
    Try("check-dataset", "words", "no folder", _words("check-dataset", "x.json"), message="x.json"),
    Try("check-dataset", "words", "empty", _words("check-dataset", "", ""), message="file|dataset"),
    Try("train", "words", "nothing", _words("train"), message="DATASETS.TRAIN"),
    Try(
        "train",
        "words",
        "url",
        lambda w: commands.train(w, flags=("--dist-url", "ftp://x", "--num-machines", "2")),
        message="x",
    ),
    Try("predict", "words", "pattern", lambda w: commands.predict(w, inputs="[[["), message=r"\[\[\["),
    Try("predict", "words", "empty input", lambda w: commands.predict(w, inputs=""), EITHER),
    Try("predict", "words", "weights URL", lambda w: commands.predict(w, weights="nothing://x"), message="nothing://x"),
    Try("predict", "words", "zoo", lambda w: commands.predict(w, weights="centermask_solo://x"), message="x"),
    Try(
        "weights inspect",
        "words",
        "query",
        lambda w: commands.inspect(w, f"{w.weights}?a=b"),
        message="matching_heuristics",
    ),
    Try("weights convert", "words", "suffix", lambda w: commands.convert(w, out="x.exe"), message="x.exe"),
    Try("weights convert", "words", "twice", lambda w: commands.convert(w, "", "--classes", "a", "a"), message="'a'"),
    Try(
        "weights convert", "words", "three", lambda w: commands.convert(w, "", "--classes", "a", "b", "c"), message="3"
    ),
    Try(
        "weights convert", "words", "odd names", lambda w: commands.convert(w, "", "--classes", "\udce9", "\0"), EITHER
    ),
    Try("load", "words", "names", lambda w: commands.use_load(w, w.weights, class_names=["a"]), message="1 names"),
    Try(
        "load", "words", "device", lambda w: commands.use_load(w, w.weights, opts=["MODEL.DEVICE", "x"]), message="'x'"
    ),
    Try("compare", "words", "suffix", lambda w: commands.compare(w, out=f"{w.out}/x.txt"), message="x.txt"),
    Try("compare", "words", "no suffix", lambda w: commands.compare(w, out=f"{w.out}/x"), message="out/x"),
    Try("prepare_shapes", "words", "split", lambda w: commands.shapes(w, "--split", "../up"), message="up"),
    Try("prepare_shapes", "words", "hidden", lambda w: commands.shapes(w, "--split", ".x"), message="x"),
    Try(
        "prepare_shapes", "words", "plain", lambda w: commands.shapes(w), ACCEPTED, check=wrote("few/annotations.json")
    ),
    Try("prepare_proposals", "words", "none", lambda w: commands.run_script("prepare_proposals"), message="dataset"),
    Try(
        "prepare_proposals",
        "words",
        "name",
        lambda w: commands.run_script("prepare_proposals", "absent"),
        message="absent",
    ),
    Try("Trainer", "words", "plain", lambda w: commands.use_trainer(w), ACCEPTED, check=wrote("model_final.pth")),
]


def _pointer(content: bytes | None) -> Callable[[World], None]:
    """Resume where ``last_checkpoint`` has a content, or is a folder."""

    def run(w: World) -> None:
        os.makedirs(w.out)
        path = Path(w.out, "last_checkpoint")
        path.mkdir() if content is None else path.write_bytes(content)
        commands.train(w, flags=("--resume",))

    return run


POINTERS = {
    "folder": None,
    "empty": b"",
    "noise": bytes(range(256)),
    "absent": b"model_0000099.pth",
    "itself": b"last_checkpoint",
    "long": b"x" * 100_000,
    "lines": b"a\nb\nc",
    "up": b"../../../../etc/passwd",
}
POINTER_TRIES = [
    Try("resume", "pointer", name, _pointer(content), message="last_checkpoint|passwd|model_0|MODEL.WEIGHTS")
    for name, content in POINTERS.items()
]
ARGUMENT_TRIES = [*FLAG_TRIES, *OPTION_TRIES, *OUTPUT_TRIES, *ARRAY_TRIES, *WORD_TRIES, *POINTER_TRIES]
