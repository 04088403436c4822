"""Letters of any script in pictures: from the font that comes with Matplotlib, or else from an installed one."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import matplotlib
from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

REGULAR, BOLD = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf"  # both have letters of most alphabets, but none of CJK
_LESS = re.compile(r"bold|italic|oblique|black|light|thin|mono|serif|condensed", re.IGNORECASE)
_INVISIBLE = ("Zs", "Zl", "Zp", "Cc", "Cf")  # categories of letters without a picture


@lru_cache(maxsize=64)
def load_font(path: str, size: float) -> ImageFont.FreeTypeFont:
    """Return a font file, or one of those that come with Matplotlib; ``size`` in pixels."""
    return ImageFont.truetype(os.path.join(_folder(), path), size)


def text_length(text: str, size: float, name: str = REGULAR) -> float:
    """Return the width of a text in pixels."""
    return float(sum(load_font(path, size).getlength(letters) for path, letters in runs_of(text, name)))


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: float, *, fill: Any, name: str = REGULAR
) -> None:
    """Draw a text, whatever its script.

    Args:
        draw: Where to.
        place: x of its left end, y of the upper end of the line.
        text: The text.
        size: Of the font in pixels.
        fill: Its color.
        name: One of Matplotlib's fonts, which has most letters.
    """
    left, baseline = place[0], place[1] + load_font(name, size).getmetrics()[0]
    for path, letters in runs_of(text, name):
        font = load_font(path, size)
        draw.text((left, baseline), letters, font=font, fill=fill, anchor="ls")
        left += font.getlength(letters)


@lru_cache(maxsize=4096)
def runs_of(text: str, name: str = REGULAR) -> tuple[tuple[str, str], ...]:
    r"""Return the parts of a text that are of one font, and its path; escapes such as ``\u732b`` for what no font has.

    Args:
        text: The text.
        name: One of Matplotlib's fonts, which is asked first.
    """
    default, found = os.path.join(_folder(), name), list[tuple[str, str]]()
    for letter in text:
        is_control = unicodedata.category(letter) == "Cc"
        path = default if _has(default, letter) else _font_with(letter)
        if not path:
            _warn()
        shown = " " if is_control else letter if path else letter.encode("ascii", "backslashreplace").decode()
        path = path or default
        if found and found[-1][0] == path:
            found[-1] = path, found[-1][1] + shown
        else:
            found.append((path, shown))
    return tuple(found)


def fit_fonts(figure: Figure) -> None:
    """Let the texts of a chart be drawn as they are, whatever their script and their signs, such as ``$``."""
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    for x in figure.findobj(Text):
        x.set_parse_math(False)
        runs = runs_of(x.get_text())
        others = dict.fromkeys(path for path, _ in runs if os.path.basename(path) != REGULAR)
        for path in others:
            fontManager.addfont(path)
        if others:
            x.set_fontfamily([*x.get_fontfamily(), *(FontProperties(fname=path).get_name() for path in others)])
        x.set_text(_shown(x.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        names = [x.get_text() for x in axis.get_ticklabels()]
        if [_shown(x) for x in names] != names:  # which it would replace by those that it knows
            axis.set_ticklabels([_shown(x) for x in names])


def _shown(text: str) -> str:
    """Return a text with escapes for the letters that no font has."""
    return "\n".join("".join(letters for _, letters in runs_of(line)) for line in text.split("\n"))


def _folder() -> str:
    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf")


def _has(path: str, letter: str) -> bool:
    if unicodedata.category(letter) in _INVISIBLE:
        return True
    face = _face(path)
    return face is not None and bool(face.get_char_index(ord(letter)))


@cache
def _font_with(letter: str) -> str:
    """Return the path of an installed font that has a letter; "" if there is none."""
    return next((path for path in _installed() if _has(path, letter)), "")


@cache
def _installed() -> list[str]:
    """Return the paths of the fonts of this machine, regular ones without serifs first."""
    from matplotlib.font_manager import findSystemFonts  # only here, because it takes time

    paths = sorted({str(x) for x in findSystemFonts()})
    return sorted(paths, key=lambda path: len(_LESS.findall(os.path.basename(path))))


@lru_cache(maxsize=1024)
def _face(path: str) -> Any:
    """Return the glyphs of a font file; None if it cannot be drawn in any size."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(path)
        ImageFont.truetype(path, 10)
    except (OSError, RuntimeError, ValueError):  # damaged, or of a kind that FreeType does not know
        return None
    return face if face.scalable and "LastResort" not in face.postscript_name else None


@cache
def _warn() -> None:
    logger.warning(
        "No installed font has all letters of the names, and pictures show some as numbers, such as \\u732b: install a "
        "font of their script, such as Noto Sans CJK"
    )
