"""The pixels of many polygons at once, bit for bit as pycocotools finds them one after another, on any device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import chunks

SUBPIXELS = 5  # corners are rounded to a fifth of a pixel
CROSSING_BYTES = 256  # what the intermediate tensors of a crossing take


class Crossings(NamedTuple):
    """Where the outlines of P polygons cross the columns of their canvases.

    Attributes:
        polygons: (C,) int64, ascending, 0..P-1.
        positions: (C,) int64, column * height + row: from there on, column by column, pixels that were outside of the
            polygon are inside, and the other way around.
        numbers: (P,) int64, number of crossings of each polygon.
    """

    polygons: Tensor
    positions: Tensor
    numbers: Tensor


class Lines(NamedTuple):
    """The edges of P polygons in subpixels, along their longer axis and forward.

    Attributes:
        polygons: (E,) int64, ascending; polygon of each edge.
        x: (E,) int64, where the edge starts.
        y: (E,) int64, where the edge starts.
        slopes: (E,) float64, change along the shorter axis by step along the longer one.
        is_flat: (E,) bool, whether the longer one is x.
        columns: (E,) int64, first column of the canvas that the edge crosses.
        numbers: (E,) int64, number of columns that it crosses.
        heights: (P,) int64, height of the canvas of each polygon.
    """

    polygons: Tensor
    x: Tensor
    y: Tensor
    slopes: Tensor
    is_flat: Tensor
    columns: Tensor
    numbers: Tensor
    heights: Tensor

    def crossings_per_polygon(self) -> Tensor:
        """Return the number of crossings of each polygon, (P,) int64."""
        return torch.zeros_like(self.heights).scatter_add_(0, self.polygons, self.numbers)


def draw_lines(starts: Tensor, ends: Tensor, polygons: Tensor, sizes: Tensor) -> Lines:
    """Return the edges of polygons as lines.

    Args:
        starts: (E, 2) float64, x and y of where each edge starts, in pixels of the canvas of its polygon.
        ends: (E, 2) float64, where it ends, which is where another edge of its polygon starts.
        polygons: (E,) int64, ascending; polygon of each edge, 0..P-1.
        sizes: (P, 2) int64, height and width of the canvas of each polygon.

    Source: the COCO API's ``rleFrPoly``, which draws every edge in fifths of a pixel by Bresenham's rule and crosses a
        column where the line passes its center.
    Differs: crossings are computed from the line's equation, with the same roundings, not by walking along the line.
    """
    (x0, y0), (x1, y1) = ((SUBPIXELS * p + 0.5).long().unbind(1) for p in (starts, ends))  # towards 0, as in C
    # Column c lies between the subpixels 5 c + 2 and 5 c + 3, if an edge reaches both.
    half = SUBPIXELS // 2
    first = _floor_divide(torch.minimum(x0, x1) - half + SUBPIXELS - 1, SUBPIXELS).clamp(min=0)
    last = _floor_divide(torch.maximum(x0, x1) - half - 1, SUBPIXELS).minimum(sizes[polygons, 1] - 1)
    is_flat = (x1 - x0).abs() >= (y1 - y0).abs()
    is_backward = torch.where(is_flat, x0 > x1, y0 > y1)
    x0, x1 = torch.where(is_backward, x1, x0), torch.where(is_backward, x0, x1)
    y0, y1 = torch.where(is_backward, y1, y0), torch.where(is_backward, y0, y1)
    slopes = torch.where(is_flat, (y1 - y0).double() / (x1 - x0), (x1 - x0).double() / (y1 - y0))
    return Lines(polygons, x0, y0, slopes, is_flat, first, (last - first + 1).clamp(min=0), sizes[:, 0])


def find_crossings(lines: Lines, crossings_per_polygon: Tensor, total: int) -> Crossings:
    """Return the crossings of lines.

    Args:
        lines: Lines of P polygons.
        crossings_per_polygon: (P,) int64; :meth:`Lines.crossings_per_polygon`.
        total: C, their sum.
    """
    edges = torch.arange(len(lines.x), device=lines.x.device).repeat_interleave(lines.numbers, output_size=total)
    before = lines.numbers.cumsum(0) - lines.numbers
    columns = torch.arange(total, device=edges.device) - (before - lines.columns)[edges]
    polygons, x, y, slopes, is_flat = (z[edges] for z in lines[:5])

    # The last subpixel on this side of the column, counted along the line: known if it is flat, else estimated by one
    # more than it may be.
    right = SUBPIXELS * columns + SUBPIXELS // 2 + 1  # the first subpixel on the right of the column
    estimates = ((right - 0.5 - x) / slopes).ceil()
    steps = torch.where(is_flat, right - 1 - x, estimates.nan_to_num(0.0, 0.0, 0.0) - 1)
    # The other coordinate of this subpixel and of the next one, plus 0.5.
    origins = torch.where(is_flat, y, x)
    here, there = origins + slopes * steps + 0.5, origins + slopes * (steps + 1) + 0.5
    # The row of the upper one of the two subpixels between which the line crosses the column.
    is_forward = slopes > 0
    num_over = ((here >= right) == is_forward).double() + ((there >= right) == is_forward)
    upper = torch.where(is_flat, here.minimum(there).trunc(), y + steps + 1 - num_over)
    heights = lines.heights[polygons]
    rows = ((upper + SUBPIXELS // 2) / SUBPIXELS).floor().clamp(min=0).long().minimum(heights)
    return Crossings(polygons, columns * heights + rows, crossings_per_polygon)


def crossing_chunks(
    lines: Lines,
    edges_per_polygon: Sequence[int],
    numbers: Tensor,
    crossings_per_polygon: Sequence[int],
    polygon_bytes: int,
) -> Iterator[tuple[slice, Crossings]]:
    """Yield ranges of polygons and their crossings, which count polygons within the range, in bounded memory.

    Args:
        lines: Lines of P polygons.
        edges_per_polygon: P; number of edges of each polygon.
        numbers: (P,) int64, :meth:`Lines.crossings_per_polygon`.
        crossings_per_polygon: P, the same on the host.
        polygon_bytes: Bytes that the caller needs for each polygon.
    """
    start = first_edge = 0
    while start < len(edges_per_polygon):
        stop, num_edges, num_crossings = start, 0, 0
        while stop < len(edges_per_polygon):
            size = num_crossings + crossings_per_polygon[stop]
            if stop > start and (stop + 1 - start) * polygon_bytes + size * CROSSING_BYTES > chunks.CHUNK_BYTES:
                break
            num_edges, num_crossings, stop = num_edges + edges_per_polygon[stop], size, stop + 1
        edges, which = slice(first_edge, first_edge + num_edges), slice(start, stop)
        part = Lines._make([x[edges] for x in lines[:-1]] + [lines.heights[which]])
        part = part._replace(polygons=part.polygons - start)
        yield which, find_crossings(part, numbers[which], num_crossings)
        start, first_edge = stop, edges.stop


def _floor_divide(values: Tensor, divisor: int) -> Tensor:
    return torch.div(values, divisor, rounding_mode="floor")


def fill_polygons(crossings: Crossings, height: int, width: int) -> Tensor:
    """Return the pixels of each polygon, (P, height, width) bool, all of whose canvases have this size."""
    num_polygons, area = len(crossings.numbers), height * width
    # One bin more for what lies behind the last pixel.
    places = crossings.polygons * (area + 1) + crossings.positions
    toggles = torch.zeros(num_polygons * (area + 1), dtype=torch.int32, device=places.device)
    toggles.scatter_add_(0, places, torch.ones_like(places, dtype=torch.int32))
    passed = toggles.view(num_polygons, area + 1)[:, :-1].cumsum(1, dtype=torch.int32)
    return (passed & 1).bool().view(num_polygons, width, height).transpose(1, 2)


def count_polygon_pixels(crossings: Crossings, areas: Tensor) -> Tensor:
    """Return the number of pixels of each polygon, (P,) int64, without drawing them.

    Args:
        crossings: Crossings of the polygons.
        areas: (P,) int64, number of pixels of the canvas of each polygon.
    """
    polygons, numbers = crossings.polygons, crossings.numbers
    offsets = polygons * (areas.sum() + 1)
    positions = (offsets + crossings.positions).sort().values - offsets  # polygons are in order
    ends = numbers.cumsum(0)
    ranks = torch.arange(len(polygons), device=polygons.device) - (ends - numbers)[polygons]
    # Each crossing into the polygon starts a run, each one out of it or the end of the canvas stops it.
    sums = F.pad(torch.where(ranks & 1 == 1, positions, -positions).cumsum(0), (1, 0))
    return sums[ends] - sums[ends - numbers] + torch.where(numbers & 1 == 1, areas, 0)
