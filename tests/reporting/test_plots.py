"""The plots of a report: what is written in them can be read."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dualvqa.reporting import plots
from dualvqa.reporting.plots import HEADS, TYPES, accuracy_plot, draw_reliability


@pytest.fixture
def figures(drawn, monkeypatch):
    """The figures that were drawn, in place of their SVG."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **options: figures.append(figure))
    return figures


TITLES, NAMES = [*TYPES.values(), *HEADS.values()], [("oracle", "routed"), ("before", "after"), ("ceiling",)]


# Each is measured by itself: every title over one legend, and every legend under one title.
@pytest.mark.parametrize("title, names", [*((title, NAMES[0]) for title in TITLES), *((TITLES[0], n) for n in NAMES)])
def test_title_and_legend_stand_apart_and_within_the_plot(figures, title, names):
    def draw(axes, kind):
        for name in names:
            axes.plot([0, 1], [0, 1], "o-", label=name)
        axes.set(aspect="equal", xlabel="score", ylabel="accuracy")

    plots.panel(3.4, draw, "all", title)
    (figure,) = figures
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    written = [axes.get_legend().get_window_extent(), axes._left_title.get_window_extent()]
    assert not written[0].overlaps(written[1])
    for box in written:
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_points_at_0_and_100_percent_are_drawn_whole(figures):
    found = {"all": {"value": 1.0, "low": None, "high": None}}
    accuracy_plot({"accuracy": {"routed": found}, "coverage": {"all": 1.0}, "types": {"all": {}}})
    bins = {"all": [{"confidence": 1.0, "accuracy": 1.0, "count": 3}]}
    plots.panel(3.4, draw_reliability({"routed": (bins, "blue", "blue", "-")}), "all", "all")
    points = [line for line in figures[0].axes[0].lines if line.get_marker() == "o"] + figures[1].axes[0].collections
    assert len(points) == 2 and not any(point.get_clip_on() for point in points)
