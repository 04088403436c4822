"""The comparison of all systems: its table from records, and a small run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import compare_systems, system_run
from benchmarks.compare_systems import BEGIN, END, SYSTEMS, main, read_records, render, steps_of, write_document
from centermask_solo.data.shapes.generator import generate_shapes
from centermask_solo.demo import demo_configs
from centermask_solo.utils.errors import ConfigError, UserError
from tests.forked import start_program

ROOT = Path(__file__).parents[2]
MACHINE = {"device": "A CPU, 2 threads", "cores": 2, "torch": "2", "torchvision": "0", "detectron2": "0.6"}


def record(ap, *, masks=True, sides=(192, 256), **changes):
    def metrics(ap):
        return {"AP": ap, "AP50": 99.0, "AP75": 0.0, "APs": ap - 1, "APm": ap + 1, "APl": None}

    times = {"seconds": 90.0, "cpu_seconds": 150.0}
    about = {"machine": MACHINE, "date": "2026-01-02", "libraries_mb": 321.0}
    sizes = {"batch": 4, "images": 2000, "parameters": 3_141_593, "from_scratch": False, "peak_mb": 1234.0}
    prediction = {"seconds_per_image": 0.0125, "cpu_seconds_per_image": 0.02, "peak_mb": 567.0, "images": 100}
    results = {"bbox": metrics(ap)} | ({"segm": metrics(ap - 10)} if masks else {})
    return {
        "iterations": 7,
        "opts": [],
        "train": times | sizes | about,
        "predict": prediction | {"input_sides": list(sides), "results": results} | about,
    } | changes


def write(folder, **records):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in records.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def rows(text):
    """Return the cells of each row of the table by the system's title."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert len({len(line) for line in lines}) == 1
    return {line[0]: line[1:] for line in lines[2:]}


def test_no_detections_give_0_and_no_objects_none():
    nothing = dict.fromkeys(system_run.METRICS, float("nan"))
    assert system_run.scores(None) == system_run.scores(nothing) == dict.fromkeys(system_run.METRICS, 0.0)
    assert system_run.scores({**nothing, "AP": 2.0})["AP"] == 2.0
    assert system_run.scores({**nothing, "AP": 2.0})["APs"] is None


def test_every_system_has_a_config():
    assert set(SYSTEMS) == set(demo_configs())


def test_table(tmp_path):
    propose = {"propose": {"seconds_per_image": 0.08}}
    write(tmp_path, fast_rcnn=record(30.25, masks=False), faster_rcnn=record(31.0, masks=False) | propose)
    write(tmp_path, yolact=record(40.0, sides=(224, 224)), solov2={"iterations": 7, "opts": [], "train": {}})
    text = render(read_records(tmp_path))
    table = rows(text)
    assert list(table) == ["YOLACT", "Faster R-CNN", "Fast R-CNN"]  # SOLOv2 is not evaluated yet
    tail = ["3.14 M", "1.5 min (2.5)", "12 ms (20)", "1.23 GB", "0.57 GB"]
    assert table["YOLACT"] == ["30.0", "29.0 / 31.0 / –", "40.0", "39.0 / 41.0 / –", "224 × 224", *tail]
    assert table["Fast R-CNN"] == ["–", "–", "30.2", "29.2 / 31.2 / –", "192 to 256", *tail]
    assert "python -m benchmarks.compare_systems --iterations 7\n" in text
    assert (
        "7 iterations of 4 images, or as many images in smaller batches, the same 2000" in text
        and "evaluated on 100 others" in text
    )
    assert "Hardware: A CPU, 2 threads (2 cores in total); torch 2," in text and "Measured on 2026-01-02." in text
    assert "80 ms per image" in text and "ImageNet" in text and "0.32 GB of it are the libraries" in text


def test_differences_between_systems_are_reported(tmp_path):
    other = record(1.0, opts=["A.B", "('x', 2)"])
    other["train"] |= {"machine": MACHINE | {"device": "A GPU"}, "date": "2026-01-05", "from_scratch": True}
    text = render({"solov2": record(2.0, opts=["A.B", "('x', 2)"]), "yolact": other})
    assert "A CPU, 2 threads (2 cores in total); torch 2, torchvision 0, Detectron2 0.6; and A GPU" in text
    assert "Measured on 2026-01-02 to 2026-01-05." in text
    assert "from random weights: YOLACT" in text
    assert "--iterations 7 --opts A.B \"('x', 2)\"\n" in text
    write(tmp_path, solov2=record(1.0), yolact=record(1.0, iterations=8))
    with pytest.raises(ConfigError, match="had different budgets"):
        read_records(tmp_path)


def test_handwritten_parts_of_the_document_are_kept(tmp_path, capsys):
    write(tmp_path / "out", solov2=record(50.0))
    document = tmp_path / "comparison.md"
    arguments = ["--table-only", "--output", str(tmp_path / "out"), "--document", str(document)]
    main(arguments)
    assert document.read_text().endswith("## Findings\n")
    document.write_text(document.read_text() + "\nMuch.\n")
    write(tmp_path / "out", solov2=record(60.0))
    main(arguments)
    text = document.read_text()
    assert text.endswith("\nMuch.\n") and text.index(BEGIN) < text.index("| 60.0 |") < text.index(END)
    assert text.count("| SOLOv2 |") == 1
    for damaged in ("nothing", text.replace(END, ""), text + BEGIN):
        document.write_text(damaged)
        with pytest.raises(UserError, match="lacks the lines"):
            main(arguments)
        assert document.read_text() == damaged


def test_a_document_holds_several_generated_parts(tmp_path):
    document = tmp_path / "learning.md"
    first, second = "<!-- generated by a -->", "<!-- generated by b -->"
    document.write_text(f"{first}\nold\n{END}\nbetween\n{second}\nolder\n{END}\nafter\n")
    write_document(document, "new", second)
    write_document(document, "newer", first)
    text = document.read_text()
    assert text == f"{first}\n\nnewer\n{END}\nbetween\n{second}\n\nnew\n{END}\nafter\n"
    damaged = text.replace(f"newer\n{END}", "newer")  # the next end belongs to another part
    document.write_text(damaged)
    with pytest.raises(UserError, match="lacks the lines"):
        write_document(document, "", first)
    assert document.read_text() == damaged


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--table-only"], "no system is trained and evaluated yet"),
        (["--iterations", "8", "--systems", "solov2"], "results of another budget, --iterations 7: choose another"),
        (["--iterations", "7", "--opts", "A.B", "1"], "results of another budget, --iterations 7: choose another"),
    ],
)
def test_invalid_arguments(tmp_path, arguments, message):
    write(tmp_path, solov2={"iterations": 7, "opts": [], "train": {}})
    with pytest.raises(UserError, match=message):
        main(["--output", str(tmp_path), "--document", str(tmp_path / "x.md"), *arguments])
    with pytest.raises(SystemExit):
        main([])


def test_finished_steps_are_not_repeated_and_failures_are_reported(tmp_path, monkeypatch, capsys):
    started = []

    def start(command, stdout, stderr):
        started.append(command[5:7])
        stdout.write("first\nerror: no luck\n")
        return subprocess.CompletedProcess(command, int(command[5] == "propose"))

    monkeypatch.setattr(compare_systems.subprocess, "run", start)
    write(tmp_path, faster_rcnn=record(1.0))
    with pytest.raises(UserError, match="propose faster_rcnn failed: error: no luck"):
        main(["--iterations", "7", "--systems", "faster_rcnn", "fast_rcnn", "--output", str(tmp_path)])
    assert started == [["propose", "faster_rcnn"]]
    assert "train faster_rcnn: done before" in capsys.readouterr().out
    assert steps_of("fast_rcnn") == [
        *(("train", "faster_rcnn"), ("propose", "faster_rcnn"), ("train", "fast_rcnn"), ("predict", "fast_rcnn"))
    ]


def run_forked(command, stdout, stderr):
    """Stand in for ``subprocess.run`` of a step, whose process would take seconds to start."""
    assert command[:4] == [sys.executable, "-W", "ignore", "-m"] and stderr == subprocess.STDOUT
    process = start_program(command[4], command[5:], Path(stdout.name))
    process.join()
    return subprocess.CompletedProcess(command, process.exitcode)


@pytest.mark.slow
def test_whole_comparison(tmp_path, monkeypatch, capsys):
    """With proposals and with masks, twice: the second run finds every step done."""
    for split, count in (("train", 6), ("val", 3)):
        generate_shapes(tmp_path / "shapes", split, count, size=128)
    folders = {split: tmp_path / "shapes" / split for split in ("train", "val")}
    data = [[f"few_{split}", f"{folder}/annotations.json", f"{folder}/images"] for split, folder in folders.items()]
    opts = ["DATASETS.COCO_JSON", str(data), "DATASETS.TRAIN", "('few_train',)", "DATASETS.TEST", "('few_val',)"]
    opts += ["MODEL.WEIGHTS", "''", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
    opts += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"]
    arguments = ["--iterations", "2", "--systems", "yolact", "fast_rcnn"]
    arguments += ["--output", str(tmp_path / "out"), "--document", str(tmp_path / "comparison.md"), "--opts", *opts]
    with monkeypatch.context() as patch:
        patch.setattr(compare_systems.subprocess, "run", run_forked)
        main(arguments)
    assert "done before" not in capsys.readouterr().out
    command = [sys.executable, "-m", "benchmarks.compare_systems", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done before") == 6
    table = rows((tmp_path / "comparison.md").read_text())
    assert set(table) == {"YOLACT", "Fast R-CNN"}
    for title, cells in table.items():
        assert (cells[0] == "–") is (title == "Fast R-CNN")
        assert re.fullmatch(r"\d+\.\d", cells[2]) and re.fullmatch(r"\d+\.\d\d M", cells[5])
        for gigabytes in cells[-2:]:
            assert 0.2 < float(gigabytes.split()[0]) < 20
    records = read_records(tmp_path / "out")
    assert "seconds_per_image" in records["faster_rcnn"]["propose"] and "predict" not in records["faster_rcnn"]
    assert records["yolact"]["predict"]["images"] == 3 and records["yolact"]["train"]["from_scratch"]
