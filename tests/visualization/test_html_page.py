"""An HTML page that holds everything it shows, whatever the names in it."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from centermask_solo.utils.errors import ConfigError
from centermask_solo.visualization.html_page import Figure, HTMLPage

VOID = {"meta", "img", "input"}


class Tags(HTMLParser):
    """Collects the tags and the texts of a page, and that every tag is closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def picture(value=0, shape=(6, 8)):
    return np.full((*shape, 3), value, np.uint8)


def page_of(tmp_path, build):
    page = HTMLPage("A <title>")
    build(page)
    page.write(str(tmp_path / "folder" / "page.html"))
    return Tags((tmp_path / "folder" / "page.html").read_text(encoding="utf-8"))


def test_texts_are_escaped_and_numbers_formatted(tmp_path):
    def build(page):
        page.heading("<b>")
        page.text("a & b \udce9")
        page.table(["name", "count"], [["<script>", 12345], ["x", ""]])

    found = page_of(tmp_path, build)
    assert {"A <title>", "<b>", "a & b \\udce9", "<script>", "12,345"} <= set(found.texts)
    assert found.of("script") == []
    assert [x.get("class") for x in found.of("td")] == [None, "number"] * 2
    assert [x.get("class") for x in found.of("th")] == [None, "number"]


def test_columns_of_numbers_have_equally_many_digits(tmp_path):
    columns = {"0.84": 0.84, "0.70": 0.7, "-": ""}, {"66.0": 66.0, "0.1": 0.1, "1,234.5": 1234.5}
    columns += ({"1e-05": 1e-05, "adamw": "adamw", "True": True}, {"0.00010": 1e-4, "0.00001": 1e-5, "12": 12})
    columns += ({"100,000,000,000,000,000,000": 1e20, "nan": float("nan"), "20": 20},)
    rows = list(zip(*(x.values() for x in columns), strict=True))
    found = page_of(tmp_path, lambda page: page.table(["a", "b", "c", "d", "e"], iter(rows)))
    assert {key for x in columns for key in x if key != "-"} <= set(found.texts)
    assert [x.get("class") for x in found.of("td")[:4]] == ["number", "number", None, "number"]


def test_pictures_are_inside_and_nothing_else_is_loaded(tmp_path):
    figures = [Figure(picture(200), "one"), Figure(picture(7), 'two "', lossless=True)]
    found = page_of(tmp_path, lambda page: page.figures(iter(figures)))
    decoded = []
    for x in found.of("img"):
        kind, _, content = x["src"].partition(";base64,")
        decoded.append((kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))))
    assert [kind for kind, _ in decoded] == ["data:image/jpeg", "data:image/png"]
    assert abs(decoded[0][1].astype(int) - 200).max() <= 2
    np.testing.assert_array_equal(decoded[1][1], picture(7))
    assert [x["alt"] for x in found.of("img")] == ["one", 'two "']
    loaded = [x[key] for _, x in found.tags for key in ("src", "href") if key in x]
    assert all(x.startswith("data:") for x in loaded)
    assert "default-src 'none'" in found.of("meta")[2]["content"]


def test_filters_know_the_properties_of_the_objects(tmp_path):
    objects = [{"class": "dog", "size": "small"}] * 3 + [{"class": "a'b", "size": "large"}]
    figures = [Figure(picture(), "1", "1.png", objects), Figure(picture(), "2", "2.png")]
    found = page_of(tmp_path, lambda page: page.figures(figures, filters=True))
    assert [x["name"] for x in found.of("select")] == ["class", "size"]
    assert [x["value"] for x in found.of("option")] == ["", "a'b", "dog", "", "large", "small"]
    assert [json.loads(x["data-objects"]) for x in found.of("figure")] == [[objects[0], objects[3]], []]
    assert [x["data-name"] for x in found.of("figure")] == ["1.png", "2.png"]
    assert len(found.of("script")) == 1 and [x.get("class") for x in found.of("section")] == ["filtered"]


def test_a_page_has_the_extension_of_one(tmp_path):
    with pytest.raises(ConfigError, match=r"x\.png does not have the extension of a page"):
        HTMLPage("x").write(str(tmp_path / "x.png"))
    assert not list(tmp_path.iterdir())
