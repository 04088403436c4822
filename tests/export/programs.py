"""The program in Python of the documentation, which uses a file without this package."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from centermask_solo import ExportedPredictor

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"(.+) (\S+) \[(.+)\] (\d+)")  # name, score, box, area


def assert_the_program_finds_the_same(folder):
    """Run the program on ``model.onnx`` and ``photo.jpg`` of a folder; return its rows.

    Each is the name, the score, the box and the area of an object, which are those that ``ExportedPredictor`` finds.
    """
    (program,) = re.findall(r"```python\n(import json\n.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    rows = [ROW.fullmatch(line).groups() for line in result.stdout.splitlines()]
    found = [(name, float(score), [float(x) for x in box.split(",")], int(area)) for name, score, box, area in rows]
    predictor = ExportedPredictor(folder / "model.onnx")
    with Image.open(folder / "photo.jpg") as photo:
        expected = predictor(np.asarray(photo.convert("RGB"))[:, :, ::-1])["instances"]
    names, scores, boxes, areas = zip(*found, strict=True)
    assert list(names) == [predictor.class_names[i] for i in expected.pred_classes]
    np.testing.assert_allclose(scores, expected.scores, atol=1e-6)
    # Rounding moves single pixels across the threshold
    np.testing.assert_allclose(areas, expected.pred_masks.sum(axis=(1, 2)), atol=2, rtol=1e-3)
    limits = np.clip(boxes, 0, np.tile(expected.image_size[::-1], 2))
    np.testing.assert_allclose(limits, expected.pred_boxes, atol=1 if predictor.metadata.masks.boxes else 1e-3)
    return found
