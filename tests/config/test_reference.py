"""The reference of options is complete and fresh, and the command shows configs."""

from pathlib import Path

import pytest
import yaml
from detectron2.config import get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.cli import main
from centermask_solo.config.options import SUBJECTS, nms
from centermask_solo.config.reference import configuration_page, read_entries
from centermask_solo.config.trees import flatten

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def added_options() -> set[str]:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return flatten(cfg).keys() - flatten(get_cfg()).keys()


def test_every_option_has_an_entry_with_a_meaning():
    entries = [entry for module in (*SUBJECTS, nms) for entry in read_entries(module)]
    assert [entry.key for entry in entries if not entry.meaning] == []
    keys = [entry.key for module in SUBJECTS for entry in read_entries(module)]
    assert len(set(keys)) == len(keys)
    schema = {entry.key for entry in read_entries(nms)}
    groups = {key for key in keys if key.endswith(".NMS")}
    assert set(keys) - groups | {f"{group}.{name}" for group in groups for name in schema} == added_options()


def test_the_page_is_fresh():
    """If it fails: centermask-solo config docs > docs/configuration.md."""
    assert PAGE.read_text(encoding="utf-8") == configuration_page()


def test_the_command_prints_the_page(capsys):
    main(["config", "docs"])
    assert capsys.readouterr().out == configuration_page()


def test_comments_above_and_behind_an_option_describe_it():
    entries = {entry.key: entry for module in SUBJECTS for entry in read_entries(module)}
    assert entries["MODEL.SOLOV2.NUM_CLASSES"].meaning.startswith('foreground classes; 0 or "auto": those of the data')
    assert entries["MODEL.SOLOV2.NUM_CLASSES"].heading == ""
    assert entries["MODEL.SOLOV2.LOSS.MASK_WEIGHT"].heading == "Losses"
    assert entries["DATASETS.COCO_JSON"].meaning.startswith("COCO-format datasets to register, [[name, annotation")
    assert entries["MODEL.ROI_MASK_HEAD.LEVEL_ASSIGNMENT"].heading == "RoI heads"


def test_show_prints_the_merged_config(capsys):
    main(["config", "show", "shapes/yolact_shapes.yaml", "SOLVER.MAX_ITER", "7"])
    shown = flatten(yaml.safe_load(capsys.readouterr().out))
    assert shown["MODEL.YOLACT.INPUT_SIZE"] == 384 and shown["SOLVER.MAX_ITER"] == 7
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    assert shown.keys() == flatten(cfg).keys()


@pytest.mark.parametrize("place", [0, 1, 3], ids=["before the file", "after the file", "among the overrides"])
def test_show_prints_differences_alone(capsys, place):
    words = ["shapes/yolact_shapes.yaml", "SOLVER.MAX_ITER", "7", "TEST.EVAL_PERIOD", "0"]
    main(["config", "show", *words[:place], "--diff", *words[place:]])
    shown = flatten(yaml.safe_load(capsys.readouterr().out))
    assert shown["MODEL.YOLACT.INPUT_SIZE"] == 384 and shown["SOLVER.MAX_ITER"] == 7
    assert "TEST.EVAL_PERIOD" not in shown and "MODEL.SOLOV2.NUM_CLASSES" not in shown and len(shown) < 60


def test_show_names_what_is_wrong(capsys):
    with pytest.raises(SystemExit) as end:
        main(["config", "show", "shapes/yolact_shapes.yaml", "SOLVER.MAX_ITERS", "7"])
    assert end.value.code == 2 and "the nearest one is SOLVER.MAX_ITER" in capsys.readouterr().err
