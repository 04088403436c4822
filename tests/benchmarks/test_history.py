"""The history from R-CNN to SOLOv2: its page agrees with the kept results, and its configs with the systems."""

import json

import pytest
from detectron2.config import get_cfg

from benchmarks import history
from benchmarks.compare_systems import END
from benchmarks.history import BEGIN, DOCUMENT, PICTURES, RESULTS, SYSTEMS, collect, options, render, steps_of
from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.demo import demo_configs
from centermask_solo.modeling.option_scope import check_options_are_read
from centermask_solo.utils.errors import ConfigError

MACHINE = {"device": "A CPU, 1 thread", "cores": 2, "torch": "2", "torchvision": "0", "detectron2": "0.7"}
ABOUT = {"machine": MACHINE, "date": "2026-01-02", "libraries_mb": 700.0}
MAX_BYTES = 1_500_000  # of all pictures


def record(masks=True):
    metrics = {"AP": 12.34, "AP50": 20.0}
    results = {"bbox": metrics} | ({"segm": metrics} if masks else {})
    return {
        "iterations": 7,
        "search": {"seconds_per_image": 0.1} | ABOUT,
        "train": {"cpu_seconds": 90.0, "batch": 2, "images": 600, "parameters": 2_500_000, "peak_mb": 1700.0} | ABOUT,
        "predict": {"images": 60, "peak_mb": 900.0, "results": results} | ABOUT,
        "stages": {"stages": {"backbone": 0.0101, "masks": 0.002, "rest": 0.0009}, "images": 20} | ABOUT,
    }


def test_the_page_agrees_with_the_kept_results():
    text = DOCUMENT.read_text(encoding="utf-8")
    generated = text.split(BEGIN)[1].split(END)[0].strip()
    assert generated == render(json.loads(RESULTS.read_text(encoding="utf-8"))).strip()


def test_pictures_are_small():
    pictures = [PICTURES / f"history_{name}.jpg" for name in json.loads(RESULTS.read_text(encoding="utf-8"))["systems"]]
    assert sorted(pictures) == sorted(PICTURES.glob("history_*.jpg"))
    assert sum(path.stat().st_size for path in pictures) < MAX_BYTES


@pytest.mark.parametrize("system", SYSTEMS)
def test_options_fit_the_config(system, tmp_path):
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    merge_config(cfg, demo_configs()[system], options(system, tmp_path))
    check_options_are_read(cfg)
    assert cfg.MODEL.LOAD_PROPOSALS is (steps_of(system)[0] == ("system_run", "search"))
    assert cfg.INPUT.MAX_SIZE_TEST == history.IMAGE_SIZE


def test_only_finished_systems_are_kept(tmp_path):
    with pytest.raises(ConfigError, match=r"no system in .* is finished"):
        collect(tmp_path)
    unfinished = {key: value for key, value in record().items() if key != "stages"}
    for name, content in {"solo": record(), "yolact": unfinished, "rcnn": record(masks=False)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    found = collect(tmp_path)
    assert list(found["systems"]) == ["rcnn", "solo"] and found["iterations"] == 7


def test_tables():
    text = render({"iterations": 7, "systems": {"rcnn": record(masks=False), "solo": record()}})
    rows = {
        line.split(" | ")[0]: line.strip("| ").split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")
    }
    assert rows["| R-CNN (2014)"] == ["–", "12.3 / 20.0", "0.013 s", "1.5 min", "2.50 M", "1.00 GB", "0.20 GB"]
    assert rows["| SOLO (2020)"][0] == "12.3 / 20.0"
    assert rows["| SOLO"] == ["backbone 10.1 · masks 2.0 · rest 0.9"]
    assert "![SOLO](images/history_solo.jpg)" in text and "yolact" not in text
    assert "7 iterations of 2 images, the same 600 generated ones" in text


def test_a_step_that_is_recorded_is_not_repeated(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(history, "generate_shapes", lambda *args, **kwargs: None)
    monkeypatch.setattr(history, "run_step", lambda module, step, system, *args: ran.append((step, system)))
    content = {key: value for key, value in record().items() if key != "predict"}
    (tmp_path / "solo.json").write_text(json.dumps(content))
    history.run(["solo"], 7, tmp_path)
    assert ran == [("predict", "solo")]
    with pytest.raises(ConfigError, match="holds results of 7 iterations"):
        history.run(["solo"], 8, tmp_path)
