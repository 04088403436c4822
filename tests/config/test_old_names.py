"""Old option names are errors that name the new one, or are ignored; wherever they come from."""

import logging

import pytest
from detectron2.config import CfgNode, get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import merge_config
from centermask_solo.config.old_names import OLD_NAMES, SOURCES
from centermask_solo.config.trees import flatten, keys_of, nest, to_yaml
from centermask_solo.utils.errors import ConfigError

GROUP = "MODEL.ROI_MASKIOU_HEAD"  # of a file, the whole group is named
RENAMED = [key for key, old in OLD_NAMES.items() if old.new]
IGNORED = [key for key, old in OLD_NAMES.items() if not old.new]


def make_cfg() -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return cfg


KEYS = set(keys_of(make_cfg()))


def test_each_old_name_is_listed_once():
    assert len(OLD_NAMES) == sum(len(names) for names in SOURCES.values())


@pytest.mark.parametrize("key", OLD_NAMES)
def test_old_names_are_gone_and_new_ones_exist(key):
    assert key not in KEYS
    new = OLD_NAMES[key].new
    assert OLD_NAMES[key].note if new is None else new in KEYS


@pytest.mark.parametrize("origin", ["file", "base", "overrides", "weights"])
@pytest.mark.parametrize("key", RENAMED)
def test_a_renamed_option_is_an_error_that_names_the_new_one(key, origin, tmp_path):
    (tmp_path / "old.yaml").write_text(to_yaml({key: 1}))
    (tmp_path / "child.yaml").write_text('_BASE_: "old.yaml"\n')
    config = {
        "file": str(tmp_path / "old.yaml"),
        "base": str(tmp_path / "child.yaml"),
        "overrides": "",
        "weights": CfgNode(nest({key: 1})),
    }[origin]
    named = GROUP if key.startswith(GROUP) and origin != "overrides" else key
    with pytest.raises(ConfigError, match=rf"^the option {named} is now {OLD_NAMES[named].new}\b") as error:
        merge_config(make_cfg(), config, [key, "1"] if origin == "overrides" else [])
    assert "\n" not in str(error.value)
    assert ("centermask-solo config convert" in str(error.value)) is (origin in ("file", "base"))


def test_a_renamed_group_is_an_error_that_names_the_new_one(tmp_path):
    (tmp_path / "old.yaml").write_text("MODEL:\n  ROI_MASKIOU_HEAD:\n    NUM_CONV: 2\n    CONV_DIM: 128\n")
    with pytest.raises(ConfigError, match=r"^the option MODEL\.ROI_MASKIOU_HEAD is now MODEL\.CENTERMASK\.MASK_IOU;"):
        merge_config(make_cfg(), str(tmp_path / "old.yaml"), [])


@pytest.mark.parametrize(
    ("key", "in_file"),
    [(key, in_file) for key in IGNORED for in_file in (True, False) if not (in_file and key.startswith(GROUP))],
)
def test_an_option_without_effect_is_ignored_with_one_line_in_the_log(key, in_file, tmp_path, caplog):
    (tmp_path / "old.yaml").write_text(to_yaml({key: 1, "VERSION": 2}))
    cfg = make_cfg()
    with caplog.at_level(logging.WARNING):
        merge_config(cfg, str(tmp_path / "old.yaml") if in_file else "", [] if in_file else [key, "1"])
    assert [record.getMessage() for record in caplog.records] == [f"Deprecated config key (ignoring): {key}"]
    assert flatten(cfg) == flatten(make_cfg())
