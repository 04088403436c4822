"""Parts of the pictures of history_pictures.py: maps as colors, boxes, grids, cells, and rows of panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from centermask_solo.visualization.fonts import load_font

HEIGHT, GAP, CAPTION = 200, 12, 34  # pixels
YELLOW, RED = (255, 220, 0), (255, 60, 60)
Panel = tuple[str, np.ndarray]  # caption and picture, RGB


def compose(panels: Sequence[Panel]) -> np.ndarray:
    """Return pictures side by side, with captions above them."""
    parts = [resize(part) for _, part in panels]
    canvas = Image.new("RGB", (sum(x.shape[1] + GAP for x in parts) - GAP, HEIGHT + CAPTION), "white")
    draw, font, left = ImageDraw.Draw(canvas), load_font("DejaVuSans.ttf", 12), 0
    for i, ((text, _), part) in enumerate(zip(panels, parts, strict=True)):
        lines = textwrap.wrap(f"{i + 1}. {text}", max(part.shape[1] // 7, 8))
        draw.multiline_text((left, 2), "\n".join(lines), fill="black", font=font, spacing=1)
        canvas.paste(Image.fromarray(part), (left, CAPTION))
        left += part.shape[1] + GAP
    return np.asarray(canvas)


def resize(part: np.ndarray) -> np.ndarray:
    """Return a picture of the common height; small ones keep their pixels visible."""
    scale = HEIGHT / part.shape[0]
    method = cv2.INTER_NEAREST if scale > 2 else cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(part, (max(round(part.shape[1] * scale), 1), HEIGHT), interpolation=method)


def heat(values: Tensor, image: np.ndarray | None = None) -> np.ndarray:
    """Return a map as colors, from blue to red over its range; blended over an image of any size if there is one."""
    v = values.float()
    v = (v - v.min()) / (v.max() - v.min()).clamp(min=1e-6)
    colors = cv2.applyColorMap((v * 255).byte().numpy(), cv2.COLORMAP_VIRIDIS)[:, :, ::-1]
    if image is None:
        return np.ascontiguousarray(colors)
    return cv2.addWeighted(cv2.resize(colors, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), 0.65, image, 0.35, 0)


def tiles(parts: Sequence[np.ndarray], columns: int, side: int = 72) -> np.ndarray:
    """Return pictures in a grid of squares."""
    squares = [
        cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA if x.shape[0] > side else cv2.INTER_NEAREST)
        for x in parts
    ]
    squares += [np.full((side, side, 3), 255, np.uint8)] * (-len(squares) % columns)
    rows = [
        np.concatenate(
            [np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=255) for x in squares[i : i + columns]], axis=1
        )
        for i in range(0, len(squares), columns)
    ]
    return np.concatenate(rows)


def boxes_on(image: np.ndarray, boxes: Tensor, color: tuple[int, int, int] = YELLOW, thickness: int = 1) -> np.ndarray:
    """Return an image, enlarged, with boxes of its frame."""
    scale = HEIGHT / image.shape[0]
    out = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    for x0, y0, x1, y1 in (boxes * scale).round().int().tolist():
        cv2.rectangle(out, (x0, y0), (x1, y1), color, thickness)
    return out


def sampled_crop(image: np.ndarray, box: Tensor, stride: float, cells: int, rounded: bool) -> np.ndarray:
    """Return the surroundings of a box, enlarged, with the cells of RoIPool or the samples of RoIAlign in it."""
    x0, y0, x1, y1 = box.tolist()
    pad, zoom = 0.2 * max(x1 - x0, y1 - y0) + stride, 8
    left, top = max(int(x0 - pad), 0), max(int(y0 - pad), 0)
    part = image[top : int(y1 + pad) + 1, left : int(x1 + pad) + 1]
    out = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)

    def place(x: float, y: float) -> tuple[int, int]:
        return round((x - left) * zoom), round((y - top) * zoom)

    cv2.rectangle(out, place(x0, y0), place(x1, y1), RED, 3)
    if rounded:  # to whole cells of the feature map
        a, b, c, d = (round(v / stride) * stride for v in (x0, y0, x1, y1))
        for x in np.floor(np.linspace(a, c + stride, cells + 1) / stride) * stride:
            cv2.line(out, place(x, b), place(x, d + stride), YELLOW, 2)
        for y in np.floor(np.linspace(b, d + stride, cells + 1) / stride) * stride:
            cv2.line(out, place(a, y), place(c + stride, y), YELLOW, 2)
        return out
    shares = (np.arange(cells) + 0.5) / cells
    for y in y0 + shares * (y1 - y0):
        for x in x0 + shares * (x1 - x0):
            cv2.circle(out, place(x, y), 3, YELLOW, -1)
    return out


def weighted_tiles(maps: Tensor, weights: Tensor) -> np.ndarray:
    """Return the 9 maps (E, h, w) that count most in a weighted sum, each with its weight."""
    order = (weights.abs() * maps.flatten(1).std(dim=1)).argsort(descending=True)[:9]
    parts = []
    for i in order.tolist():
        tile = cv2.resize(heat(maps[i]), (96, 96), interpolation=cv2.INTER_LINEAR)
        cv2.putText(tile, f"{weights[i]:+.2f}", (4, 90), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 2)
        parts.append(tile)
    return tiles(parts, 3, 96)


def up(values: Tensor, size: Sequence[int], shown: Sequence[int] | None = None) -> Tensor:
    """Return a map (h, w) at another size, that of the padded input, without what lies beyond the image."""
    found = F.interpolate(values[None, None].float(), tuple(size), mode="bilinear", align_corners=False)[0, 0]
    return found if shown is None else found[: shown[0], : shown[1]]


def grid_on(image: np.ndarray, grid: Tensor) -> np.ndarray:
    """Return an image with a grid over it, whose cells are the greener the higher their value."""
    scale = HEIGHT / image.shape[0]
    out = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    rows, columns = (np.linspace(0, size, len(grid) + 1).round().astype(int) for size in out.shape[:2])
    top = float(grid.max())
    for i in range(len(grid)):
        for j in range(len(grid)):
            share = float(grid[i, j]) / top if top else 0.0
            part = out[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            part[:] = (part * (1 - 0.75 * share) + np.array([40, 230, 80]) * 0.75 * share).astype(np.uint8)
            cv2.rectangle(out, (columns[j], rows[i]), (columns[j + 1], rows[i + 1]), (120, 120, 120), 1)
    return out
