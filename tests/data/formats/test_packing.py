from __future__ import annotations

import json
import pickle
import random
import tracemalloc

import pytest

from centermask_solo.data.formats import json_stream
from centermask_solo.data.formats.coco import read_coco_json
from centermask_solo.data.formats.packing import PackedRecords

RECORDS = [
    {"id": 1, "segmentation": [[1, 2.5, 3, 4, 5, 6]], "bbox": [0.1, 2, 3, 4], "iscrowd": 0, "note": "naïve ☃"},
    {"id": 2**70, "segmentation": {"size": [4, 5], "counts": [3, 2, 15]}, "iscrowd": 1},
    {"id": None, "segmentation": [[1, 2, "3"], [], [[1, 2]], None, True]},
    {},
]


def plain(record):
    """The record with lists for arrays."""
    polygons = record.get("segmentation")
    if not isinstance(polygons, list):
        return record
    return {**record, "segmentation": [list(p) if hasattr(p, "typecode") else p for p in polygons]}


def test_records_are_what_they_were():
    packed = PackedRecords(RECORDS)
    assert [plain(x) for x in packed] == RECORDS
    assert [plain(packed[i]) for i in range(-4, 4)] == RECORDS * 2
    assert len(packed) == 4 and [plain(x) for x in packed[1:3]] == RECORDS[1:3]
    assert packed[0]["segmentation"][0].typecode == "d"
    with pytest.raises(IndexError):
        packed[4]
    packed[0]["id"] = 5
    assert packed[0]["id"] == 1  # each access makes it anew
    assert list(pickle.loads(pickle.dumps(packed))) == list(packed)


def test_records_take_little_more_than_their_numbers():
    polygon = [random.Random(0).random() for _ in range(70)]
    tracemalloc.start()
    packed = PackedRecords({"id": i, "image_id": i, "segmentation": [polygon]} for i in range(2000))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(packed) == 2000
    assert used < 2000 * 70 * 8 * 1.4  # as objects, over four times


@pytest.mark.parametrize("block", [1, 7, 50, 2**20])
@pytest.mark.parametrize("start", ["", "\ufeff", " \r\n\t"])
def test_files_are_read_piece_by_piece(block, start, tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", block)
    content = {
        "info": {"a": [1, {"images": 2}]},
        "images": [{"id": 3, "file_name": 'ä"]}.jpg'}, {"id": 4}],
        "categories": [],
        "annotations": RECORDS,
        "number": -12.5e3,
    }
    path = tmp_path / "some.json"
    for options in ({"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}):
        path.write_text(start + json.dumps(content, **options), encoding="utf-8")
        with monkeypatch.context() as inside:
            inside.setattr("centermask_solo.data.formats.coco._read_at_once", lambda _: pytest.fail("read at once"))
            data = read_coco_json(str(path))
        assert data.images == content["images"]
        assert [plain(x) for x in data.annotations] == RECORDS
        assert data.byte_order_mark == (start == "\ufeff")


GOOD = '{"images": [], "categories": [], "annotations": [{"id": 1}]}'


@pytest.mark.parametrize("block", [1, 2**20])
def test_what_is_no_json_is_said_as_by_a_parser_of_the_whole(block, tmp_path, monkeypatch):
    """A file is read piece by piece only if it has no fault at all."""
    monkeypatch.setattr(json_stream, "BLOCK", block)
    path = tmp_path / "bad.json"
    for text in [
        *(GOOD[:i] for i in range(1, len(GOOD))),
        GOOD + "x",
        GOOD.replace(":", ";", 1),
        GOOD.replace("1", "]"),
    ]:
        path.write_text(text)
        with pytest.raises(json.JSONDecodeError) as fault:
            json.loads(text)
        with pytest.raises(Exception, match="is not JSON, or truncated") as found:
            read_coco_json(str(path))
        assert f"({fault.value})" in str(found.value)


def test_only_a_window_of_the_text_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", 2**12)
    path = tmp_path / "long.json"
    path.write_text(json.dumps({"images": [], "categories": [], "annotations": [{"id": 1}] * 40_000}, indent=8))
    tracemalloc.start()
    data = read_coco_json(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data.annotations) == 40_000
    assert peak < path.stat().st_size * 0.75  # of which two thirds are what was read, not the text
