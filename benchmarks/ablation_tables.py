"""Tables of the ablation: accuracies, sizes and speed of its rows, what its plan claims, and rivals."""

import sys
from statistics import mean, median, stdev

import torch
from measure import interleaved
from pages import ROOT, table
from scipy import stats

sys.path.insert(0, str(ROOT))

KINDS = ("routed", "oracle")
TIMED = {"images": 32, "tokens": 12}
CLAIMS = """
## What holds

Accuracy of all questions, oracle, in points: the first less the second, of runs of the same seed, mean ± standard
deviation. A claim holds where the 95 % interval of the mean (Student's t over the seeds) lies above zero, and does not
hold where it lies below; where it has zero inside, or with one seed, it is undecided.

"""
HEAD = [
    *("", "parameters", "yes/no", "open-ended", "all", "yes/no, oracle", "open-ended, oracle", "all, oracle"),
    *("expected", "processor, s", "memory, MiB", "questions/s", "seeds"),
]


def spread(values, digits=1):
    if values and values[0] is None:
        return "-"
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def line(row, seeds, shares, speeds):
    seeds = row.seeds(seeds)
    cells = [row.label, f"{sum(m.num_parameters() for m in row.models(seeds[0])):,}"]
    for kind in KINDS:
        cells += [spread(values) for values in zip(*(row.accuracies(seed, kind, shares) for seed in seeds))]
    cells.append(" / ".join(map(str, row.expected)) if row.expected else "")
    cells += [spread([row.total(seed, name) for seed in seeds], 0) for name in ("processor_seconds", "peak")]
    return [*cells, speeds.get(row.name, ""), len(seeds)]


def asked(model):
    """A function that answers a batch of the size that is timed."""
    size = getattr(model.config.vision_config, "image_size", 224)
    pixels = torch.randn(TIMED["images"], 3, size, size)
    ids = torch.randint(1, model.config.text_config.vocab_size, (TIMED["images"], TIMED["tokens"]))
    mask = torch.ones_like(ids)

    def call():
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, pixel_values=pixels)

    return call


def speeds_of(models, rounds=5):
    """name -> questions a second, of name -> list of models that are all asked."""
    calls = {(name, n): asked(model.eval()) for name, several in models.items() for n, model in enumerate(several)}
    seconds = interleaved(calls, rounds)
    return {
        name: f"{TIMED['images'] / sum(median(seconds[name, n]) for n in range(len(several))):.0f}"
        for name, several in models.items()
    }


def verdict_on(points):
    """What differences over seeds say of a claim that they are above zero, by a 95 % interval of their mean."""
    if len(points) < 2:
        return "undecided"
    reach = stats.t.ppf(0.975, len(points) - 1) * stdev(points) / len(points) ** 0.5
    if abs(mean(points)) <= reach:
        return "undecided"
    return "holds" if mean(points) > 0 else "does not hold"


def claims_table(claims, rows, seeds, shares):
    """What the plan claims of two rows, and whether it holds; of rows that have runs."""
    rows, lines = {row.name: row for row in rows}, []
    for claim in claims:
        better, worse = rows.get(claim["better"]), rows.get(claim["worse"])
        common = [
            seed for seed in seeds if better and worse and seed in better.seeds(seeds) and seed in worse.seeds(seeds)
        ]
        if not common:
            continue
        points = [
            better.accuracies(seed, "oracle", shares)[2] - worse.accuracies(seed, "oracle", shares)[2]
            for seed in common
        ]
        expected = ""
        if better.expected and worse.expected:
            expected = f"{better.expected[2] - worse.expected[2]:+d}"
        pair = f"{better.label} / {worse.label}"
        lines.append([claim["claim"], pair, expected, spread(points), verdict_on(points)])
    return CLAIMS + table(["claim", "first / second", "expected", "found", ""], lines) if lines else ""


def rivals_table(rivals):
    from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

    models = {name: [DualVQAForQuestionAnswering(DualVQAConfig(**r["config"]))] for name, r in rivals.items()}
    speeds = speeds_of(models)
    sizes = {name: several[0].num_parameters() for name, several in models.items()}
    ours = next(iter(rivals))
    lines = [
        [
            *(rivals[name]["label"], f"{sizes[name]:,}", rivals[name]["expected"], speeds[name]),
            *(f"{sizes[ours] / sizes[name]:.2f}", f"{int(speeds[name]) / int(speeds[ours]):.2f}"),
        ]
        for name in rivals
    ]
    head = [
        "random weights, 224 pixels",
        "parameters",
        "expected",
        "questions/s",
        "size, ours / its",
        "time, ours / its",
    ]
    return "\n## Rivals, size and speed\n\n" + table(head, lines)
