"""Config files: found, read without running code, merged, and one-line messages for what is wrong with them."""

import pytest
from detectron2.config import CfgNode, get_cfg

from centermask_solo import add_centermask_solo_config
from centermask_solo.config import find_config_file, given_options, merge_config, read_config_file
from centermask_solo.config.files import config_dir, config_names
from centermask_solo.config.trees import flatten, keys_of, nest, to_yaml
from centermask_solo.utils.errors import ConfigError
from centermask_solo.utils.rules import value_of


def make_cfg() -> CfgNode:
    cfg = get_cfg()
    add_centermask_solo_config(cfg)
    return cfg


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / f"{next(iter(texts))}.yaml")


def test_files_are_found_by_path_and_by_name():
    path = str(config_dir() / "SOLOv2" / "solov2_R_50_3x.yaml")
    for name in (path, "SOLOv2/solov2_R_50_3x.yaml", "configs/SOLOv2/solov2_R_50_3x.yaml"):
        assert find_config_file(name).endswith("SOLOv2/solov2_R_50_3x.yaml")
    assert "SOLOv2/solov2_R_50_3x.yaml" in config_names()
    with pytest.raises(
        ConfigError, match=r"there is no config file SOLOv2/x_R_50_3x\.yaml; the nearest one is SOLOv2/.*R_50_3x"
    ):
        find_config_file("SOLOv2/x_R_50_3x.yaml")


APPLY = """MODEL:
  WEIGHTS: !!python/object/apply:os.system ["touch {marker}"]
"""


@pytest.mark.parametrize("in_base", [False, True])
def test_reading_a_file_runs_no_code(in_base, tmp_path):
    marker = tmp_path / "code_ran"
    texts = {"child": '_BASE_: "code.yaml"\nVERSION: 2\n'} if in_base else {}
    path = write(tmp_path, **texts, code=APPLY.format(marker=marker))
    for attempt in (lambda: merge_config(make_cfg(), path, []), lambda: read_config_file(path)):
        with pytest.raises(ConfigError, match=r"is not a config file: could not determine a constructor .*os.system"):
            attempt()
    assert not marker.exists()


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/object/new:os.system [ls]", "!!python/tuple [1]"])
def test_tags_of_python_objects_are_an_error(tag, tmp_path):
    path = write(tmp_path, code=f"MODEL:\n  WEIGHTS: {tag}\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        merge_config(make_cfg(), path, [])


def test_base_files_are_merged(tmp_path):
    path = write(
        tmp_path,
        child='_BASE_: "middle.yaml"\nSOLVER:\n  MAX_ITER: 3\n',
        middle='_BASE_: ["one.yaml", "two.yaml"]\nSOLVER:\n  MAX_ITER: 2\n  IMS_PER_BATCH: 2\n',
        one="SOLVER:\n  BASE_LR: 0.5\n  MAX_ITER: 1\n",
        two="SOLVER:\n  BASE_LR: 0.25\n",
    )
    assert flatten(read_config_file(path)) == {
        "SOLVER.MAX_ITER": 3,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.25,
    }
    cfg = make_cfg()
    merge_config(cfg, path, ["SOLVER.MAX_ITER", "4"])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR) == (4, 2, 0.25)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"x": ""}, r"x\.yaml is not a config file: "),
        ({"x": "just words"}, r"x\.yaml is not a config file: it has no options"),
        ({"x": "- MODEL"}, r"x\.yaml is not a config file: it has no options"),
        ({"x": "MODEL: [1\n"}, r"x\.yaml is not a config file: while parsing"),
        ({"x": "MODEL:\n  1: 2\n"}, r"there is no config key MODEL\.1; names of options are words"),
        ({"x": '_BASE_: "gone.yaml"\n'}, r"x\.yaml needs the config file .*gone\.yaml: No such file"),
        ({"x": '_BASE_: "y.yaml"\n', "y": '_BASE_: "x.yaml"\n'}, r"x\.yaml is its own _BASE_"),
        ({"x": "MODEL: 3\n"}, r"^MODEL is a group of options, but was given 3$"),
        ({"x": "SOLVER:\n  MAX_ITER: many\n"}, r"key SOLVER\.MAX_ITER expects int, such as 40000, but .* many"),
        ({"x": "SOLVER:\n  MAX_ITERS: 1\n"}, r"no config key SOLVER\.MAX_ITERS; the nearest one is SOLVER\.MAX_ITER$"),
    ],
)
def test_faults_are_one_line_messages(texts, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as error:
        merge_config(make_cfg(), write(tmp_path, **texts), [])
    assert "\n" not in str(error.value)


FLOATS = [key for key, value in flatten(make_cfg()).items() if isinstance(value, float)]


@pytest.mark.parametrize("how", ["overrides", "numbers", "file", "weights"])
def test_integers_are_floats_where_options_are(tmp_path, how):
    """All options whose default is a whole number at once, and some others."""
    assert len(FLOATS) > 100
    cfg, given = make_cfg(), {key: int(value_of(make_cfg(), key)) for key in FLOATS}
    given = {key: value for key, value in given.items() if value == value_of(cfg, key)}
    given |= {"INPUT.COPY_PASTE.PROB": 1, "INPUT.ERASE.PROB": 1, "INPUT.MOSAIC.PROB": 1, "SOLVER.BASE_LR": 1}
    if how in ("overrides", "numbers"):
        convert = str if how == "overrides" else int
        merge_config(cfg, "", [x for key, value in given.items() for x in (key, convert(value))])
    elif how == "file":
        merge_config(cfg, write(tmp_path, x=to_yaml(given)), [])
    else:
        merge_config(cfg, CfgNode(nest(given)), [])
    found = {key: value_of(cfg, key) for key in given}
    assert found == given and {type(x) for x in found.values()} == {float}


def test_only_integers_become_floats():
    for value in ("True", "'1'", "[1]", "x"):
        with pytest.raises(ConfigError, match=r"INPUT\.MOSAIC\.PROB expects float"):
            merge_config(make_cfg(), "", ["INPUT.MOSAIC.PROB", value])


def test_faults_in_overrides_are_one_line_messages():
    with pytest.raises(ConfigError, match=r"must be pairs KEY VALUE, but 'MODEL\.X' has no value"):
        merge_config(make_cfg(), "", ["MODEL.X"])
    for opts in (["MODEL.DEVICE", "cpu", "--overwrite"], ["--output", "x"]):
        with pytest.raises(ConfigError, match=r"^--\w+ follows overrides KEY VALUE: give flags first"):
            merge_config(make_cfg(), "", opts)
    with pytest.raises(ConfigError, match=r"there is no config key MODEL\.WEIGHT; the nearest one is MODEL\.WEIGHTS$"):
        merge_config(make_cfg(), "", ["MODEL.WEIGHT", "x"])
    with pytest.raises(ConfigError, match=r"the overrides: The reserved key '_BASE_' can only be used in files"):
        merge_config(make_cfg(), "", ["_BASE_", "x"])


def test_trees_and_tables_of_options_are_the_same():
    tree = {"A": {"B": 1, "C": {"D": (1, 2)}}, "E": ["x"]}
    flat = {"A.B": 1, "A.C.D": (1, 2), "E": ["x"]}
    assert flatten(tree) == flat and nest(flat) == tree
    assert list(keys_of(tree)) == ["A", "A.B", "A.C", "A.C.D", "E"]
    assert to_yaml(flat) == "A:\n  B: 1\n  C:\n    D: [1, 2]\nE: [x]\n"


def test_the_options_that_a_file_gives_are_read_as_they_are_merged(tmp_path):
    """Also a character that one of PyYAML's two parsers refuses."""
    path = write(tmp_path, x='OUTPUT_DIR: "a\\ud83db"\n')
    merge_config(make_cfg(), path, [])
    assert given_options(path, []) == {"OUTPUT_DIR"}
