"""Does contrastive pre-training help where few questions are answered? easy-VQA with 10 % of its training questions.

python benchmarks/contrastive.py --output docs/results/contrastive.md
    [--steps 230 --pretraining_steps 345 --threads 1 --jobs 2]

Runs are short; the table says how short. They go to runs/contrastive, and one that is finished already is not run
again.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from seeds import TYPES, run, spread

RECIPE = str(ROOT / "recipes/easy_vqa.yaml")
SEEDS = (42, 0, 1)
FRACTION = "0.1"
SHORT = "--eval_strategy no --save_strategy no --load_best_model_at_end false --disable_tqdm true".split()
# What pre-training reads of the training part's texts, each a question with its answer; None for no pre-training.
ARMS = {"none": None, "the same 10 % of the questions": FRACTION, "all training questions": "1"}
KINDS = ("routed", "oracle")
HEADER = """# Contrastive pre-training

What pre-training of towers and projections on image-text pairs (`--pretrain contrastive`) brings where few questions
are answered. Written by

```bash
{command}
```

Each model is trained on 10 % of the questions of easy-VQA's official training part, drawn one by one with
`--train_fraction 0.1` (the same ones for all), for {steps} steps, and scored on the official
test part. Pre-training comes before that, with {pretraining_steps} steps of its own and {per_image} texts about an
image at a time; the model without it gets no steps in their place. Accuracies in %, mean ± standard deviation over
seeds {seeds}; the last state is scored, not the best one.

A text is a question with its answer, "what color is it? red". **Pre-training on all training questions has therefore
read the answers of all of them**, ten times those that the model is then trained on: it is not to be compared with
models that know 10 % of the answers. Pre-training on the same 10 % has read nothing more.

{machine}; {jobs} runs at a time with {threads} threads each.

## Test part

"""


def arm(name, seed, args):
    """The figures of one fine-tuning, with the pre-training before it, and of that pre-training's retrieval or None."""
    flags = [*SHORT, "--seed", str(seed)]
    tuned = [*flags, "--train_fraction", FRACTION, "--max_steps", str(args.steps)]
    number = list(ARMS).index(name)
    if ARMS[name] is None:
        return run(RECIPE, args.runs / f"plain_{seed}", [*tuned, *args.flags], args.threads), None
    folder = args.runs / f"pretrained_{number}_{seed}"
    pretraining = ["--pretrain", "contrastive", "--do_predict", "false", "--train_fraction", ARMS[name]]
    pretraining += ["--max_steps", str(args.pretraining_steps), "--questions_per_image", str(args.per_image)]
    found = run(RECIPE, folder, [*flags, *pretraining, *args.flags], args.threads)
    tuned += ["--model_name_or_path", str(folder)]
    return run(RECIPE, args.runs / f"tuned_{number}_{seed}", [*tuned, *args.flags], args.threads), found


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/contrastive")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=230, help="of training, 320 questions each")
    parser.add_argument("--pretraining_steps", type=int, default=345, help="three epochs of all training questions")
    parser.add_argument("--per_image", type=int, default=4, help="texts about an image in a batch of pre-training")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="what pre-training reads")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="more flags of run_vqa.py, for all runs")
    args = parser.parse_args()
    with ThreadPoolExecutor(args.jobs) as pool:
        pending = {(name, seed): pool.submit(arm, name, seed, args) for seed in args.seeds for name in args.arms}
    found = {key: job.result() for key, job in pending.items()}
    first = found[args.arms[0], args.seeds[0]][0]
    rows, searches = [], []
    for name in args.arms:
        runs = [found[name, seed][0] for seed in args.seeds]
        for kind in KINDS:
            cells = [spread([100 * one[f"test_{kind}_{figure}"] for one in runs], 2) for figure in TYPES.values()]
            rows.append([name, kind, *cells])
        if ARMS[name]:
            searched = [found[name, seed][1] for seed in args.seeds]
            for direction in ("image_to_text", "text_to_image"):
                cells = [
                    spread([factor * one[f"eval_{direction}_{figure}"] for one in searched], digits)
                    for figure, factor, digits in (("recall_at_1", 100, 2), ("chance", 100, 2), ("candidates", 1, 0))
                ]
                searches.append([name, direction.replace("_", " "), *cells])
    always = [f"{100 * first[f'test_majority_{figure}']:.2f}" for figure in TYPES.values()]
    rows.append(["always the most frequent answer", "", *always])
    values = {**vars(args), "seeds": ", ".join(map(str, args.seeds)), "command": command(), "machine": machine()}
    text = HEADER.format(**values) + table(["pre-trained on", "head chosen", *TYPES], rows)
    text += "\n## Retrieval on the validation part, after pre-training\n\n"
    text += (
        "How often, in %, the best candidate of a batch of evaluation belongs to the image or text that is searched "
    )
    text += "with, and how\noften one drawn at random would.\n\n"
    text += table(["pre-trained on", "search", "recall@1", "chance", "candidates"], searches)
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
