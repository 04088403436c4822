"""One HTML file with everything inside: text, tables, and pictures that can be filtered. It loads nothing else."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from PIL import Image

from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from ..utils.text import printable
from .labels import Picture

SUFFIXES = (".html", ".htm")
JPEG_QUALITY = 85

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 1.5rem auto; max-width: 110rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: 0.6rem 0; }}
th, td {{ border-bottom: 1px solid #8886; padding: 0.2rem 0.7rem; text-align: left; vertical-align: top; }}
.number {{ font-variant-numeric: tabular-nums; text-align: right; }}
.table {{ overflow-x: auto; }}
.filters {{ background: Canvas; display: flex; flex-wrap: wrap; gap: 1rem; padding: 0.5rem 0; }}
.filters {{ position: sticky; top: 0; }}
.figures {{ display: grid; gap: 0.8rem; }}
.figures {{ grid-template-columns: repeat(auto-fill, minmax(min(var(--width), 100%), 1fr)); }}
figure {{ margin: 0; }}
.charts {{ align-items: end; display: flex; flex-wrap: wrap; gap: 0.8rem; }}
figure[hidden] {{ display: none; }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
img {{ height: auto; max-height: 24rem; max-width: 100%; width: auto; }}
.charts img {{ max-height: none; }}
figcaption {{ font-size: 0.85rem; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""
# A figure is shown if one of its objects fits all menus, and its name holds the text
_SCRIPT = """<script>
for (const section of document.querySelectorAll("section.filtered")) {
  const text = section.querySelector("input"), menus = [...section.querySelectorAll("select")];
  const count = section.querySelector("output"), figures = [...section.querySelectorAll("figure")];
  const fits = (figure) => {
    const chosen = menus.filter((menu) => menu.value !== "");
    const objects = JSON.parse(figure.dataset.objects);
    return figure.dataset.name.toLowerCase().includes(text.value.toLowerCase()) &&
      (!chosen.length || objects.some((x) => chosen.every((menu) => x[menu.name] === menu.value)));
  };
  const update = () => {
    for (const figure of figures) figure.hidden = !fits(figure);
    count.textContent = figures.filter((x) => !x.hidden).length + " of " + figures.length + " pictures";
  };
  for (const control of [text, ...menus]) control.addEventListener("input", update);
  update();
}
</script>
"""


@dataclass(frozen=True)
class Figure:
    """A picture with a caption.

    Attributes:
        picture: (H, W, 3) uint8, RGB.
        caption: Text below it.
        name: What the text filter looks at, such as the name of a file.
        objects: Properties of what it shows, such as ``[{"class": "dog", "size": "small"}]``; each gets a menu.
        lossless: Whether it is stored as PNG, for plots, and not as JPEG, for photographs.
    """

    picture: Picture
    caption: str
    name: str = ""
    objects: Sequence[Mapping[str, str]] = ()
    lossless: bool = False


class HTMLPage:
    """A page that grows from top to bottom; nothing is written before :meth:`write`."""

    def __init__(self, title: str) -> None:
        """
        Args:
            title: Its name and its heading.
        """
        self._parts = [_HEAD.format(title=_escape(title))]
        self._has_filters = False

    def heading(self, text: str) -> None:
        """Add the heading of a section."""
        self._parts.append(f"<h2>{_escape(text)}</h2>\n")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{_escape(text)}</p>\n")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; columns of numbers are aligned to the right, with equally many digits after the point."""
        cells = [list(row) for row in rows]
        columns = [_column([row[i] for row in cells]) for i in range(len(header))]
        head = "".join(_cell("th", *cell) for cell in zip(header, (right for right, _ in columns), strict=True))
        lines = zip(*([_cell("td", text, right) for text in texts] for right, texts in columns), strict=True)
        body = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
        table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
        self._parts.append(f'<div class="table">\n{table}\n</div>\n')

    def figures(self, figures: Iterable[Figure], *, filters: bool = False, width: int = 20) -> None:
        """Add pictures side by side.

        Args:
            figures: They are encoded one by one, so that a generator needs the memory of one picture.
            filters: Whether to put a search for names and a menu for each property of the objects above them.
            width: The least width of a picture, in the size of letters, if the window has it.
        """
        shown: list[str] = []
        values: dict[str, set[str]] = {}
        for figure in figures:
            shown.append(_figure(figure))
            for x in figure.objects:
                for key, value in x.items():
                    values.setdefault(key, set()).add(value)
        self._parts.append('<section class="filtered">\n' if filters else "<section>\n")
        if filters:
            self._has_filters = True
            self._parts.append(_filters(values))
        self._parts += [f'<div class="figures" style="--width: {width}rem">\n', *shown, "</div>\n</section>\n"]

    def charts(self, figures: Iterable[Figure]) -> None:
        """Add charts in their own size, side by side where there is room."""
        self._parts += ['<div class="charts">\n', *map(_figure, figures), "</div>\n"]

    def write(self, path: str) -> None:
        """Write the page.

        Args:
            path: File to write; its folder is created if missing.

        Raises:
            ConfigError: The file cannot be written, or its name does not end like that of a page.
        """
        check_page_name(path)
        with atomic_write(path) as file:
            file.writelines([*self._parts, _SCRIPT if self._has_filters else "", "</body>\n</html>\n"])


def check_page_name(path: str) -> None:
    """Raise ConfigError unless a file name ends like that of an HTML page."""
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise ConfigError(f"{path} does not have the extension of a page: choose a name that ends with .html")


def _escape(text: object) -> str:
    return html.escape(printable(str(text)))


def _column(cells: Sequence[object]) -> tuple[bool, list[str]]:
    """Return whether the cells of a column are numbers, but for empty ones, and their texts."""
    numbers = [x for x in cells if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if not numbers or len(numbers) < sum(x != "" for x in cells):
        return False, [str(x) for x in cells]
    floats = [x for x in numbers if isinstance(x, float) and math.isfinite(x)]
    places = max(-int(Decimal(repr(x)).as_tuple().exponent) for x in [*floats, 0])  # of 1e+20 none, not fewer
    return True, [f"{x:,.{places}f}" if isinstance(x, float) else f"{x:,}" if x != "" else "" for x in cells]


def _cell(tag: str, text: str, right: bool) -> str:
    start = f'{tag} class="number"' if right else tag
    return f"<{start}>{_escape(text)}</{tag}>"


def _filters(values: Mapping[str, set[str]]) -> str:
    menus = ""
    for key, names in values.items():
        options = "".join(f'<option value="{_escape(x)}">{_escape(x)}</option>' for x in sorted(names))
        menus += f'<label>{_escape(key)} <select name="{_escape(key)}"><option value="">any</option>{options}'
        menus += "</select></label>\n"
    search = '<label>name <input type="search" size="24" autocomplete="off"></label>\n'
    return f'<div class="filters">\n{search}{menus}<output></output>\n</div>\n'


def _figure(figure: Figure) -> str:
    kind = "png" if figure.lossless else "jpeg"
    file = io.BytesIO()
    Image.fromarray(figure.picture).save(file, kind, **({} if figure.lossless else {"quality": JPEG_QUALITY}))
    content = base64.b64encode(file.getvalue()).decode()
    distinct = [dict(x) for x in {tuple(sorted(x.items())): x for x in figure.objects}.values()]
    height, width = figure.picture.shape[:2]
    return (
        f'<figure data-name="{_escape(figure.name)}" data-objects="{_escape(json.dumps(distinct))}">\n'
        f'<img src="data:image/{kind};base64,{content}" alt="{_escape(figure.caption)}" '
        f'width="{width}" height="{height}">\n<figcaption>{_escape(figure.caption)}</figcaption>\n</figure>\n'
    )
