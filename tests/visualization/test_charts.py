"""Charts are pictures in which what they show can be seen."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg

from centermask_solo.visualization import charts

X = np.linspace(0, 1, 11)


def differs(a, b):
    return a.shape != b.shape or (a != b).any()


def test_curves_show_their_lines():
    one = charts.curves({"a": (X, X)}, ("x", "y"))
    assert one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3 and min(one.shape[:2]) > 300
    assert differs(one, charts.curves({"a": (X, 1 - X)}, ("x", "y")))
    assert differs(one, charts.curves({"a": (X, X)}, ("x", "y"), mark=0.5))
    many = charts.curves({f"{i}": (X, X / (i + 1)) for i in range(6)}, ("x", "y"))
    assert differs(one, many)
    charts.curves({"none": (X[:0], X[:0])}, ("x", "y"))


def test_the_history_of_a_training():
    steps, falling = [20, 40, 60], [3.0, 2.0, 1.5]
    picture = charts.history({"total_loss": (steps, falling)}, "losses")
    assert differs(picture, charts.history({"total_loss": (steps, falling[::-1])}, "losses"))
    assert differs(picture, charts.history({"total_loss": (steps, falling)}, "learning rate"))


def test_small_curves_grow_with_their_number():
    few, many = (charts.small_curves({f"{i}": {"a": (X, X)} for i in range(n)}, ("x", "y")) for n in (2, 14))
    assert few.shape[1] == many.shape[1] and few.shape[0] < many.shape[0]


def test_bars_show_missing_values():
    values = [1.0, float("nan"), -3.0]
    picture = charts.bars(["a", "b", "c"], {"one": values, "two": [2.0, 2.0, 2.0]}, "points")
    assert differs(picture, charts.bars(["a", "b", "c"], {"one": [1.0, 5.0, -3.0], "two": [2.0, 2.0, 2.0]}, "points"))


def test_a_matrix_is_darker_where_more_is():
    counts = np.array([[9, 1], [0, 0]])
    names, numbers = ["a", "b"], [str(i) for i in range(30)]
    picture = charts.matrix(counts, (names, names), ("x", "y"))
    assert differs(picture, charts.matrix(counts.T, (names, names), ("x", "y")))
    assert differs(picture, charts.matrix(counts, (names, ["a", "c"]), ("x", "y")))
    large = charts.matrix(np.eye(30, dtype=int), (numbers, numbers), ("x", "y"))
    assert large.shape[0] > picture.shape[0]


def test_reliability_of_empty_bins_and_histograms():
    nan = float("nan")
    one, more = (charts.reliability([0.2, 0.7], [0, 1], [n, 3], ("", "")) for n in (1, 0))
    assert differs(one, more)  # the bar of a single detection is seen
    charts.reliability([nan, 0.7], [nan, 0.5], [0, 3], ("score", "precision"))
    charts.reliability([nan, nan], [nan, nan], [0, 0], ("score", "precision"))
    assert differs(charts.histogram([0, 1, 2], "x"), charts.histogram([0, 1, 2], "x", (0.5,)))


CURVE = {"x": (X, X)}
LABELS = ("x", "y")
CHARTS = {
    "curves": lambda: charts.curves(CURVE, LABELS),
    "history": lambda: charts.history({"total_loss": ([20, 40], [1e-5, 1e5])}, "losses"),
    "small curves": lambda: charts.small_curves({"word": CURVE, "$disc$": CURVE}, LABELS),
    "bars": lambda: charts.bars(["all"], {name: [1.0] for name in ("a" * 90, "b" * 36)}, "AP"),
    "matrix": lambda: charts.matrix(np.eye(2, dtype=int), (["a", "b"], ["a", "background"]), LABELS),
    "reliability": lambda: charts.reliability([0.2, 0.7], [0, 1], [1, 12345], LABELS),
    "histogram": lambda: charts.histogram([-1e-6, 2e-6], "difference", (0.0,)),
}


@pytest.mark.parametrize("draw", CHARTS.values(), ids=CHARTS)
def test_texts_are_readable_and_inside(draw, monkeypatch):
    """matplotlib writes some numbers as formulas, and lets long names leave the picture."""
    texts, original = [], RendererAgg.draw_text

    def draw_text(self, gc, x, y, text, prop, angle, *args, **options):
        width = self.get_text_width_height_descent(text, prop, False)[0] if angle == 0 else 1
        texts.append((text, x >= 0, x + width <= self.width))
        original(self, gc, x, y, text, prop, angle, *args, **options)

    monkeypatch.setattr(RendererAgg, "draw_text", draw_text)
    draw()
    assert texts and [x for x in texts if "\\" in x[0] or not all(x[1:])] == []
