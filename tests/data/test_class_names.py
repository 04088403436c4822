import json

import pytest

from centermask_solo.data.class_names import read_class_names

NAMES = ["cat", "dog", "traffic light"]
COCO = {"categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}, {"id": 7, "name": "traffic light"}]}


def test_names_are_names():
    assert read_class_names(NAMES) == NAMES
    assert read_class_names(["cat"]) == ["cat"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.txt", "cat\n dog\n\ntraffic light\n"), ("x.json", json.dumps(NAMES)), ("x.json", json.dumps(COCO))],
)
def test_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_class_names([str(tmp_path / name)]) == NAMES


@pytest.mark.parametrize(("name", "text"), [("x.txt", "\n"), ("x.json", "{}"), ("x.json", "[1]"), ("x.json", "cat")])
def test_files_without_names(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name} does not name classes: give a \.txt file"):
        read_class_names([str(tmp_path / name)])


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="the class 'cat' is named twice"):
        read_class_names(["cat", "dog", "cat"])
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent\.txt"):
        read_class_names([str(tmp_path / "absent.txt")])
