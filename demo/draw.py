"""Draws a run: python demo/draw.py FOLDER writes curves.png and sheet.png there."""

import json
import random
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LOSSES = {"binary_loss": "yes/no", "open_ended_loss": "open-ended"}
ACCURACIES = {
    "eval_routed_binary_accuracy": "yes/no",
    "eval_routed_open_ended_accuracy": "open-ended",
    "eval_routed_accuracy": "all",
}


def plot_series(axes, history, series):
    for key, label in series.items():
        points = [(entry["epoch"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points), label=label)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    axes.legend()


def draw_curves(folder):
    """Training loss of each head, and accuracy on the validation images."""
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    plot_series(left, history, LOSSES)
    left.set(title="training loss", yscale="log")
    plot_series(right, history, ACCURACIES)
    right.set(title="routed accuracy, validation images", ylim=(None, 1.005))
    figure.savefig(folder / "curves.png", dpi=150)


def draw_sheet(folder, columns=4, rows=6):
    """Test images chosen by chance, the last row wrongly answered ones if there are any."""
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").open(encoding="utf-8")]
    if not (lines := [line for line in lines if Path(line["image"]).exists()]):
        raise SystemExit(f"error: none of the images that {folder / 'predictions.jsonl'} names is there any more")
    chance = random.Random(0)
    wrong = [line for line in lines if "source_answer" in line and line["source_answer"] != line["answer"]]
    wrong = chance.sample(wrong, min(columns, len(wrong)))
    chosen = chance.sample(lines, min(columns * rows - len(wrong), len(lines))) + wrong
    figure, axes = plt.subplots(rows, columns, figsize=(2 * columns, 2.3 * rows), layout="constrained")
    for place in axes.flat:
        place.axis("off")
    for place, line in zip(axes.flat, chosen):
        place.imshow(plt.imread(line["image"]), cmap="gray")
        right = line.get("source_answer", line["answer"]) == line["answer"]
        truth = "" if right else f"\n(correct: {line['source_answer']})"
        title = f"{wrap(line['question'])}\n{line['answer']}  {line['score']:.0%}{truth}"
        place.set_title(title, fontsize=9, color="black" if right else "firebrick")
    figure.savefig(folder / "sheet.png", dpi=150)


def wrap(question, width=26):
    """Breaks a question in two lines at most, at the space before `width` characters."""
    if len(question) <= width:
        return question
    cut = question.rfind(" ", 0, width)
    return f"{question[:cut]}\n{question[cut + 1 :]}"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_curves(folder)
    draw_sheet(folder)
