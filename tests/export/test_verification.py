"""Which detections of two results are taken for the same."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from centermask_solo.cli import main
from centermask_solo.export import raw_verification
from centermask_solo.export.raw_verification import verify_raw
from centermask_solo.export.verification import Verification, compare
from centermask_solo.model_zoo import exporting
from centermask_solo.runtime.instances import ExportedInstances
from centermask_solo.runtime.metadata import Input, Resize

METADATA = SimpleNamespace(
    score_tolerance=1e-3, score_threshold=0.05, max_detections=100, half=False, int8=False, display_threshold=0.4
)


def result(order, last_row=4):
    """Two objects of one class with the same box: the frame of a square, and its diagonals."""
    frame = np.ones((6, 6), bool)
    frame[1:5, 1:5] = False
    diagonals = np.eye(6, dtype=bool) | np.eye(6, dtype=bool)[::-1]
    diagonals[last_row, :3] ^= True
    return ExportedInstances(
        (6, 6),
        pred_boxes=np.array([[0, 0, 6, 6]] * 2, np.float32),
        scores=np.array([0.5, 0.5], np.float32),
        pred_classes=np.zeros(2, np.int64),
        pred_masks=np.stack([frame, diagonals])[order],
    )


def test_masks_tell_apart_detections_with_the_same_box():
    difference = compare("", result([0, 1]), result([1, 0]), METADATA)
    assert (difference.matched, difference.mask_iou) == (2, 1.0)


def test_another_mask_in_the_same_box_is_a_difference():
    difference = compare("", result([0, 1]), result([1, 0], last_row=2), METADATA)
    assert difference.matched == 2
    assert difference.mask_iou < 0.9


def test_what_is_only_similar_is_no_partner_where_limits_may_have_left_out_the_right_one():
    reference, found = result([0, 1]), result([0, 1], last_row=2)
    found.exact = False
    difference = compare("", reference, found, METADATA)
    assert (difference.matched, difference.mask_iou) == (1, 1.0)
    assert Verification([difference], 1e-3).faults == []
    found.pred_masks[0] ^= True
    difference = compare("image", reference, found, METADATA)
    assert Verification([difference], 1e-3).faults == ["image: 4 detections without a partner"]


def test_a_strange_mask_in_the_same_box_is_no_partner():
    reference, found = result([0, 1]), result([0, 0])
    difference = compare("", reference, found, METADATA)
    assert (difference.matched, difference.mask_iou) == (1, 1.0)
    assert difference.reference + difference.found - 2 * difference.matched - difference.borderline == 2


def test_results_without_detections():
    """An image may have none, in either result: they differ by the detections of the other."""
    both, none = result([0, 1]), result([0, 1])[:0]
    for reference, found in ((none, none), (both, none), (none, both)):
        difference = compare("", reference, found, METADATA)
        assert (difference.reference, difference.found) == (len(reference), len(found))
        assert (difference.matched, difference.box, difference.score, difference.mask_iou) == (0, 0, 0, 1)


@pytest.mark.parametrize("is_right", [True, False])
def test_a_file_gets_its_name_once_it_is_verified(is_right, tmp_path, monkeypatch, capsys):
    """What is out of bounds is kept under a name that says so, and an earlier file stays."""
    path, kept = tmp_path / "model.xml", tmp_path / "model.unverified.xml"
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text("earlier")

    def write(traced, form, name, images):
        for suffix in (".xml", ".bin"):
            Path(name).with_suffix(suffix).write_text("new")

    difference = compare("image", result([0, 1]), result([0, 1] if is_right else [0, 0]), METADATA)
    monkeypatch.setattr(exporting, "load_cfg", lambda *args: SimpleNamespace())
    monkeypatch.setattr(exporting, "on_the_cpu", lambda cfg: cfg)
    cfg = SimpleNamespace(INPUT=SimpleNamespace(MAX_IMAGE_PIXELS=0))
    monkeypatch.setattr(exporting, "Predictor", lambda *args: SimpleNamespace(cfg=cfg))
    monkeypatch.setattr(exporting, "trace_predictor", lambda *args: SimpleNamespace(about={"input": None}))
    monkeypatch.setattr(exporting, "write_traced", write)
    monkeypatch.setattr(exporting, "verify_file", lambda *args: Verification([difference], 1e-3))
    command = ["export", "--weights", "w.pth", "--output", str(path), "--overwrite"]
    if is_right:
        main(command)
        assert (path.read_text(), path.with_suffix(".bin").read_text()) == ("new", "new")
        assert not kept.exists()
        return
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 1
    assert (path.read_text(), path.with_suffix(".bin").read_text()) == ("earlier", "earlier")
    assert kept.read_text() == "new"
    captured = capsys.readouterr()
    assert captured.err == f"error: {kept} differs from PyTorch: image: 2 detections without a partner\n"
    assert f"{path} was not written; what was compared is kept as {kept}" in captured.out


@pytest.mark.parametrize(
    ("factor", "half", "faults"),
    [(1.0, False, 0), (1.01, False, 1), (np.nan, False, 1), (1.01, True, 0), (0.0, True, 1)],
)
def test_raw_outputs_are_compared_relative_to_their_largest_value(factor, half, faults, monkeypatch):
    rule = Input("RGB", (0.0,) * 3, (1.0,) * 3, 1, Resize(0, 0, True), None, (1, 1), False)
    metadata = SimpleNamespace(input=rule, half=half, int8=False, outputs={"sums": "sums"})

    def run(feeds):
        images = feeds["images"]
        wrong = factor if images.shape[1] == 3 else 1.0  # of the last size only
        return {"sums": wrong * images.sum(axis=(1, 2), dtype=np.float32)}

    monkeypatch.setattr(raw_verification, "open_file", lambda path: (SimpleNamespace(run=run), metadata))
    images = [(str(n), np.arange(15 * n, dtype=np.uint8).reshape(n, 5, 3)) for n in (4, 4, 4, 3)]
    found = verify_raw(lambda images: {"sums": images.sum(dim=(1, 2), dtype=torch.float32)}, "", images)
    assert (len(found.faults), found.num_compared) == (faults, 1)
    assert found.table().splitlines()[1].split()[:4] == ["sums", "2", "x", "3"]
    if factor == 1.01 and half:
        assert re.fullmatch(r"weights as float16: the tensors differ by at most 0\.\d% of .*", found.loss())
