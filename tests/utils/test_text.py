from centermask_solo.utils.text import first_line, name_some, nearest, nearest_hint, one_line


def test_nearest():
    assert nearest("solo", ["yolact", "solov2"]) == "solov2"
    assert nearest("solo", []) == nearest("solo", ["mask_rcnn"]) == ""


def test_a_hint_only_where_something_is_similar():
    assert nearest_hint("solo", ["yolact", "solov2"]) == "; the nearest one is solov2"
    assert nearest_hint("zzz", ["yolact", "solov2"]) == ""


def test_name_some():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(["a", "b", "c"], limit=2) == "a, b and 1 more"


def test_first_line():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_one_line():
    assert one_line(ValueError(" one\n  two\t")) == "one two"
