"""Time of an epoch: run_vqa.py against the plain Trainer, full and with frozen towers, on easy-VQA and VQA-RAD.

python benchmarks/training.py --output docs/results/training_speed.md --train_file train.jsonl --image_dir images
    [--vision_model_name_or_path X] [--text_model_name_or_path Y] [--data easy_vqa vqa_rad] [--rounds 2]

About 20 minutes on two cores. Plain is transformers' Trainer with one image per question, decoded each time, and
questions padded to 64 tokens. A run is a process of its own that measures some steps after a few for warming up, which
are scaled to an epoch; plain and ours take turns.
"""

import io
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import matplotlib
import yaml
from alone import alone
from measure import machine
from pages import ROOT, build_parser, command, table, write_page

matplotlib.use("Agg")
sys.path.insert(0, str(ROOT))
from matplotlib import pyplot as plt
from PIL import Image
from transformers import Trainer, TrainerCallback, set_seed

PADDED = 64  # tokens
WORKERS = (0, 1, 2)
# No augmentation: both do the same work, and frozen towers' embeddings can be kept.
COMMON = (
    "--do_train --do_eval false --do_predict false --eval_strategy no --save_strategy no --report_to none --use_cpu "
    "--load_best_model_at_end false --early_stopping_patience 0 --disable_tqdm true --horizontal_flip 0 "
    "--random_rotation 0 --random_crop_scale 1 --color_jitter 0"
).split()
DATA = {
    "easy_vqa": ["--questions_per_image", "16"],
    "vqa_rad": ["--questions_per_image", "8"],
}
MODES = {
    "full": ["freeze_vision=false", "freeze_text=false"],
    "frozen": ["freeze_vision=true", "freeze_text=true"],
}
# Measured steps and those before them: about half a minute each.
STEPS = {"plain": (6, 2), "ours": (30, 5)}
QUICK = (
    "--image_size 32 --per_device_train_batch_size 4 --config fusion_hidden_size=16 fusion_num_attention_heads=2 "
    "text_config.dim=16 text_config.hidden_dim=32 text_config.n_layers=1 text_config.n_heads=2 "
    f"text_config.max_position_embeddings={PADDED}"
).split()

NOTE = """{machine}.
Seconds of an epoch, the median of {rounds} runs of each kind that took turns. *Plain* is transformers' Trainer: one
image per question, decoded each time, questions padded to {padded} tokens. *Ours* is run_vqa.py. Model, rows, batch
size and optimizer are the same, those of the recipe; nothing is augmented. Not whole epochs were run: of plain
{plain}, of ours {ours}, scaled to the steps of an epoch. *Once* is what ours does before the first epoch: it decodes
the images, and with frozen towers computes the embeddings. easy-VQA has the model of recipes/easy_vqa.yaml with room
for {padded} tokens; VQA-RAD MobileNetV3-Small and DistilBERT, from random weights and with a tokenizer of its own
questions unless the command names others. No worker processes read data, except in the last table.
"""


class Clock(TrainerCallback):
    """Notes when training begins and when each step ends."""

    def __init__(self):
        self.times = []

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.steps_of_epoch = len(train_dataloader)
        self.times.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())

    def seconds_per_step(self, warm_up):
        measured = self.times[warm_up:]
        return (measured[-1] - measured[0]) / (len(measured) - 1)


class PlainCollator:
    """What one writes first: each row's image opened and resized, all questions padded to the same length."""

    def __init__(self, processor, labels):
        self.processor, self.labels = processor, labels

    def __call__(self, rows):
        images = [Image.open(io.BytesIO(i["bytes"]) if i.get("bytes") else i["path"]) for i in column(rows, "image")]
        batch = self.processor(
            images=[image.convert("RGB") for image in images],
            text=column(rows, "question"),
            padding="max_length",
            truncation=True,
            max_length=PADDED,
            return_tensors="pt",
        )
        return {**batch, **self.labels(column(rows, "answer"))}


def column(rows, name):
    return [row[name] for row in rows]


def train_plain(flags, clock):
    """The same rows, model and settings as run_vqa.py has, with transformers' Trainer."""
    from dualvqa.run.arguments import parse_arguments
    from dualvqa.run.flags import config_fields
    from dualvqa.training.building import build_new
    from processing import VQACollator, prepare_datasets, summary_of

    model_args, data_args, training_args = parse_arguments(flags)
    set_seed(training_args.seed)
    parts, *_ = prepare_datasets(data_args)
    fields = config_fields(model_args.config)
    model, processor = build_new(model_args, fields, data_args, summary_of(parts["train"]))
    collator = PlainCollator(processor, VQACollator(processor).labels)
    Trainer(model, training_args, collator, parts["train"], callbacks=[clock]).train()


def train_ours(flags, clock):
    """run_vqa.py, and how long it takes to prepare what it keeps: decoded images, frozen towers' embeddings."""
    from dualvqa.run import main as run_vqa
    from dualvqa.run.train import prepare_trainer
    from dualvqa.training.trainer import DualHeadTrainer

    prepare_inputs, once = DualHeadTrainer.prepare_inputs, []

    def add_clock(run):
        run.trainer.add_callback(clock)

    def noting_time(trainer):
        started = time.perf_counter()
        prepare_inputs(trainer)
        once.append(time.perf_counter() - started)

    DualHeadTrainer.prepare_inputs = noting_time
    place = run_vqa.STAGES.index(prepare_trainer) + 1
    run_vqa.STAGES = (*run_vqa.STAGES[:place], add_clock, *run_vqa.STAGES[place:])
    run_vqa.main(flags)
    return sum(once)


def measure(kind, warm_up, flags):
    """One run, in this process."""
    clock = Clock()
    once = {"plain": train_plain, "ours": train_ours}[kind](flags, clock)
    epoch = clock.seconds_per_step(warm_up) * clock.steps_of_epoch
    return {"epoch": epoch, "once": once or 0.0, "steps": clock.steps_of_epoch}


def run(args, data, mode, kind, workers=0):
    """`measure` in a process of its own."""
    steps, warm_up = (2, 1) if args.quick else STEPS[kind]
    recipe = yaml.safe_load((ROOT / f"recipes/{data}.yaml").read_text())
    flags = [*COMMON, "--max_question_length", str(PADDED), *DATA[data]]
    config = [*MODES[mode], f"text_config.max_position_embeddings={PADDED}"] if data == "easy_vqa" else MODES[mode]
    if data == "vqa_rad":
        # Files in place of the Hub's data and towers.
        recipe = {key: value for key, value in recipe.items() if not key.endswith("model_name_or_path")}
        flags += ["--train_file", args.train_file, "--image_dir", args.image_dir, *args.towers]
        if args.quick:
            recipe.pop("exclude_rows")
    if args.fusion_type:
        config = [*config, f"fusion_type={args.fusion_type}"]
    quick = QUICK if args.quick else ["--config"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(yaml.safe_dump(recipe))
        flags = [str(path), *flags, "--output_dir", f"{folder}/run", "--max_steps", str(steps + warm_up)]
        flags += ["--dataloader_num_workers", str(workers), *quick, *config]
        found = alone(measure, kind, warm_up, flags)
    print(f"{data} {mode} {kind}, {workers} workers: {found['epoch']:.1f} s an epoch", flush=True)
    return found


def seconds(found, key="epoch"):
    return median(run[key] for run in found)


def page(args, found, curve):
    """The Markdown page."""
    rows, goals = [], []
    for data in args.data:
        for mode in MODES:
            plain, ours = found[data, mode, "plain"], found[data, mode, "ours"]
            ratio = seconds(plain) / seconds(ours)
            steps = ours[0]["steps"]
            cells = [f"{seconds(plain):,.1f}", f"{seconds(ours):,.2f}", f"{ratio:.1f}", f"{seconds(ours, 'once'):.1f}"]
            rows.append([data, mode, steps, *cells])
        wanted = {"easy_vqa": 8, "vqa_rad": 3}[data]
        full = {kind: seconds(found[data, "full", kind]) for kind in ("plain", "ours")}
        goals.append([f"{data}, full: plain / ours", f"≥ {wanted}", f"{full['plain'] / full['ours']:.1f}"])
        frozen = seconds(found[data, "frozen", "ours"])
        goals.append([f"{data}, ours: full / frozen", "≥ 50", f"{full['ours'] / frozen:.0f}"])
    text = [
        f"# Speed of training\n\nWritten by\n\n```bash\n{command()}\n```\n",
        NOTE.format(
            machine=machine(),
            rounds=args.rounds,
            padded=PADDED,
            plain="{} steps after {}".format(*STEPS["plain"]),
            ours="{} after {}".format(*STEPS["ours"]),
        ),
        table(["data", "towers", "steps", "plain, s", "ours, s", "plain / ours", "once, s"], rows),
        "## Goals\n",
        table(["ratio", "goal", "reached"], goals),
        f"## Worker processes, {args.data[-1]}, full, s an epoch\n",
        table(
            ["", *WORKERS[: args.workers]],
            [[kind, *(f"{seconds(curve[kind, number]):,.1f}" for number in WORKERS[: args.workers])] for kind in STEPS],
        ),
        f"![seconds of an epoch]({args.output.stem}.png)\n",
    ]
    return "\n".join(text)


def draw(args, found, curve):
    figure, (left, right) = plt.subplots(2, 1, figsize=(8, 7), layout="constrained")
    names = [f"{data}\n{mode}" for data in args.data for mode in MODES]
    for kind, shift in (("plain", -0.2), ("ours", 0.2)):
        heights = [seconds(found[data, mode, kind]) for data in args.data for mode in MODES]
        bars = left.bar([place + shift for place in range(len(names))], heights, 0.4, label=kind)
        left.bar_label(bars, fmt="%.3g")
    left.set_xticks(range(len(names)), names)
    left.set(ylabel="seconds of an epoch", yscale="log")
    left.margins(y=0.15)
    left.legend()
    workers = WORKERS[: args.workers]
    for kind in STEPS:
        right.plot(workers, [seconds(curve[kind, number]) for number in workers], marker="o", label=kind)
    right.set(xlabel="worker processes", title=f"{args.data[-1]}, full", ylim=(0, None), xticks=workers)
    right.legend()
    figure.savefig(args.output.with_suffix(".png"), dpi=160)


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train_file", help="of VQA-RAD")
    parser.add_argument("--image_dir")
    parser.add_argument("--vision_model_name_or_path")
    parser.add_argument("--text_model_name_or_path")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--fusion_type", help="in place of the recipes'")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=len(WORKERS), help="how many points the curve has, from 0")
    parser.add_argument("--quick", action="store_true", help="a tiny model and two steps, to see that it runs")
    args = parser.parse_args()
    if "vqa_rad" in args.data and not (args.train_file and args.image_dir):
        parser.error("vqa_rad needs --train_file and --image_dir; without them give --data easy_vqa")
    names = ("vision_model_name_or_path", "text_model_name_or_path")
    args.towers = [part for name in names if getattr(args, name) for part in (f"--{name}", getattr(args, name))]
    found, curve = {}, {}
    for _ in range(args.rounds):
        for data in args.data:
            for mode in MODES:
                for kind in STEPS:
                    found.setdefault((data, mode, kind), []).append(run(args, data, mode, kind))
        for number in WORKERS[: args.workers]:
            for kind in STEPS:
                known = found[args.data[-1], "full", kind][-1:] if number == 0 else None
                curve.setdefault((kind, number), []).extend(known or [run(args, args.data[-1], "full", kind, number)])
    text = page(args, found, curve)
    write_page(args.output, text)
    draw(args, found, curve)
    print(text)


if __name__ == "__main__":
    main()
