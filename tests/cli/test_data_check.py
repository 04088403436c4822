"""``centermask-solo data check``: what is printed, and with which exit code."""

import json

import pytest

from centermask_solo.cli import main
from tests.cli.test_cli import fails
from tests.data.validation.clean_set import clean, write


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "data", clean())
    return [str(tmp_path / "data" / "data.json"), str(tmp_path / "data")]


def spoil(files, **fields):
    content = clean()
    content["annotations"][0].update(fields)
    with open(files[0], "w") as file:
        json.dump(content, file)


def test_exit_codes(files, capsys):
    main(["data", "check", *files, "--strict"])
    assert capsys.readouterr().out.endswith("no faults found\n")
    spoil(files, area=None)
    main(["data", "check", *files])
    assert "WARNING: 1 x missing or negative area" in capsys.readouterr().out
    code, text = fails(capsys, "data", "check", *files, "--strict")
    assert code == 1 and "[no-area]\nno faults found\n" in text
    main(["data", "check", "--strict", "--skip", "box-*,no-*", *files])
    spoil(files, bbox=[0, 0, 0, 0])
    code, text = fails(capsys, "data", "check", *files, "--only", "box-*")
    assert code == 1 and "FAULT, 1 x box without area: annotation 1 (1.png)" in text
    code, text = fails(capsys, "data", "check", *files, "--only", "box-noarea")
    assert (code, text) == (
        2,
        "error: there is no check 'box-noarea'; the nearest one is box-no-area; --list prints all\n",
    )
    code, text = fails(capsys, "data", "check")
    assert (code, text) == (2, "error: give a dataset, or a --config-file whose DATASETS.TRAIN names one\n")


def test_classes_without_objects_are_counted_and_not_listed(files, capsys):
    content = clean()
    content["categories"].append({"id": 3, "name": "dodo"})
    with open(files[0], "w") as file:
        json.dump(content, file)
    main(["data", "check", *files])
    text = capsys.readouterr().out
    assert "classes: 3; objects per class: robin 12, wren 12\n" in text
    assert "NOTE: 1 x class without objects, such as dodo" in text


def test_folders_of_other_formats(files, capsys):
    code, text = fails(capsys, "data", "check", files[1])
    assert (code, text.count("\n")) == (
        2,
        1,
    ) and f"{files[1]} is a folder, not a registered dataset: give a json" in text
    assert f"'centermask-solo data convert --from {files[1]} --to coco FOLDER' makes one" in text


def test_json(files, capsys):
    spoil(files, iscrowd="0", category_id=9)
    with pytest.raises(SystemExit) as end:
        main(["data", "check", *files, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == 1
    assert (found["ok"], found["num_images"], found["objects_of_class"]) == (False, 4, {"robin": 11, "wren": 12})
    assert sum(found["objects_of_size"].values()) == 24
    assert [(x["id"], x["severity"], x["count"]) for x in found["findings"]] == [
        ("unknown-category", "error", 1),
        ("iscrowd-text", "warning", 1),
    ]
    assert found["findings"][0]["examples"] == ["annotation 1 (1.png): 9 (1, 2 exist)"]


def test_against(files, tmp_path, capsys):
    write(tmp_path / "val", clean(), seed=1)
    other = [str(tmp_path / "val" / "data.json"), str(tmp_path / "val")]
    main(["data", "check", *files, "--strict", "--against", *other])
    code, text = fails(capsys, "data", "check", *files, "--against", *files)
    assert code == 1 and "FAULT, 4 x image whose file is in the other set, too" in text
    code, text = fails(capsys, "data", "check", *files, "--against", *files, "more")
    assert code == 2 and "not 3 words" in text
    code, text = fails(capsys, "data", "check", *files, "--against", files[0])
    assert (code, text) == (2, f"error: give the folder of the images after {files[0]}\n")


def test_dataset_of_a_config(files, tmp_path, capsys):
    data = {"COCO_JSON": [[tmp_path.name, *files]], "TRAIN": [tmp_path.name]}
    (tmp_path / "c.yaml").write_text(json.dumps({"VERSION": 2, "DATASETS": data}))
    main(["data", "check", "--config-file", str(tmp_path / "c.yaml"), "--options", "INPUT.MIN_SIZE_TEST", "300"])
    text = capsys.readouterr().out
    assert text.startswith(f"{tmp_path.name}: 4 images") and "INPUT.MAX_SIZE_TEST [300, 1333] fits" in text


def test_list(capsys):
    main(["data", "check", "--list"])
    assert "\nbox-no-area" in capsys.readouterr().out
    main(["data", "check", "--list", "--json"])
    assert {"id", "severity", "title", "fix"} == set(json.loads(capsys.readouterr().out)[0])
