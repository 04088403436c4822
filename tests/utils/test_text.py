from centermask_solo.utils.text import counted, first_line, name_some, nearest, nearest_hint, one_line


def test_nearest():
    assert nearest("solo", ["yolact", "solov2"]) == "solov2"
    assert nearest("solo", []) == nearest("solo", ["mask_rcnn"]) == ""


def test_a_hint_only_where_something_is_similar():
    assert nearest_hint("solo", ["yolact", "solov2"]) == "; the nearest one is solov2"
    assert nearest_hint("zzz", ["yolact", "solov2"]) == ""


def test_name_some():
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(["a", "b", "c"], limit=2) == "a, b and 1 more"


def test_counted():
    found = [counted(number, noun) for noun in ("image", "class", "category", "day", "box") for number in (1, 2)]
    expected = "1 image, 2 images, 1 class, 2 classes, 1 category, 2 categories, 1 day, 2 days, 1 box, 2 boxes"
    assert found == expected.split(", ") and counted(0, "image") == "0 images"
    assert counted(f"{1.0:.3g}", "epoch") == "1 epoch" and counted(f"{1.5:.3g}", "epoch") == "1.5 epochs"
    assert counted(1, "usable GPU") == "1 usable GPU"


def test_first_line():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_one_line():
    assert one_line(ValueError(" one\n  two\t")) == "one two"
