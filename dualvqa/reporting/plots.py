"""The plots of a report: SVG text, drawn without a window system.

A plot is one small figure for each kind of question. The page shows them side by side, on a phone one below the other,
always in the size that they are drawn in: letters stay readable, and each has its own legend.
"""

import io

from matplotlib import rc_context
from matplotlib.figure import Figure

from processing.leakage import in_short

ANSWERERS = {
    "routed": "routed",
    "oracle": "oracle",
    "blind_routed": "no images, routed",
    "blind_oracle": "no images, oracle",
    "heads_routed": "without memory",
    "copied": "copied",
    "majority": "majority",
}
TYPES = {"all": "all", "binary": "yes/no", "open_ended": "open-ended"}
HEADS = {"binary": "yes/no head", "open_ended": "open-ended head", "question_type": "router", "routed": "routed answer"}
WIDTH = 3.0  # inches of a figure: 288 pixels of a page, on which the letters have 12
BLUE, ORANGE, GREY, LIGHT = "#1f5fa8", "#d1731b", "#6b7280", "#d1d5db"
COLORS = {"routed": BLUE, "oracle": BLUE, "blind_routed": ORANGE, "blind_oracle": ORANGE}
STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and searchable
    "svg.hashsalt": "report",  # the same figure is the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": LIGHT,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.3,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
}


def panels(height, draw, kinds, titles=TYPES):
    """SVGs, one for each kind of question, drawn by `draw(axes, kind)`: kind -> text."""
    return {kind: panel(height, draw, kind, titles[kind]) for kind in kinds}


def panel(height, draw, kind, title):
    """One SVG, with its legend above the axes, where it covers nothing, and its title above the legend."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title, loc="left", pad=22)  # above a line of legend
        draw(axes, kind)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "borderpad": 0}
        legend = axes.legend(ncols=2, frameon=False, labelcolor=GREY, columnspacing=1.2, handletextpad=0.4, **place)
        for handle in legend.legend_handles:
            if hasattr(handle, "set_sizes"):  # points differ in size with the number of questions
                handle.set_sizes([30])
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def percent_axis(axes, which):
    getattr(axes, f"set_{which}lim")(0, 1)
    getattr(axes, f"set_{which}ticks")([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])


def accuracy_plot(figures):
    """Every answerer's accuracy with its interval, and the ceiling that the vocabulary puts on it."""
    names = [name for name in ANSWERERS if name in figures["accuracy"]]

    def draw(axes, kind):
        for place, name in enumerate(names):
            found, color = figures["accuracy"][name][kind], COLORS.get(name, GREY)
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [place, place], color=color, linewidth=2)
            filled = color if not name.endswith("oracle") else "white"
            # Whole at 0 and 100 % too, where half of it lies beyond the axes.
            axes.plot(found["value"], place, "o", color=color, markerfacecolor=filled, markersize=6, clip_on=False)
        ceiling = {"color": GREY, "linewidth": 1, "linestyle": (0, (2, 2)), "label": "ceiling"}
        axes.axvline(figures["coverage"][kind], **ceiling)
        axes.set_yticks(range(len(names)), [ANSWERERS[name] for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color=LIGHT, linewidth=0.5)
        axes.tick_params(length=0)
        percent_axis(axes, "x")
        axes.set_xlabel(in_short(figures.get("held_out")) or "", fontsize=8)

    return panels(1.1 + 0.25 * len(names), draw, list(figures["types"]))


def reliability_plot(figures):
    """Accuracy by score; the size of a point is the share of the questions that it stands for."""
    series = {
        name: ({kind: figures["calibration"][name][kind]["bins"] for kind in figures["types"]}, BLUE, fill, line)
        for name, fill, line in (("oracle", "white", ":"), ("routed", BLUE, "-"))
    }
    return panels(3.4, draw_reliability(series), list(figures["types"]))


def temperature_plot(figures):
    """Accuracy by score for each head, with temperatures 1 and with those that were fitted."""
    found = figures["temperatures"]
    series = {
        when: ({head: values["bins"] for head, values in found[when].items()}, color, fill, line)
        for when, color, fill, line in (("before", ORANGE, "white", ":"), ("after", BLUE, BLUE, "-"))
    }
    return panels(3.4, draw_reliability(series), [head for head in HEADS if head in found["before"]], HEADS)


def draw_reliability(series):
    """A function for `panels` that draws, for each name, (bins by kind, colour, fill, line)."""

    def draw(axes, kind):
        axes.plot([0, 1], [0, 1], color=LIGHT, linewidth=1)
        for name, (bins_of, color, fill, line) in series.items():
            bins = bins_of[kind]
            total = sum(b["count"] for b in bins)
            x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
            axes.plot(x, y, color=color, linewidth=1, linestyle=line)
            sizes = [8 + 160 * b["count"] / total for b in bins]
            look = {"facecolor": fill, "edgecolor": color, "linewidth": 1, "alpha": 0.85}
            axes.scatter(x, y, sizes, zorder=3, label=name, clip_on=False, **look)
        axes.set(aspect="equal", xlabel="score", ylabel="accuracy")
        percent_axis(axes, "x")
        percent_axis(axes, "y")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))

    return draw


def risk_coverage_plot(figures):
    """The error among the answered questions, if only the most confident answers are given."""

    def draw(axes, kind):
        for name, line in (("oracle", ":"), ("routed", "-")):
            coverages, risks = figures["calibration"][name][kind]["risk_coverage"]
            axes.plot(coverages, risks, line, color=BLUE, linewidth=1.5, label=name)
        axes.set(xlabel="answered", ylabel="wrong among them")
        axes.grid(axis="y", color=LIGHT, linewidth=0.5)
        axes.tick_params(length=0)
        percent_axis(axes, "x")
        percent_axis(axes, "y")

    return panels(2.7, draw, list(figures["types"]))
