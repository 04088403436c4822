"""The tables of where trained models lose average precision."""

from benchmarks.learning_analysis import ERRORS, render


def measured(ap, large):
    return {
        "images": 3,
        "AP": {"value": ap, "low": 0.0, "high": 100.0},
        "groups": {"small": {"objects": 2, "AP": 12.34}, "medium": {"objects": 0, "AP": large}},
        "classes": {"disc": {"objects": 2, "AP": 56.78}},
        "oracles": {"true masks": 90.04},
        "AP50_lost": dict.fromkeys(ERRORS, 1.25),
    }


def test_groups_without_objects_have_no_figure():
    results = [{"system": "SOLOv2", "masks": measured(40.0, None), "boxes": measured(41.26, 50.0)}]
    text = render(results, ["model.pth", "--write"])
    assert "python -m benchmarks.learning_analysis model.pth --write" in text
    rows = [[x.strip() for x in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| SOLOv2")]
    assert [row[1:] for row in rows] == [
        ["40.0", "12.3", "–"],
        ["90.0", *["1.2"] * 5],
        ["41.3", "12.3", "50.0"],
        ["90.0", *["1.2"] * 5],
        ["56.8"],
    ]
