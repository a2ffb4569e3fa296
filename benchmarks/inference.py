"""Speed of answering, ours in every form and rivals, in one process: tables and plots.

python benchmarks/inference.py --output docs/results/inference.md [--rows ours "ours int8"] [--rounds 5]

About 15 minutes and 12 GiB on two cores. All weights are random, which doesn't change the speed. --rows takes the names
of `ROWS`; --quick takes small batches and one round, to see that it runs.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import matplotlib
import torch
from measure import ROOT, command, interleaved, machine, spread, table, timed
from pages import write_page

matplotlib.use("Agg")
sys.path.insert(0, str(ROOT))
from matplotlib import pyplot as plt
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    CLIPConfig,
    CLIPModel,
    ViltConfig,
    ViltForQuestionAnswering,
)

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from modeling_dualvqa.modeling_dualvqa import AnswerHead
from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

TOKENS = 12
BATCHES, QUESTIONS = (1, 8, 32), (1, 2, 5, 10, 20)
CURVES = {
    "questions about one image": (1, 2, 5, 10, 20, 40),
    "images, one question each": (1, 2, 4, 8, 16, 32),
    "tokens per question, 8 images": (8, 16, 32, 64),
    "answers in the vocabulary, 8 images": (10, 100, 1000, 10_000),
}
BASE = {"model_type": "bert"}

NOTE = """{machine}.
Medians of calls in turn, {rounds} rounds in one process; half of a cell's times lie within {spread:.0f} % of its
median (the median cell). Weights are random. A question has {tokens} tokens, each row of a batch has its own question
and its own image, of 224 pixels unless the name says otherwise, and neither decoding nor tokenizing is measured.
fp32, and int8 where the name says so; what int8 costs in accuracy is not measured here. *Ours* is MobileNetV3-Small
and DistilBERT with cross-attention over the 7x7 grid, or with attention over the two pooled vectors. The ResNets and
the ViT with BERT-base have our cross-attention and heads. BLIP generates three tokens greedily with its cache; CLIP
compares every image with every text of the batch and answers nothing.
"""


@functools.cache
def dual(fusion="cross_attention", vision=None, text=None):
    """A model of this package; DualVQAConfig's towers where none are given."""
    torch.manual_seed(0)
    config = DualVQAConfig(fusion_type=fusion, vision_config=dict(vision or ()), text_config=text and dict(text))
    return DualVQAForQuestionAnswering(config).eval()


def rival(vision):
    """A builder of `dual` with another vision tower and BERT-base, the fusion as ours."""
    return lambda: dual(vision=tuple(vision.items()), text=tuple(BASE.items()))


def optimized(fusion="cross_attention", **options):
    def build():
        from dualvqa.deployment.optimize import optimize_for_inference

        return optimize_for_inference(dual(fusion), **options)

    return build


def onnx(fusion="cross_attention", **options):
    def build():
        from dualvqa.deployment.onnx_export import export_onnx
        from dualvqa.deployment.onnx_pipeline import OnnxModel

        with tempfile.TemporaryDirectory() as folder:
            export_onnx(dual(fusion), folder, **options)
            return OnnxModel.from_pretrained(folder)

    return build


def vilt():
    return ViltForQuestionAnswering(ViltConfig(image_size=384, num_labels=3129)).eval()  # VQA v2's answers


def blip():
    model = BlipForQuestionAnswering(BlipConfig()).eval()
    # Random weights never end an answer: three tokens, say two word pieces and the end, are asked for.
    return functools.partial(model.generate, max_new_tokens=3, min_new_tokens=3)


def clip():
    return CLIPModel(CLIPConfig()).eval()


class Row(NamedTuple):
    """`build()` gives what is called with `pixel_values`, `input_ids` and `attention_mask`."""

    build: callable
    size: int = 224
    exact: bool = True


ROWS = {
    "ours": Row(dual),
    "ours folded": Row(optimized()),
    "ours compiled": Row(optimized(compile=True)),
    "ours int8": Row(optimized(quantization="int8"), exact=False),
    "ours ONNX": Row(onnx()),
    "ours ONNX int8": Row(onnx(quantization="int8"), exact=False),
    "ours, attention": Row(lambda: dual("attention")),
    "ours, attention, folded": Row(optimized("attention")),
    "ours, attention, int8": Row(optimized("attention", quantization="int8"), exact=False),
    "ours, attention, ONNX int8": Row(onnx("attention", quantization="int8"), exact=False),
    "ResNet-34 + BERT-base": Row(rival({"architecture": "resnet34"})),
    "ResNet-50 + BERT-base": Row(rival({"architecture": "resnet50"})),
    "ViT-B/16 + BERT-base": Row(rival({"model_type": "vit"})),
    "ViLT, 384 px": Row(vilt, 384),
    "BLIP VQA, 384 px": Row(blip, 384),
    "CLIP ViT-B/32": Row(clip),
}


TOGETHER = ("ours", "ours folded", "ours int8", "ours ONNX", "ours ONNX int8")  # asked several questions


@functools.cache
def inputs(size, images, questions=1, tokens=TOKENS):
    """Different images, and `questions` different questions about each."""
    generator = torch.Generator().manual_seed(images)
    ids = torch.randint(1000, 30_000, (images * questions, tokens), generator=generator)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(images, 3, size, size, generator=generator),
    }
    if questions > 1:
        batch["image_index"] = torch.arange(images).repeat_interleave(questions)
    return batch


def build_rows(names):
    """name -> what is called; rows whose packages aren't installed are left out, and why."""
    models, left_out = {}, {}
    for name in names:
        torch.manual_seed(0)
        try:
            models[name] = ROWS[name].build()
        except ImportError as error:
            left_out[name] = str(error)
        print(f"{name}: {left_out.get(name, 'built')}", flush=True)
    return models, left_out


def one_by_one(model, questions):
    batch = inputs(224, 1)
    for _ in range(questions):
        model(**batch)


def with_vocabulary(model, head, batch):
    """The model's answers with another open-ended head."""
    kept, model.open_ended_head = model.open_ended_head, head
    model(**batch)
    model.open_ended_head = kept


def cells_of(models, batches, questions, curves):
    """(row, "batch" or a curve, size) -> a call."""
    cells = {}
    for name, model in models.items():
        for batch in batches:
            cells[name, "batch", batch] = functools.partial(model, **inputs(ROWS[name].size, batch))
    for name, model in models.items():
        if name in TOGETHER:
            for count in questions:
                cells[name, "together", count] = functools.partial(model, **inputs(224, 1, count))
                cells[name, "one by one", count] = functools.partial(one_by_one, model, count)
    if "ours" in models:
        model = models["ours"]
        kinds = dict(zip(CURVES, ((1, None), (None, 1), (8, 1), (8, 1))))
        for curve, sizes in curves.items():
            images, count = kinds[curve]
            for size in sizes:
                tokens = size if curve.startswith("tokens") else TOKENS
                vocabulary = curve.startswith("answers")
                batch = inputs(224, images or size, count or size, tokens)
                call = functools.partial(model, **batch)
                if vocabulary:
                    head = AnswerHead(model.config, model.config.open_ended_head_sizes, size).eval()
                    call = functools.partial(with_vocabulary, model, head, batch)
                cells["ours", curve, size] = call
    return cells


STARTUP = {
    "first answer": """
import sys
from PIL import Image
from modeling_dualvqa import DualVQAForQuestionAnswering
from modeling_dualvqa.pipeline_dualvqa import DualVQAPipeline
from processing import DualVQAProcessor
model = DualVQAForQuestionAnswering.from_pretrained(sys.argv[1])
pipe = DualVQAPipeline(model, DualVQAProcessor.from_pretrained(sys.argv[1]))
print(pipe(image=Image.new("RGB", (224, 224)), question="what color is it?"))
""",
    "import torch, torchvision, PreTrainedModel and reading the weights": """
import sys, torch, torchvision
from transformers import PreTrainedModel
from safetensors.torch import load_file
load_file(sys.argv[1] + "/model.safetensors")
""",
    "import torch, transformers and reading the weights": """
import sys, torch, transformers
from safetensors.torch import load_file
load_file(sys.argv[1] + "/model.safetensors")
""",
}


def startup(repeats):
    """Seconds that fresh processes take from start to end, in turn."""
    answers = [f"answer {number}" for number in range(dual().config.num_answers)]
    tokenizer = train_tokenizer(["what color is it?"], 100, TOKENS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        dual().save_pretrained(folder)
        DualVQAProcessor(DualVQAImageProcessor(), tokenizer, answers).save_pretrained(folder)
        seconds = {name: [] for name in STARTUP}
        for number in range(repeats + 1):
            for name, code in STARTUP.items():
                run = functools.partial(
                    subprocess.run,
                    [sys.executable, "-c", code, folder],
                    check=True,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                )
                found = timed(run)
                if number:  # the first pair fills the disk's cache
                    seconds[name].append(found)
    return {name: median(found) for name, found in seconds.items()}


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
    """Two pictures beside the page: rows and questions per image; and the curves."""
    names = list(dict.fromkeys(name for name, _, _ in medians))
    largest = args.batches[-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
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
    figure.savefig(args.output.with_suffix(".png"), dpi=100)
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.5), layout="constrained")
    for axis, curve in zip(axes, CURVES):
        found = {size: 1000 * value for (_, kind, size), value in medians.items() if kind == curve}
        axis.plot(found.keys(), found.values(), marker="o")
        top = 1.1 * max(found.values(), default=1)
        axis.set(xlabel=curve, ylabel="ms", ylim=(0, top), xscale="log" if curve.startswith("answers") else "linear")
    figure.savefig(args.output.with_name(f"{args.output.stem}_scaling.png"), dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--startup", type=int, default=5, help="fresh processes of each kind; 0 leaves them out")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    args.questions, curves = QUESTIONS, CURVES
    if args.quick:
        args.rounds, args.batches, args.questions, args.startup = 1, (1, 2), (1, 2), 0
        curves = {curve: sizes[:2] for curve, sizes in CURVES.items()}
    with torch.inference_mode():
        started = startup(args.startup) if args.startup else {}
        models, left_out = build_rows(args.rows)
        seconds = interleaved(cells_of(models, args.batches, args.questions, curves), args.rounds)
    medians = {cell: median(found) for cell, found in seconds.items()}
    text = page(args, medians, seconds, left_out, started)
    write_page(args.output, text)
    draw(args, medians)
    print(text)


if __name__ == "__main__":
    main()
