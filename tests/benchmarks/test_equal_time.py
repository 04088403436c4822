"""The comparison in equal CPU time: what it runs, and its table."""

import json
import sys

import cv2
import pytest

from benchmarks import equal_time
from benchmarks.equal_time import main
from centermask_solo.utils.errors import UserError

MACHINE = {"device": "A CPU, 1 thread", "torch": "2", "detectron2": "0.6"}


def measured(stage, system, iterations, seed):
    if stage == "pace":
        return {"cpu_seconds_per_iteration": 0.5 + seed, "machine": MACHINE}
    if stage == "train":
        seconds = iterations * (2.0 if system == "mask_rcnn" else 0.5 + seed)
        return {"iterations": iterations, "cpu_seconds": seconds, "batch": 4, "images": 2000, "machine": MACHINE}
    if stage == "curve":
        return {"points": [{"iteration": iterations // 2, "segm": 20.0, "bbox": 30.0}]}
    ap = 40.0 + seed + (system == "mask_rcnn")
    metrics = {"AP": ap, "AP50": 60.0, "AP75": 50.0, "APs": 20.0, "APm": 30.0, "APl": None}
    return {"images": 100, "results": {"segm": metrics, "bbox": metrics}}


@pytest.fixture
def steps(monkeypatch):
    """Steps that only write what a run would measure."""
    ran = []

    def run_step(module, stage, system, iterations, output, opts, options):
        seed = int(opts[opts.index("SEED") + 1])
        ran.append((seed, stage, system, iterations, *opts[opts.index("SEED") + 2 :]))
        path = output / f"{system}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        record = json.loads(path.read_text()) if path.exists() else {}
        if stage == "train" or not record:
            record |= {"iterations": iterations, "opts": opts}
        path.write_text(json.dumps(record | {stage: measured(stage, system, iterations, seed)}))

    monkeypatch.setattr(equal_time, "run_step", run_step)
    return ran


def arguments(folder, *more):
    paths = ["--output", str(folder / "out"), "--document", str(folder / "learning.md"), "--results", str(folder)]
    return ["--iterations", "100", "--systems", "solov2", "--seeds", "0", "1", *paths, *more]


def test_systems_get_the_time_of_the_reference(tmp_path, steps):
    main(arguments(tmp_path))
    assert steps[:7] == [
        (0, "train", "mask_rcnn", 100),
        (0, "predict", "mask_rcnn", 100),
        (0, "curve", "mask_rcnn", 100),
        (0, "pace", "solov2", 1),
        (0, "train", "solov2", 400),
        (0, "predict", "solov2", 400),
        (0, "curve", "solov2", 400),
    ]
    assert steps[10:] == [  # begins with as many as the first seed, and they take three times as long
        (1, "train", "solov2", 400),
        (1, "train", "solov2", 133),
        (1, "predict", "solov2", 133),
        (1, "curve", "solov2", 133),
    ]
    assert "](images/learning_shapes.png)" in (tmp_path / "learning.md").read_text()
    assert cv2.imread(str(tmp_path / "images" / "learning_shapes.png")).std() > 1
    rows = [line for line in (tmp_path / "learning.md").read_text().splitlines() if line.startswith("| ")]
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:] for row in rows[2:]}
    assert cells["Mask R-CNN, RoIAlign"][:3] == ["100 × 4", "3.3", "41.5 (41.0 to 42.0)"]
    assert cells["SOLOv2"][:4] == ["266 × 4", "3.3", "40.5 (40.0 to 41.0)", "20.0 / 30.0 / 0.0"]


def test_elsewhere_the_time_is_that_of_iterations_on_the_cpu(tmp_path, steps):
    """At 0.5 seconds an iteration of the reference as well, whatever the trainings take."""
    main(arguments(tmp_path, "--by-pace"))
    on_cpu = ("MODEL.DEVICE", "cpu")
    assert steps[:8] == [
        (0, "pace", "mask_rcnn", 1, *on_cpu),
        (0, "train", "mask_rcnn", 100),
        (0, "predict", "mask_rcnn", 100),
        (0, "curve", "mask_rcnn", 100),
        (0, "pace", "solov2", 1, *on_cpu),
        (0, "train", "solov2", 100),
        (0, "predict", "solov2", 100),
        (0, "curve", "solov2", 100),
    ]
    text = (tmp_path / "learning.md").read_text()
    assert " --by-pace\n" in text and "at the pace of the first ones" in text
    cells = {x.split(" | ")[0].strip("| "): x.split(" | ")[1:3] for x in text.splitlines() if x.startswith("| ")}
    assert cells["SOLOv2"] == ["100 × 4", "1.7"]  # mean of 50 and 150 seconds
    count = len(steps)
    main(arguments(tmp_path, "--by-pace"))
    assert len(steps) == count


def test_finished_steps_are_not_repeated(tmp_path, steps):
    main(arguments(tmp_path))
    count = len(steps)
    main(arguments(tmp_path))
    main(arguments(tmp_path, "--table-only"))
    assert len(steps) == count == 14


def test_seeds_are_added_to_kept_results(tmp_path, steps):
    """The folder of the first run is gone, as on another machine."""
    main([*arguments(tmp_path), "--seeds", "0"])
    (tmp_path / "out").rename(tmp_path / "old")
    main([*arguments(tmp_path), "--seeds", "0", "1"])
    assert [seed for seed, *_ in steps] == [0] * 7 + [1] * 7
    text = (tmp_path / "learning.md").read_text()
    assert "--seeds 0 1\n" in text and "; 2 seeds." in text and "40.5 (40.0 to 41.0)" in text
    with pytest.raises(UserError, match=r"shapes.json holds results of --iterations 100 --opts SEED 0: delete it"):
        main([*arguments(tmp_path), "--iterations", "50"])
    with pytest.raises(UserError, match=r"holds results of --iterations 100 --opts SEED 0: delete it"):
        main([*arguments(tmp_path), "--opts", "SOLVER.BASE_LR", "1"])
    assert len(steps) == 14


def test_a_system_that_gets_slower_is_trained_again(tmp_path, steps, monkeypatch):
    """Its iterations take twice the time that the first ones did."""

    first = measured

    def slower(stage, system, iterations, seed):
        record = first(stage, system, iterations, seed)
        return record | {"cpu_seconds": 1.0 * iterations} if (stage, system) == ("train", "solov2") else record

    monkeypatch.setattr(sys.modules[__name__], "measured", slower, raising=True)
    main([*arguments(tmp_path), "--seeds", "0"])
    assert [x for x in steps if x[2] == "solov2"][1:] == [
        (0, "train", "solov2", 400),
        (0, "train", "solov2", 200),
        (0, "predict", "solov2", 200),
        (0, "curve", "solov2", 200),
    ]


def test_a_failure_and_an_empty_folder_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no system below .* is trained and evaluated yet"):
        main(arguments(tmp_path, "--table-only"))

    def fail(*args):
        raise UserError("train mask_rcnn failed: no luck")

    monkeypatch.setattr(equal_time, "run_step", fail)
    with pytest.raises(UserError, match="train mask_rcnn failed: no luck"):
        main(arguments(tmp_path))
    assert not (tmp_path / "learning.md").exists()
