"""The table of the published models is whole, and MODEL_ZOO.md is made from it."""

import json
import re
from pathlib import Path

import pytest

from centermask_solo.cli import main
from centermask_solo.config import config_dir, config_names
from centermask_solo.model_zoo import find_model, list_models
from centermask_solo.model_zoo.tables import COMMAND, markdown
from centermask_solo.utils.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("SOLOv2", "SOLO", "CenterMask", "YOLACT")


OTHERS = {"CenterMask/lvis_centermask_R_50_FPN_ms_3x.yaml", "YOLACT/lvis_yolact_resnet50.yaml"}  # nobody published


def test_each_config_of_a_system_is_a_row_and_each_row_has_one():
    configs = {f"{s}/{p.name}" for s in SYSTEMS for p in (config_dir() / s).glob("*.yaml") if "Base" not in p.name}
    configs -= OTHERS
    rows = [model.config for model in list_models()]
    assert set(rows) == configs
    assert len(rows) == len(configs)


def test_every_config_is_in_one_table_of_model_zoo_md():
    links = re.findall(r"\]\(configs/([^)]+)\)", markdown())
    assert sorted(links) == [name for name in config_names() if "Base" not in name]


def test_models_of_one_system():
    assert [model for system in SYSTEMS for model in list_models(system)] == list_models()
    assert {model.system for model in list_models("YOLACT")} == {"YOLACT"}


def test_an_unknown_model_names_the_nearest():
    assert find_model("SOLOv2/solov2_R_50_3x.yaml").mask_ap == 37.6
    with pytest.raises(ConfigError, match=r"not a published model; the nearest one is SOLOv2/solov2_R_50_3x\.yaml"):
        find_model("SOLOv2/solov2_R50_3x.yaml")


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.config)
def test_row_is_sound(model):
    for ap in (model.mask_ap, model.box_ap, model.pq):
        assert ap is None or 20 < ap < 60
    if model.mask_ap and model.box_ap:
        assert 2 < model.box_ap - model.mask_ap < 6  # a swapped pair is negative
    assert model.speed is None or model.release.speed_unit in ("ms/image", "images/s")
    assert all(a.startswith("https://") and a.endswith(f"/{model.file}") for a in model.addresses)
    assert model.file.endswith(".pth") or not (model.file or model.addresses or model.sha256)
    assert re.fullmatch(r"(?:[0-9a-f]{8}){0,8}", model.sha256)
    assert model.file == "" or (model.release.layout and model.release.page.startswith("https://github.com/"))


def test_files_and_addresses_are_of_one_model_each():
    files = [model.file for model in list_models() if model.file]
    addresses = [address for model in list_models() for address in model.addresses]
    assert len(files) == len(set(files))
    assert len(addresses) == len(set(addresses)) == 18


def test_slower_models_of_a_publication_are_the_better_ones():
    """A figure that is typed into the wrong row is likely to break this."""
    rows = [m for m in list_models("CenterMask") if m.speed and m.release.hardware == "V100" and not m.pq]
    rows.sort(key=lambda m: m.speed)
    plain, deformable = ([m.mask_ap for m in rows if ("DCN" in m.backbone) is dcn] for dcn in (False, True))
    assert plain == sorted(plain)
    assert deformable == sorted(deformable)


def test_model_zoo_md_is_up_to_date():
    text = (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")
    assert text == markdown(), f"MODEL_ZOO.md is stale: {COMMAND}"


def test_links_of_model_zoo_md_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", markdown())
    local = [link.split("#")[0] for link in links if not link.startswith("https://")]
    assert len(local) > len(list_models())
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_markdown_does_not_depend_on_the_machine(tmp_path, monkeypatch, capsys):
    (tmp_path / find_model("YOLACT/yolact_base.yaml").file).touch()
    monkeypatch.setenv("CENTERMASK_SOLO_WEIGHTS", str(tmp_path))
    main(["models", "--markdown"])
    assert capsys.readouterr().out == markdown() == (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8")


def test_the_command_prints_figures_and_where_the_weights_are(tmp_path, monkeypatch, capsys):
    (tmp_path / find_model("SOLOv2/solov2_R_50_3x.yaml").file).touch()
    monkeypatch.setenv("CENTERMASK_SOLO_WEIGHTS", str(tmp_path))
    main(["models"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert len(lines) == len(list_models()) + 2
    assert re.search(r"37\.6 .*COCO val2017 .*47 ms/image, V100 .*local$", lines["SOLOv2/solov2_R_50_3x.yaml"])
    lite = lines["CenterMask/centermask_lite_V_39_eSE_FPN_ms_4x.yaml"]
    assert re.search(r"36\.7 +40\.9 .*Titan Xp +address known$", lite)
    assert lines["YOLACT/yolact_base.yaml"].endswith("no address")
    assert lines["YOLACT/yolact_im400.yaml"].endswith("not published")


def test_the_command_prints_one_system_and_json(monkeypatch, capsys):
    monkeypatch.delenv("CENTERMASK_SOLO_WEIGHTS", raising=False)
    main(["models", "--system", "YOLACT", "--json"])
    rows = {row["config"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [model.config for model in list_models("YOLACT")]
    row = rows["YOLACT/yolact_resnet50.yaml"]
    assert (row["system"], row["weights_state"], row["mask_ap"]) == ("YOLACT", "no address", 28.2)
    assert (row["release"]["split"], row["release"]["layout"]) == ("COCO test-dev", "YOLACT")
