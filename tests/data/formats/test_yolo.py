from centermask_solo.data.formats.yolo import yolo_lines


def test_a_line_is_the_class_and_the_share_of_each_side():
    assert yolo_lines([[[0, 0, 50, 0, 50, 25.5]], []], [7, 1], 100, 50) == ["7 0 0 0.5 0 0.5 0.51"]


def test_parts_become_one_polygon():
    (line,) = yolo_lines([[[0, 0, 4, 0, 4, 4, 0, 4], [6, 0, 9, 0, 9, 4, 6, 4]]], [0], 10, 10)
    assert line.startswith("0 0 0 0.4 0 0.6 0 0.9 0") and len(line.split()) == 1 + 2 * 10


def test_coordinates_stay_in_the_image():
    assert yolo_lines([[[-3, 0, 120, 0, 50, 60]]], [0], 100, 50) == ["0 0 0 1 0 0.5 1"]
