"""Soft against hard labels: easy-VQA answered by ten made people who err in known ways, several seeds.

python benchmarks/annotators.py --output docs/results/annotators.md [--epochs 6] [--images 4000 1000] [--jobs 2]

Data and runs go to runs/annotators; a run that is finished already is not trained again. With a GPU, --jobs 5 keeps it
busy. The images are those of the package easy-vqa; --images takes the first so many of its training and its test part.
"""

import json
import os
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from abstention import halves
from asked import load, outputs_of
from pages import ROOT, build_parser, command, table, write_page
from seeds import run, spread
from torch import nn

PEOPLE = 10
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
SHAPES = ("circle", "rectangle", "triangle")
SLIP = 0.1  # of everybody's answers, to another one of its kind
SEEN_AS = {"teal": ("blue", 0.45), "gray": ("black", 0.4), "brown": ("red", 0.3)}  # by how many people
READ_PAST = 0.35  # of the people miss the "not" of a question

SHORT = (
    "--do_eval false --do_predict false --eval_strategy no --save_strategy no --load_best_model_at_end false "
    "--disable_tqdm true --calibrate false --report false --validation_fraction 0"
).split()
ARMS = {
    "majority": [],
    "soft, VQA score": ["--target", "soft"],
    "soft, share": ["--target", "soft", "--soft_score", "share"],
    "majority, focal": ["--config", "focal_gamma=2.0"],
    "soft, share, focal": ["--target", "soft", "--soft_score", "share", "--config", "focal_gamma=2.0"],
}
LEAST = -20.0  # log p of an answer that the vocabulary lacks
PAIRS = (("off", 2), ("off_share", 2), ("surprise", 3))  # and how many digits are shown
HEADER = """# Several annotators

What `--target soft` is worth where people disagree. Written by

```bash
{command}
```

Ten made people answer each question of easy-VQA. {slip:.0%} of all answers are slips, another answer of the same kind.
Besides, people differ in known ways: {seen}; {past:.0%} read past a "not"
and answer the opposite. *Majority* learns what most people said, *soft* all answers with their VQA score or their
share; *focal* with gamma 2, the others with plain or binary cross-entropy.

{questions:,} training questions about {images:,} images, {epochs} epochs of recipes/easy_vqa.yaml, the last state is
scored on the official test part ({tested:,} questions, ten such people each): mean ± standard deviation over seeds
{seeds}; {cores} cores, {machine}, {device}, torch {torch}.

- *Truth*: % of the answers that are easy-VQA's own, which no model was shown. *VQA score*: % by the official rule,
  against the ten people. Both with the head of the true question type.
- *Off, VQA score*: how far the score of the best answer is from that answer's VQA score (expected calibration error,
  in %); *off, share*: from the share of the ten people who gave it. *Surprise*: the mean of -log p of a person's
  answer, in nats; lower is better. All before → after temperatures, which are fitted as a run does, to what most people
  said, on a random half of the test images and measured on the other half, mean of {splits}.

"""


def answers_of(question, truth, rng):
    """What ten people say."""
    kind = next((kind for kind in (COLORS, SHAPES) if truth in kind), ("no", "yes"))
    other, share = SEEN_AS.get(truth, (truth, 0.0))
    if kind == ("no", "yes") and re.search(r"\bnot\b", question):
        other, share = kind[truth == "no"], READ_PAST
    said = np.where(rng.random(PEOPLE) < share, other, truth)
    slips = rng.random(PEOPLE) < SLIP
    return [str(rng.choice([a for a in kind if a != word])) if slip else str(word) for word, slip in zip(said, slips)]


def write_data(folder, images):
    """train.jsonl and test.jsonl with ten answers to each question; their sizes."""
    import easy_vqa

    folder.mkdir(parents=True, exist_ok=True)
    rng, sizes = np.random.default_rng(0), {}
    for part in ("train", "test"):
        questions, truths, numbers = getattr(easy_vqa, f"get_{part}_questions")()
        paths, rows = getattr(easy_vqa, f"get_{part}_image_paths")(), []
        for question, truth, number in zip(questions, truths, numbers):
            if number < images[part == "test"]:
                said = answers_of(question, truth, rng)
                rows.append({"image": paths[number], "question": question, "answer": said, "truth": truth})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
        sizes[part] = len(rows), len({row["image"] for row in rows})
    return sizes


def best_of(labelled, ranked, types):
    """Of the head of the true type: (n,) scores of the best answers, and these answers."""
    best = [items[0] for items in labelled.processor.decode(ranked, types, abstain=False)]
    return np.array([one["score"] for one in best]), [one["answer"] for one in best]


def surprise(labelled, temperatures, types):
    """(n,) mean of -log p of the people's answers, by the head of the true type."""
    from processing.answers import normalise_answer
    from processing.processing_dualvqa import BINARY_ANSWERS

    found = np.zeros(len(types))
    for head, names in (("binary", BINARY_ANSWERS), ("open_ended", labelled.processor.answers)):
        index = {normalise_answer(name): place for place, name in enumerate(names)}
        rows = [row for row, kind in enumerate(types) if kind == head]
        words = [[index.get(normalise_answer(word), len(names)) for word in labelled.references[row]] for row in rows]
        logits = labelled.outputs[f"{head}_logits"][rows].float() / temperatures.get(head, 1.0)
        log_p = nn.functional.pad(logits.log_softmax(dim=-1), (0, 1), value=LEAST)
        found[rows] = -log_p.gather(1, torch.tensor(words)).mean(dim=1).numpy()
    return found


def measure(folder, rows, splits):
    """Figures of a saved model: name -> value, or a pair before and after temperatures."""
    from dualvqa.trust.calibration import LabelledLogits
    from dualvqa.trust.reliability import expected_calibration_error
    from processing import consensus, question_type_of
    from processing.processing_dualvqa import QUESTION_TYPES
    from processing.soft_labels import score_of_matches

    model, processor = load(folder)
    outputs = outputs_of(model, processor, rows, 512)
    labelled = LabelledLogits(processor, outputs, rows["answer"][:], rows["image_key"][:])
    types = [QUESTION_TYPES[question_type_of(consensus(people))] for people in labelled.references]

    def state(temperatures):
        scores, answers = best_of(labelled, labelled.ranked(temperatures), types)
        agree = np.array([people.count(answer) for people, answer in zip(labelled.references, answers)])
        right = np.array([score_of_matches(int(count), PEOPLE) for count in agree])
        return scores, right, agree / PEOPLE, surprise(labelled, temperatures, types), answers

    def errors(scores, right, share, surprised, _, rows):
        pairs = ((100 * expected_calibration_error(scores[rows], true[rows])) for true in (right, share))
        return [*pairs, surprised[rows].mean()]

    before, found = state({}), []
    for fitted, measured in halves(labelled.images, splits, 0):
        after = state(labelled.temperatures(list(QUESTION_TYPES), fitted))
        found.append([errors(*before, measured), errors(*after, measured)])
    return {
        "truth": 100 * mean(answer == truth for answer, truth in zip(before[-1], rows["truth"][:])),
        "vqa": 100 * before[1].mean(),
        **dict(zip(("off", "off_share", "surprise"), np.mean(found, axis=0).T.tolist())),
    }


def of_the_people(rows):
    """The truth and VQA score of what most of the ten said."""
    from processing import consensus
    from processing.soft_labels import score_of_matches

    said = [(people, consensus(people)) for people in rows["answer"][:]]
    truth = mean(word == truth for (_, word), truth in zip(said, rows["truth"][:]))
    return 100 * truth, 100 * mean(score_of_matches(people.count(word), PEOPLE) for people, word in said)


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/annotators")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, nargs=2, default=[4000, 1000], help="of the training and the test part")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    sizes = write_data(args.runs, args.images)
    files = ["--train_file", str(args.runs / "train.jsonl"), "--num_train_epochs", str(args.epochs)]
    files += ["--image_cache_dir", str(args.runs / "images")]
    threads = max(1, os.cpu_count() // args.jobs)
    folders = {(arm, seed): args.runs / f"{arm.replace(', ', '_')}_{seed}" for arm in args.arms for seed in args.seeds}
    recipe, count = str(ROOT / "recipes/easy_vqa.yaml"), len(folders)
    flags = [[*SHORT, *files, *ARMS[arm], "--seed", str(seed)] for arm, seed in folders]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(run, [recipe] * count, folders.values(), flags, [threads] * count))
    from processing import DataArguments, prepare_dataset

    rows = prepare_dataset(str(args.runs / "test.jsonl"), data_args=DataArguments())
    found = {key: measure(folder, rows, args.splits) for key, folder in folders.items()}
    lines = []
    for arm in args.arms:
        runs = [found[arm, seed] for seed in args.seeds]
        pairs = [[spread([one[name][when] for one in runs], digits) for when in (0, 1)] for name, digits in PAIRS]
        plain = [spread([one[name] for one in runs], 2) for name in ("truth", "vqa")]
        lines.append([arm, *plain, *map(" → ".join, pairs)])
    lines.append(["what most of the ten said", *(f"{figure:.2f}" for figure in of_the_people(rows)), "", "", ""])
    text = HEADER.format(
        command=command(),
        slip=SLIP,
        past=READ_PAST,
        seen=", ".join(f"{share:.0%} call {color} {other}" for color, (other, share) in SEEN_AS.items()),
        questions=sizes["train"][0],
        images=sizes["train"][1],
        tested=sizes["test"][0],
        epochs=args.epochs,
        splits=args.splits,
        seeds=", ".join(map(str, args.seeds)),
        cores=os.cpu_count(),
        machine=platform.machine(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
        torch=torch.__version__,
    )
    write_page(
        args.output,
        text + table(["learned from", "truth", "VQA score", "off, VQA score", "off, share", "surprise"], lines),
    )
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
