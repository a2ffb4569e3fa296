"""The plot of an ablation's page, drawn from the page's own table, so that it needs no run.

python benchmarks/ablation_plot.py docs/results/ablation_easy_vqa.md

Writes ablation_easy_vqa.png beside it. benchmarks/ablation.py does the same whenever it has written its page.
"""

import textwrap
from pathlib import Path

import matplotlib
from pages import build_parser

matplotlib.use("Agg")
from matplotlib.figure import Figure

SERIES = {"yes/no": ("tab:blue", 0.22), "open-ended": ("tab:orange", 0), "all": ("black", -0.22)}  # color, shift
LABEL_WIDTH = 40  # characters: longer labels of rows are wrapped, or they'd leave the plot no room


def rows_of_page(path):
    """The first table of a page of results: a dict for each row, column -> cell."""
    lines = [line for line in path.read_text(encoding="utf-8").partition("\n## ")[0].splitlines() if line[:1] == "|"]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines] or [[], []]
    if "all, oracle" not in head:
        raise SystemExit(f"error: expected a table with a column 'all, oracle', as ablation.py writes it, in {path}")
    return [dict(zip(head, row)) for row in rows]


def draw(page):
    """Accuracy of every row of the page's table, oracle, and what the source design expected."""
    rows = rows_of_page(page)[::-1]
    labels = [textwrap.fill(row[""], LABEL_WIDTH) for row in rows]
    figure = Figure(figsize=(8, 0.5 * len(rows) + 1.2), layout="constrained")
    axis = figure.add_subplot()
    handles = {}  # each series once, whichever row has it
    for place, row in enumerate(rows):
        for name, (color, shift) in SERIES.items():
            mean, _, deviation = row[f"{name}, oracle"].partition(" ± ")
            at = (float(mean), place + shift)
            handles[name] = axis.errorbar(*at, xerr=float(deviation or 0), fmt="o", color=color, capsize=3)
        if row["expected"]:
            expected = float(row["expected"].split(" / ")[-1])
            (handles["expected, all"],) = axis.plot(expected, place - 0.22, "x", color="gray")
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.set_xlabel("accuracy, oracle head, % (mean ± standard deviation)")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(page.with_suffix(".png"), dpi=120)


if __name__ == "__main__":
    parser = build_parser(__doc__)
    parser.add_argument("page", type=Path)
    draw(parser.parse_args().page)
