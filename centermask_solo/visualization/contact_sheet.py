"""Contact sheets: many images next to their ground truth and predictions, in a picture that fits a screen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image, ImageDraw

from ..data.images import read_image
from ..utils.errors import ConfigError
from ..utils.files import atomic_write
from .drawing import MAX_LABELED, ColorBy, Style, annotated_masks, draw_ground_truth, draw_predictions
from .fonts import BOLD, REGULAR, draw_text, load_font, text_length
from .labels import Picture

# All in pixels
MAX_WIDTH, MAX_HEIGHT = 1600, 1000  # of the sheet, unless panels would become smaller than MIN_PANEL
MAX_PANEL, MIN_PANEL = 400, 120  # longer side of each panel
GAP, MARGIN, HEADER, CAPTION = 4, 12, 28, 20  # between panels, around samples, of the titles, below each panel
TITLE_FONT, CAPTION_FONT = 14, 12

TITLES = ("image", "ground truth", "prediction ≥ {:.2f}")
PANELS = len(TITLES)


@dataclass(frozen=True)
class Layout:
    """Where the panels of a sheet are.

    Attributes:
        panel: Longer side of each panel in pixels.
        columns: Samples per row.
        heights: Height of the panels in each row.
        panels: Panels of each sample.
    """

    panel: int
    columns: int
    heights: tuple[int, ...]
    panels: int = PANELS

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the sheet."""
        width = MARGIN + self.columns * self._sample_width
        return width, HEADER + sum(self.heights) + len(self.heights) * CAPTION + MARGIN

    @property
    def _sample_width(self) -> int:
        return self.panels * self.panel + (self.panels - 1) * GAP + MARGIN

    def corner(self, sample: int, panel: int) -> tuple[int, int]:
        """Return (left, top) of a panel (0..2) of a sample."""
        row, column = divmod(sample, self.columns)
        left = MARGIN + column * self._sample_width + panel * (self.panel + GAP)
        return left, HEADER + sum(self.heights[:row]) + row * CAPTION


def plan(sizes: Sequence[tuple[int, int]], panels: int = PANELS) -> Layout:
    """Return the layout with the largest panels that fit ``MAX_WIDTH`` x ``MAX_HEIGHT``.

    Args:
        sizes: (width, height) of each image.
        panels: Panels of each sample.
    """
    smallest = [_arrange(sizes, columns, MIN_PANEL, panels) for columns in range(1, len(sizes) + 1)]
    possible = [x for x in smallest if x.size[0] <= MAX_WIDTH]
    fitting = [_enlarge(sizes, x) for x in possible if x.size[1] <= MAX_HEIGHT]
    return max(fitting, key=lambda x: x.panel) if fitting else possible[-1]


def _enlarge(sizes: Sequence[tuple[int, int]], layout: Layout) -> Layout:
    """Return the layout with the same number of columns and the largest panels that fit."""
    while layout.panel < MAX_PANEL:
        larger = _arrange(sizes, layout.columns, layout.panel + 1, layout.panels)
        if larger.size[0] > MAX_WIDTH or larger.size[1] > MAX_HEIGHT:
            break
        layout = larger
    return layout


def _arrange(sizes: Sequence[tuple[int, int]], columns: int, panel: int, panels: int) -> Layout:
    """Return the layout with ``columns`` samples per row and panels of ``panel`` pixels."""
    heights = [fit(size, panel)[1] for size in sizes]
    rows = tuple(max(heights[i : i + columns]) for i in range(0, len(sizes), columns))
    return Layout(panel, columns, rows, panels)


def fit(size: tuple[int, int], panel: int) -> tuple[int, int]:
    """Return (width, height) of an image whose longer side becomes ``panel``."""
    scale = panel / max(size)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def shrink(picture: Picture, side: int) -> Picture:
    """Return a picture, (H, W, 3) uint8, whose longer side has at most ``side`` pixels."""
    if max(picture.shape[:2]) <= side:
        return picture
    image = Image.fromarray(picture)
    return np.asarray(image.resize(fit(image.size, side), Image.Resampling.LANCZOS))


def contact_sheet(
    dataset_dicts: Sequence[Mapping[str, Any]],
    predictions: Sequence[Instances],
    metadata: Metadata,
    path: str,
    score_threshold: float,
    color_by: ColorBy = "instance",
) -> str:
    """Draw image, ground truth and prediction of each sample, several samples per row; return ``path``.

    Args:
        dataset_dicts: Images in Detectron2's standard format: ``file_name``, ``height``, ``width`` and, for ground
            truth, ``annotations``.
        predictions: Instances of each image, in its frame: ``scores``, ``pred_classes``, and ``pred_masks`` or
            ``pred_boxes``.
        metadata: Its ``thing_classes`` are the class names.
        path: File to write; its extension determines the format. Its folder is created if missing.
        score_threshold: Detections with lower scores are dropped.
        color_by: What has a color of its own: each instance, or each class, the same in ground truth and predictions.

    Raises:
        ConfigError: There are no images, or the extension is not that of a picture.
    """
    check_picture_name(path)
    if not dataset_dicts:
        raise ConfigError(f"there is nothing to draw in {path}: choose a dataset that has images")
    images = [Image.fromarray(read_image(record["file_name"], "RGB", max_pixels=0)) for record in dataset_dicts]
    layout = plan([image.size for image in images])
    sheet = Image.new("RGB", layout.size, "white")
    _draw_titles(sheet, layout, score_threshold, min(layout.columns, len(images)))
    for i, (record, image, instances) in enumerate(zip(dataset_dicts, images, predictions, strict=True)):
        resized = np.asarray(image.resize(fit(image.size, layout.panel), Image.Resampling.LANCZOS))
        found = instances[instances.scores >= score_threshold]
        panels = (
            (resized, os.path.basename(record["file_name"])),
            (
                draw_ground_truth(resized, record, metadata, color_by=color_by),
                _count(len(annotated_masks(record)), "object"),
            ),
            (draw_predictions(resized, found, metadata, Style(color_by)), _count(len(found), "detection")),
        )
        for j, (picture, caption) in enumerate(panels):
            _paste(sheet, layout, layout.corner(i, j), picture, caption)
    _save(sheet, path)
    return path


def picture_sheet(pictures: Sequence[Picture], captions: Sequence[str], path: str) -> None:
    """Write one sheet of pictures with captions, as large as fits, in rows.

    Args:
        pictures: (H, W, 3) uint8, RGB; at least one.
        captions: Text below each.
        path: File to write; its extension determines the format. Its folder is created if missing.

    Raises:
        ConfigError: The extension is not that of a picture.
    """
    layout = plan([(x.shape[1], x.shape[0]) for x in pictures], panels=1)
    sheet = Image.new("RGB", layout.size, "white")
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        image = Image.fromarray(picture)
        resized = np.asarray(image.resize(fit(image.size, layout.panel), Image.Resampling.LANCZOS))
        _paste(sheet, layout, layout.corner(i, 0), resized, caption)
    _save(sheet, path)


def check_picture_name(path: str, others: Sequence[str] = ()) -> str:
    """Return the format that the extension of a file name says.

    Args:
        path: The name.
        others: Extensions that would be right, too, for the message.

    Raises:
        ConfigError: It is not that of a picture.
    """
    file_format = Image.registered_extensions().get(os.path.splitext(path)[1].lower())
    if file_format is None or file_format not in Image.SAVE:
        right = f"{', '.join([*others, '.png'])} or .jpg"
        raise ConfigError(f"{path} does not have the extension of a picture: choose a name that ends with {right}")
    return file_format


def _save(sheet: Image.Image, path: str) -> None:
    file_format = check_picture_name(path)
    with atomic_write(path, "wb") as file:
        sheet.save(file, format=file_format)


def _draw_titles(sheet: Image.Image, layout: Layout, score_threshold: float, columns: int) -> None:
    for column in range(columns):
        for j, title in enumerate(TITLES):
            middle = (layout.corner(column, j)[0] + layout.panel / 2, HEADER / 2)
            _write(sheet, middle, title.format(score_threshold), layout.panel, TITLE_FONT, BOLD)


def _paste(sheet: Image.Image, layout: Layout, corner: tuple[int, int], picture: Picture, caption: str) -> None:
    left, top = corner
    sheet.paste(Image.fromarray(picture), (left + (layout.panel - picture.shape[1]) // 2, top))
    middle = (left + layout.panel / 2, top + picture.shape[0] + CAPTION / 2)
    _write(sheet, middle, caption, layout.panel, CAPTION_FONT, REGULAR)


def _write(sheet: Image.Image, middle: tuple[float, float], text: str, width: int, size: int, font: str) -> None:
    """Write a text around a point, cut at the end to fit ``width`` pixels."""
    shown = text
    while text_length(shown, size, font) > width and len(shown) > 1:
        text = text[:-1]
        shown = text + "…"
    place = middle[0] - text_length(shown, size, font) / 2, middle[1] - sum(load_font(font, size).getmetrics()) / 2
    draw_text(ImageDraw.Draw(sheet), place, shown, size, fill="black", name=font)


def _count(number: int, what: str) -> str:
    text = f"{number or 'no'} {what}{'' if number == 1 else 's'}"
    return f"{text}, unlabeled" if number > MAX_LABELED else text
