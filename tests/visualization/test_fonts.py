"""Names of any script in pictures and charts: in a font that has their letters, or as numbers of these."""

import logging

import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from PIL import Image, ImageDraw, ImageFont

from centermask_solo.visualization import charts, fonts
from centermask_solo.visualization.labels import draw_label, label_size

CAT = "猫"


def font_of(folder, letters):
    """Write a font whose letters are all squares of an em."""
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000)
    pen = pytest.importorskip("fontTools.pens.ttGlyphPen").TTGlyphPen(None)
    for i, corner in enumerate([(0, 0), (0, 700), (900, 700), (900, 0)]):
        (pen.lineTo if i else pen.moveTo)(corner)
    pen.closePath()
    names = [".notdef", *(f"u{ord(x):x}" for x in letters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(x): f"u{ord(x):x}" for x in letters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": f"Squares {len(letters)}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = str(folder / f"Squares{len(letters)}.ttf")
    builder.save(path)
    return path


@pytest.fixture
def installed(monkeypatch):
    """Sets which fonts the machine has."""

    def forget():
        for x in (fonts.runs_of, fonts._font_with, fonts._warn):
            x.cache_clear()

    def install(*paths):
        forget()
        monkeypatch.setattr(fonts, "_installed", lambda: list(paths))

    before = list(fontManager.ttflist)
    yield install
    forget()
    fontManager.ttflist[:] = before


def picture(text, size=20):
    image = Image.new("L", (300, 40))
    fonts.draw_text(ImageDraw.Draw(image), (2, 3), text, size, fill=255)
    return np.asarray(image)


def test_ordinary_names_are_drawn_as_by_pillow(installed):
    installed()
    expected = Image.new("L", (300, 40))
    font = fonts.load_font(fonts.REGULAR, 20)
    ImageDraw.Draw(expected).text((2, 3), "Größe жук 0.98", font=font, fill=255)
    assert np.array_equal(picture("Größe жук 0.98"), np.asarray(expected))
    assert fonts.text_length("Größe жук 0.98", 20) == font.getlength("Größe жук 0.98")


def test_letters_come_from_the_first_font_that_has_them(installed, tmp_path, caplog):
    path = font_of(tmp_path, CAT)
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    installed(str(tmp_path / "damaged.ttf"), path)
    assert [letters for _, letters in fonts.runs_of(f"{CAT}{CAT} 0.98")] == [CAT * 2, " 0.98"]
    found = picture(f"a{CAT}b")
    left = 2 + fonts.load_font(fonts.REGULAR, 20).getlength("a")
    assert (found[10:20, round(left) + 1 : round(left) + 16] == 255).all()
    assert fonts.text_length(CAT, 20) == 20 and not caplog.messages


def test_letters_that_no_font_has_are_numbers_and_one_line_says_so(installed, caplog):
    installed()
    assert fonts.runs_of(f"{CAT}\n\udce9 1")[0][1] == "\\u732b \\udce9 1"
    assert np.array_equal(picture(CAT), picture("\\u732b"))
    assert fonts.runs_of("犬")[0][1] == "\\u72ac"
    assert [x.levelno for x in caplog.records] == [logging.WARNING]
    assert "install a font of their script, such as Noto Sans CJK" in caplog.text


def test_names_in_pictures_are_as_large_as_their_letters(installed, tmp_path):
    installed(font_of(tmp_path, CAT))
    canvas = np.zeros((300, 400, 3), np.uint8)
    width, height = label_size(CAT * 3, canvas.shape[:2])
    draw_label(canvas, CAT * 3, (0, 0, width, height), (1, 1, 1))
    assert width == pytest.approx(3 * 10 + 2) and (canvas > 200).all(axis=2).sum() > 180  # of 3 x 63


def test_charts_have_these_fonts_and_no_mathematics(installed, tmp_path, recwarn):
    names = [f"{CAT}犬", "a$b$c$x^{"]
    installed(font_of(tmp_path, names[0]))
    with_font = charts.matrix(np.eye(2), (names, names), ("a", "b"))
    installed()
    without = charts.matrix(np.eye(2), (names, names), ("a", "b"))
    assert not np.array_equal(with_font, without)
    assert not [str(x.message) for x in recwarn if "Glyph" in str(x.message)]


def test_the_fonts_of_this_machine_are_found():
    assert all(path.lower().endswith((".ttf", ".otf", ".ttc")) for path in fonts._installed())
    assert isinstance(fonts.load_font(fonts.BOLD, 9), ImageFont.FreeTypeFont)
