"""Options that do not fit the objects of a dataset are found, and the ones that are suggested fit better."""

import json

import numpy as np
import pytest

from centermask_solo.config import default_config, merge_config
from centermask_solo.data.validation.closer import Objects
from centermask_solo.data.validation.fit import MAX_OBJECTS, input_objects, suggest_options
from centermask_solo.data.validation.report import check_dataset
from tests.cli.test_cli import fails
from tests.data.validation.clean_set import clean, write

CONFIGS = (
    "SOLOv2/solov2_R_50_1x.yaml",
    "SOLO/solo_R_50_3x.yaml",
    "YOLACT/yolact_resnet50.yaml",
    "YOLACT/yolact_plus_resnet50.yaml",
    "CenterMask/centermask_R_50_FPN_ms_3x.yaml",
)


def config(name=CONFIGS[0], *options):
    cfg = default_config()
    merge_config(cfg, name, options)
    return cfg


def report_on(folder, *options):
    write(folder, clean())
    return check_dataset(str(folder / "data.json"), str(folder), cfg=config(CONFIGS[0], *options))


def test_a_model_that_fits(tmp_path):
    report = report_on(tmp_path)
    assert not report.warnings and not report.notes
    assert [x.key.rpartition(".")[2] for x in report.suggestions] == ["MAX_SIZE_TEST", "SCALE_RANGES", "NUM_GRIDS"]
    assert all(x.proposed == x.current and x.lost == 0 for x in report.suggestions)
    assert "SUGGESTION: MODEL.SOLOV2.NUM_GRIDS [40, 36, 24, 16, 12] fits: 0.0% of the objects" in str(report)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("objects-uncovered", ["MODEL.SOLOV2.SCALE_RANGES", "((1, 2), (2, 3), (3, 4), (4, 5), (5, 6))"]),
        ("objects-collide", ["MODEL.SOLOV2.NUM_GRIDS", "[1, 1, 1, 1, 1]"]),
        ("objects-shrink", ["INPUT.MIN_SIZE_TEST", "8"]),
    ],
)
def test_models_that_do_not_fit(tmp_path, name, options):
    report = report_on(tmp_path, *options)
    assert [x.rule.id for x in report.warnings.values()] == [name] and report.ok
    assert max(x.lost for x in report.suggestions) > 0.5
    if name == "objects-uncovered":
        assert report.suggestions[1].lost == 1 and report.suggestions[1].lost_then == 0


def random_objects(count, images=40, seed=0):
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(3.0, 1.0, (count, 2))).clip(2, 300)
    corners = random.uniform(0, 1, (count, 2)) * (np.array([640, 480]) - sizes)
    numbers = np.sort(random.integers(0, images, count))
    return Objects(np.concatenate([corners, corners + sizes], axis=1), np.full((count, 2), (640.0, 480.0)), numbers)


@pytest.mark.parametrize("name", CONFIGS)
def test_suggestions_never_lose_more(name):
    found = suggest_options(config(name), random_objects(400))
    assert len(found) >= 2
    assert all(0 <= x.lost_then <= x.lost <= 1 for x in found)
    assert any(x.lost_then < x.lost for x in found)
    merge = [y for x in found if "," not in x.key for y in (x.key, str(x.proposed))]
    config(name, *merge)  # they can be given to a config


def test_the_frame_of_the_input():
    objects = Objects(np.array([[0.0, 0.0, 320.0, 240.0]]), np.array([[640.0, 480.0]]), np.zeros(1, np.int64))
    assert input_objects(config(), objects).boxes.tolist() == [[0, 0, 1067 / 2, 400]]
    assert input_objects(config("YOLACT/yolact_resnet50.yaml"), objects, 2).boxes.tolist() == [[0, 0, 550, 550]]


def test_no_objects_and_many_objects():
    assert suggest_options(config(), random_objects(0)) == []
    many = suggest_options(config(), random_objects(2 * MAX_OBJECTS, images=2000))
    assert many[0].lost == pytest.approx(suggest_options(config(), random_objects(4000, 80, 1))[0].lost, abs=0.05)


def test_command(tmp_path, capsys):
    write(tmp_path, clean())
    files = [str(tmp_path / "data.json"), str(tmp_path), "--skip-images", "--config-file"]
    code, text = fails(capsys, "data", "check", *files, "absent.yaml")
    assert code == 2 and "absent.yaml" in text
    (tmp_path / "c.yaml").write_text(
        "VERSION: 2\nMODEL: {META_ARCHITECTURE: SOLOv2, SOLOV2: {NUM_GRIDS: [1, 1, 1, 1, 1]}}\n"
    )
    code, text = fails(capsys, "data", "check", *files, str(tmp_path / "c.yaml"), "--strict", "--json")
    suggestions = json.loads(text[: text.rindex("}") + 1])["suggestions"]
    assert code == 1 and suggestions[-1]["key"] == "MODEL.SOLOV2.NUM_GRIDS" and suggestions[-1]["lost"] > 0.5
