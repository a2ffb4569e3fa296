"""Speed of answering, ours in every form and rivals, in one process: tables and plots.

python benchmarks/inference.py --output docs/results/inference.md [--rows ours "ours int8"] [--rounds 5]

About 15 minutes and 12 GiB on two cores. All weights are random, which doesn't change the speed. --rows takes the names
of `inference_models.ROWS`; --quick takes small batches and one round, to see that it runs.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch
from inference_models import CURVES, ROWS, TOGETHER, TOKENS, build_rows, dual, inputs
from inference_page import draw, page
from measure import BURST, interleaved, timed
from pages import ROOT, build_parser, write_page

sys.path.insert(0, str(ROOT))
from modeling_dualvqa.modeling_dualvqa import AnswerHead
from processing import DualVQAImageProcessor, DualVQAProcessor, train_tokenizer

BATCHES, QUESTIONS = (1, 8, 32), (1, 2, 5, 10, 20)


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


def main(argv=None):
    parser = build_parser(__doc__)
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
        cells = cells_of(models, args.batches, args.questions, curves)
        seconds = interleaved(cells, args.rounds, burst=0 if args.quick else BURST)
    medians = {cell: median(found) for cell, found in seconds.items()}
    text = page(args, medians, seconds, left_out, started)
    write_page(args.output, text)
    draw(args, medians)
    print(text)


if __name__ == "__main__":
    main()
