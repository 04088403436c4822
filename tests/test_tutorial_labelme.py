"""The commands and the program of docs/tutorial_labelme.md, on a few tiny images and with a tiny model."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from centermask_solo.cli import main
from tests.test_docs import code_blocks

PAGE = Path(__file__).parents[1] / "docs" / "tutorial_labelme.md"
# What makes the training short; everything else is as on the page
SMALL = "MODEL.DEVICE cpu MODEL.WEIGHTS '' SOLVER.MAX_ITER 2 SOLVER.STEPS () SOLVER.IMS_PER_BATCH 2 "
SMALL += " MODEL.FPN.OUT_CHANNELS 32"
SMALL += " INPUT.MIN_SIZE_TRAIN (64,) INPUT.MIN_SIZE_TEST 64 MODEL.SOLOV2.INSTANCE_CHANNELS 32 DATALOADER.NUM_WORKERS 0"
SMALL += " MODEL.SOLOV2.MASK_CHANNELS 32 MODEL.SOLOV2.NUM_MASKS 32"
NAMES = ["blue tit", "jay"]


def annotate(folder, number):
    """Write an image and labelme's file for it."""
    random = np.random.default_rng(number)
    Image.fromarray(random.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / f"{number}.jpg")
    shapes = []
    for i, name in enumerate(NAMES):
        x, y = random.integers(0, 30, 2).tolist()
        points = [[x, y + 30 * i], [x + 20.5, y + 30 * i], [x + 12, y + 30 * i + 4]]
        shapes.append({"label": name, "points": points, "shape_type": "polygon", "group_id": None, "flags": {}})
    document = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None}
    (folder / f"{number}.json").write_text(json.dumps({**document, "imageHeight": 64, "imageWidth": 80}))


@pytest.mark.slow
def test_the_page_from_the_first_command_to_the_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    for number in range(10):
        annotate(tmp_path / "birds", number)
    commands = [x for block in code_blocks(PAGE) for x in block.replace("\\\n", " ").splitlines()]
    assert [x.split()[1] for x in commands] == ["data", "data", "data", "train", "predict"]
    for command in commands:
        words = shlex.split(command)
        main([*words[1:], *(shlex.split(SMALL) if words[1] == "train" else [])])
    assert len(json.loads(Path("birds_coco/train.json").read_text())["images"]) == 8
    assert len(list(Path("predictions").rglob("*.jpg"))) == 10
    (program,) = code_blocks(PAGE, "python")
    exec(compile(re.sub(r"predictor.score_threshold", "0", program), str(PAGE), "exec"), {})
    with open("counts.csv", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["image", *NAMES] and len(table) == 11
    assert table[1][0] == "birds/0.jpg" and all(int(x) >= 0 for row in table[1:] for x in row[1:])
