"""How fast answering and training could be on this machine: operations counted, and the rate of its matrix products.

python benchmarks/limits.py --output docs/results/limits.md

Two minutes. Beside docs/results/inference.md and docs/results/training_speed.md it says how far a measured time
is from what the matrix products alone would take.
"""

from pathlib import Path
from statistics import median

import torch
import yaml
from inference_models import dual, inputs, rival
from inference_page import milliseconds
from measure import interleaved, machine
from pages import ROOT, build_parser, command, table, write_page
from torch.utils.flop_counter import FlopCounterMode

from dualvqa.deployment.optimize import Int8Linear, optimize_for_inference
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

BATCH, ROUNDS = 32, 5
# Of a text tower's feed-forward at this batch: rows, inputs, outputs.
SHAPE = (384, 768, 3072)
NOTE = """# How fast answering could be

Written by

```bash
{command}
```

{machine}. Batch {batch}, an image and a question of 12 tokens each. *Operations* are the multiplications and additions
of matrix products and convolutions, counted; the *rate* is that of a product of {shape}, measured in the same
run: {fp32:.0f} GFLOP/s in fp32 and {int8:.0f} Gop/s in int8, which quantises its input as well. *At least* is
operations / rate, as if nothing else took time; no convolution of few channels reaches that rate.
"""


TRAINING_NOTE = """
## A training step

Forward and backward through the model alone, without reading data or the optimizer. Full: everything is trained.
Frozen: fusion and heads, on embeddings that are kept. *At most* is how many times faster than a full step, as measured,
a frozen one would be if its products ran at the rate above and nothing else took time.

"""
# What a batch of benchmarks/training.py has, on average: rows, different images and questions, tokens.
STEPS = {
    "easy-VQA, cross-attention": {"rows": 320, "images": 33, "questions": 95, "tokens": 9},
    "VQA-RAD, cross-attention": {"rows": 32, "images": 6, "questions": 32, "tokens": 12},
    "VQA-RAD, attention": {"rows": 32, "images": 6, "questions": 32, "tokens": 12},
}


def operations(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def step_model(name):
    """The model of a row of `STEPS`, in training mode, and its image size."""
    if not name.startswith("easy"):
        return dual("cross_attention" if "cross" in name else "attention").train(), 224
    recipe = yaml.safe_load((ROOT / "recipes/easy_vqa.yaml").read_text(encoding="utf-8"))
    text = {"model_type": "distilbert", **recipe["config"]["text_config"], "vocab_size": 100}
    config = DualVQAConfig(**{**recipe["config"], "text_config": text, "num_answers": 11})
    return DualVQAForQuestionAnswering(config).train(), recipe["image_size"]


def step_calls(name):
    """What a full and a frozen step compute, as functions without arguments."""
    (model, size), shape = step_model(name), STEPS[name]
    rows = torch.arange(shape["rows"])
    indices = {"image_index": rows % shape["images"], "question_index": rows % shape["questions"]}
    labels = {"binary_labels": rows % 2, "open_ended_labels": rows % 2, "question_type_labels": rows % 2}
    pixels = torch.randn(shape["images"], 3, size, size)
    ids = torch.randint(5, 100, (shape["questions"], shape["tokens"]))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        embeds = {"image_embeds": model.encode_images(pixels), "text_embeds": model.encode_questions(ids, mask)}
    common = {"attention_mask": mask, **indices, **labels}
    return {
        "full": lambda: model(input_ids=ids, pixel_values=pixels, **common).loss.backward(),
        "frozen": lambda: model(**embeds, **common).loss.backward(),
    }


def training_table(rate):
    """A row for each of `STEPS`: operations and times of full and frozen steps; `rate` in operations a second."""
    calls = {(name, kind): call for name in STEPS for kind, call in step_calls(name).items()}
    counted = {key: operations(call) for key, call in calls.items()}
    found = {key: median(seconds) for key, seconds in interleaved(calls, ROUNDS).items()}
    lines = []
    for name in STEPS:
        full, frozen = found[name, "full"], found[name, "frozen"]
        cells = [f"{counted[name, kind] / 1e9:.1f}" for kind in ("full", "frozen")]
        cells += [milliseconds(full), milliseconds(frozen), milliseconds(counted[name, "frozen"] / rate)]
        lines.append([name, *cells, f"{full / frozen:.0f}", f"{full * rate / counted[name, 'frozen']:.0f}"])
    head = ["", "full, G", "frozen, G", "full, ms", "frozen, ms", "frozen at least, ms", "full / frozen", "at most"]
    return TRAINING_NOTE + table(head, lines)


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    batch = inputs(224, BATCH)
    pixels, question = batch["pixel_values"], (batch["input_ids"], batch["attention_mask"])
    ours = dual()
    models = {
        "ours": ours,
        "folded": optimize_for_inference(ours),
        "int8": optimize_for_inference(ours, "int8"),
        "ResNet-34 + BERT-base": rival({"architecture": "resnet34"})(),
    }
    linear = torch.nn.Linear(*SHAPE[1:])
    int8, states = Int8Linear(linear), torch.randn(*SHAPE[:2])
    cells = {("rate", "fp32"): lambda: linear(states), ("rate", "int8"): lambda: int8(states)}
    with torch.inference_mode():
        calls = {}
        for name, model in models.items():
            images, texts = model.encode_images(pixels), model.encode_questions(*question)
            calls[name, "image tower"] = lambda model=model: model.encode_images(pixels)
            calls[name, "text tower"] = lambda model=model: model.encode_questions(*question)
            calls[name, "fusion and heads"] = lambda m=model, i=images, t=texts: m.answer(i, t, question[1])
        medians = {key: median(found) for key, found in interleaved(cells | calls, ROUNDS).items()}
        rate = {kind: operations(cells["rate", "fp32"]) / medians["rate", kind] for kind in ("fp32", "int8")}
        lines = []
        for name, part in calls:
            counted = operations(calls["ours" if name in ("folded", "int8") else name, part])
            least = counted / rate["int8" if name == "int8" and part != "image tower" else "fp32"]
            found = medians[name, part]
            lines.append([name, part, f"{counted / 1e9:.1f}", milliseconds(least), milliseconds(found)])
            lines[-1].append(f"{100 * least / found:.0f}")
    text = NOTE.format(
        command=command(),
        machine=machine(),
        batch=BATCH,
        shape=" x ".join(map(str, SHAPE)),
        **{kind: value / 1e9 for kind, value in rate.items()},
    )
    text += "\n" + table(["", "part", "operations, G", "at least, ms", "measured, ms", "% of the rate"], lines)
    total = {name: sum(value for (row, _), value in medians.items() if row == name) for name in models}
    rest = total["ResNet-34 + BERT-base"]
    vision, texts = medians["folded", "image tower"], medians["folded", "text tower"]
    int8_rest = sum(value for (name, part), value in medians.items() if name == "int8" and part != "image tower")
    least = operations(calls["ours", "text tower"]) / rate["fp32"]
    text += (
        f"\nResNet-34 + BERT-base takes {milliseconds(rest)} ms in sum. 8 times its speed in fp32 would be "
        f"{milliseconds(rest / 8)} ms, of which our text tower's products alone need {milliseconds(least)} and take "
        f"{milliseconds(texts)}, the image tower {milliseconds(vision)}. 15 times its speed would be "
        f"{milliseconds(rest / 15)} ms; int8 text tower, fusion and heads take {milliseconds(int8_rest)}, and the "
        f"image tower, which stays in fp32, {milliseconds(medians['int8', 'image tower'])}.\n"
    )
    text += training_table(rate["fp32"])
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
