"""``centermask-solo predict --track`` on videos of objects that move, cross, and hide each other."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import nn

from benchmarks.tracking import film, write_film
from centermask_solo.cli import main

VIEWS = []  # the frames whose objects the model knows


class FilmModel(nn.Module):
    """Finds what is in the frame of ``VIEWS`` that its image resembles most, in any order; what is hidden is unsure."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.order = np.random.default_rng(0)

    def forward(self, batched_inputs):
        return [{"instances": self.find(x)} for x in batched_inputs]

    def find(self, x):
        known = [torch.from_numpy(view.image[..., ::-1].copy()).permute(2, 0, 1) for view in VIEWS]
        seen, *known = (F.adaptive_avg_pool2d(image.float(), 32) for image in (x["image"], *known))
        masks = np.array(VIEWS[int(np.argmin([(seen - other).abs().sum() for other in known]))].masks)
        whole = np.array([mask.sum() for mask in VIEWS[0].masks])
        visible = masks.sum((1, 2)) / whole
        rows = self.order.permutation(np.flatnonzero(visible > 0.05))
        found = Instances((x["height"], x["width"]))
        found.pred_masks = torch.from_numpy(masks[rows])
        corners = [(*np.argwhere(m.T).min(0), *(np.argwhere(m.T).max(0) + 1)) for m in masks[rows]]
        found.pred_boxes = Boxes(torch.tensor(np.array(corners), dtype=torch.float32))
        found.scores = torch.tensor(0.9 * visible[rows], dtype=torch.float32)
        found.pred_classes = torch.zeros(len(rows), dtype=torch.int64)
        return found


if "FilmModel" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(FilmModel)


@pytest.fixture
def track(tmp_path, monkeypatch):
    """Predicts the film of a seed by the command; returns its frames, and rows of number and x of each frame."""
    (tmp_path / "model").mkdir()
    config = {"VERSION": 2, "MODEL": {"META_ARCHITECTURE": "FilmModel"}, "INPUT": {"MIN_SIZE_TEST": 64}}
    (tmp_path / "model" / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save({"model": FilmModel(None).state_dict(), "thing_classes": ["shape"]}, tmp_path / "model" / "w.pth")

    def track(seed, *arguments):
        views = film(seed, 30)
        monkeypatch.setitem(globals(), "VIEWS", views)
        write_film(str(tmp_path / "clip.mp4"), views)
        words = ["--weights", str(tmp_path / "model" / "w.pth"), "--input", str(tmp_path / "clip.mp4")]
        main(["predict", *words, "--output", str(tmp_path / "found"), "--track", "--device", "cpu", *arguments])
        data = json.loads((tmp_path / "found" / "predictions.json").read_text())
        frames = {x["id"]: [] for x in data["images"]}
        for x in data["annotations"]:
            frames[x["image_id"]].append((x["track_id"], x["bbox"][0] + x["bbox"][2] / 2))
        return views, list(frames.values())

    return track


@pytest.mark.parametrize("seed", range(5))
def test_objects_that_cross_keep_numbers_of_their_own(track, seed):
    views, frames = track(seed)
    assert len(frames) == len(views) == 30
    assert {number for rows in frames for number, _ in rows} == {1, 2}
    assert all(len({number for number, _ in rows}) == len(rows) for rows in frames)
    first, last = dict(frames[0]), dict(frames[-1])
    left, right = sorted(first, key=first.get)
    assert sorted(last, key=last.get) == [right, left]  # they have changed sides, and kept their numbers
    for number, direction in ((left, 1), (right, -1)):
        x = np.array([dict(rows).get(number, np.nan) for rows in frames])
        assert np.isfinite(x).mean() > 0.8
        steps = np.diff(x[np.isfinite(x)]) * direction
        assert steps.sum() > 80 and (steps > -12).all()  # where a part is hidden, the middle of the rest may step back


def test_numbers_are_in_all_outputs(track, tmp_path):
    _, frames = track(0, "--save-csv", "--save-results", "--save-video")
    numbers = sorted(number for rows in frames for number, _ in rows)
    with open(tmp_path / "found" / "instances.csv", encoding="utf-8") as file:
        assert sorted(int(row["track_id"]) for row in csv.DictReader(file)) == numbers
    results = json.loads((tmp_path / "found" / "results.json").read_text())
    assert sorted(x["track_id"] for x in results) == numbers
    assert (tmp_path / "found" / "clip.mp4").stat().st_size > 0
