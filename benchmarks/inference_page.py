"""Page and plots of the benchmark of answering."""

import matplotlib
from inference_models import CURVES, ROWS, TOKENS
from measure import machine, spread
from pages import command, table

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NOTE = """{machine}.
Medians of calls in turn, {rounds} rounds in one process; half of a cell's times lie within {spread:.0f} % of its
median (the median cell). Weights are random. A question has {tokens} tokens, each row of a batch has its own question
and its own image, of 224 pixels unless the name says otherwise, and neither decoding nor tokenizing is measured.
fp32, and int8 where the name says so; what int8 costs in accuracy is not measured here. *Ours* is MobileNetV3-Small
and DistilBERT with cross-attention over the 7x7 grid, or with attention over the two pooled vectors. The ResNets and
the ViT with BERT-base have our cross-attention and heads. BLIP generates three tokens greedily with its cache; CLIP
compares every image with every text of the batch and answers nothing.
"""


def goals(medians, started):
    """Rows of "goal | wanted | reached"; what wasn't measured is left out."""

    def least(kind, size, names=tuple(ROWS)):
        found = {
            name: medians[name, kind, size]
            for name in names
            if name.startswith("ours") and "attention" not in name and (name, kind, size) in medians
        }
        name = min(found, key=found.get, default=None)
        return found.get(name), name

    exact = tuple(name for name, row in ROWS.items() if row.exact)
    resnet, eager = medians.get(("ResNet-34 + BERT-base", "batch", 32)), medians.get(("ours", "batch", 1))
    (exact32, exact_name), (any32, any_name) = least("batch", 32, exact), least("batch", 32)
    any1, name1 = least("batch", 1)
    lines = []
    if resnet and exact32:
        lines += [
            [f"questions/s, batch 32, exact ({exact_name}) / ResNet-34 + BERT-base", "≥ 8", f"{resnet / exact32:.1f}"],
            [f"questions/s, batch 32, fastest ({any_name}) / ResNet-34 + BERT-base", "≥ 15", f"{resnet / any32:.1f}"],
        ]
    rival = medians.get(("ViLT, 384 px", "batch", 32))
    if rival and exact32:
        lines.append([f"questions/s, batch 32, exact ({exact_name}) / ViLT", "≥ 20", f"{rival / exact32:.1f}"])
    if eager and any1:
        lines.append([f"latency, batch 1, fastest ({name1}) / ours", "≤ 0.4", f"{any1 / eager:.2f}"])
    for name in ROWS:
        if (name, "together", 20) in medians:
            ratio = medians[name, "together", 20] / medians[name, "together", 1]
            lines.append([f"20 questions about one image / 1 question, {name}", "≤ 4", f"{ratio:.2f}"])
    if started:
        first, *_, plain = started.values()
        lines.append(
            ["first answer of a new process / imports and reading the weights", "≤ 1.5", f"{first / plain:.2f}"]
        )
    return lines


def milliseconds(seconds):
    return f"{1000 * seconds:,.1f}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def page(args, medians, seconds, left_out, started):
    """The Markdown page."""
    names = dict.fromkeys(name for name, _, _ in medians)
    base = medians.get(("ResNet-34 + BERT-base", "batch", args.batches[-1]))
    rows = []
    for name in names:
        found = [medians[name, "batch", size] for size in args.batches]
        relative = f"{base / found[-1]:.2f}" if base else ""
        rows.append([name, *map(milliseconds, found), f"{args.batches[-1] / found[-1]:,.1f}", relative])
    columns = ["", *(f"batch {size}, ms" for size in args.batches), "questions/s, largest batch", "of ResNet-34 + BERT"]
    text = [
        "# Speed of answering",
        f"\nWritten by\n\n```bash\n{command()}\n```\n",
        NOTE.format(machine=machine(), rounds=args.rounds, tokens=TOKENS, spread=100 * spread(seconds)),
        table(columns, rows),
        *(f"{name} is left out: {reason}.\n" for name, reason in left_out.items()),
        "## Goals\n",
        table(["ratio", "goal", "reached"], goals(medians, started)),
    ]
    ours = [name for name in names if (name, "together", args.questions[0]) in medians]
    if ours:
        text += ["## Questions about one image, ms\n", "Together, the image encoded once / one by one.\n"]
        cell = "{} / {}".format
        both = [
            [name]
            + [
                cell(*(milliseconds(medians[name, kind, count]) for kind in ("together", "one by one")))
                for count in args.questions
            ]
            for name in ours
        ]
        text.append(table(["", *args.questions], both))
    if started:
        text += ["## Start\n", "Fresh processes, from start to end, files in the disk's cache.\n"]
        text.append(table(["", "s"], [[name, f"{found:.2f}"] for name, found in started.items()]))
    if "ours" in names:
        text += ["## What the cost grows with, ours, ms\n"]
        for curve in CURVES:
            found = {size: value for (_, kind, size), value in medians.items() if kind == curve}
            text.append(table([curve, *found], [["ms", *map(milliseconds, found.values())]]))
        text.append(f"![curves]({args.output.stem}_scaling.png)\n")
    text.append(f"![speed]({args.output.stem}.png)\n")
    return "\n".join(text)


def draw(args, medians):
    """Two plots beside the page, letters large enough for its width: rows and questions per image; and the curves."""
    names = list(dict.fromkeys(name for name, _, _ in medians))
    largest = args.batches[-1]
    figure, (left, right) = plt.subplots(2, 1, figsize=(8, 9), height_ratios=[3, 2], layout="constrained")
    speed = [largest / medians[name, "batch", largest] for name in names]
    colors = ["tab:blue" if name.startswith("ours") else "tab:gray" for name in names]
    bars = left.barh(names[::-1], speed[::-1], color=colors[::-1])
    left.bar_label(bars, fmt="%.1f", padding=2)
    left.set(xscale="log", xlabel="questions/s", title=f"Batch {largest}, an image per question")
    left.margins(x=0.15)
    for name in [name for name in ("ours", "ours int8", "ours ONNX int8") if name in names]:
        color = f"C{len(right.lines) // 2}"
        for kind, line in (("together", "-"), ("one by one", "--")):
            times = [1000 * medians[name, kind, count] for count in args.questions]
            right.plot(args.questions, times, line, color=color, marker="o", markersize=3, label=f"{name}, {kind}")
    if right.lines:
        right.legend()
    right.set(xlabel="questions about one image", ylabel="ms", title="One image", ylim=(0, None), xticks=args.questions)
    figure.savefig(args.output.with_suffix(".png"), dpi=160)
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for axis, curve in zip(axes.flat, CURVES):
        found = {size: 1000 * value for (_, kind, size), value in medians.items() if kind == curve}
        axis.plot(found.keys(), found.values(), marker="o")
        top = 1.1 * max(found.values(), default=1)
        axis.set(xlabel=curve, ylabel="ms", ylim=(0, top), xscale="log" if curve.startswith("answers") else "linear")
    figure.savefig(args.output.with_name(f"{args.output.stem}_scaling.png"), dpi=160)
