"""Which kinds of questions do models get wrong? Accuracy of the runs of benchmarks/ablation.py by kind of question.

python benchmarks/question_kinds.py --dataset easy_vqa --rows full product --output docs/results/question_kinds.md

Reads predictions.jsonl of runs that are finished; benchmarks/ablation.yaml says what the kinds are.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from ablation import SEEDS, check_rows, plan
from ablation_tables import spread
from pages import ROOT, build_parser, command, table, write_page

NOTE = """# Kinds of questions, {dataset}

Written by

```bash
{command}
```

after `benchmarks/ablation.py`, whose runs of {budget} steps it reads. Accuracies in %, routed, on the test part, mean ±
standard deviation over the seeds {seeds}. *Without the image* is the most that a model can reach which doesn't look:
it gives each wording of a question the answer that is most frequent for it in this very part.

"""


def kind_of(question, kinds):
    return next(kind for kind, pattern in kinds.items() if re.search(pattern, question))


def by_kind(rows, kinds, right):
    """kind -> accuracy in %, by a function of a row."""
    found = defaultdict(list)
    for row in rows:
        found[kind_of(row["question"], kinds)].append(right(row))
    return {kind: 100 * sum(values) / len(values) for kind, values in found.items()}


def best_guess(rows):
    """question -> its most frequent answer."""
    answers = defaultdict(Counter)
    for row in rows:
        answers[row["question"]][row["source_answer"]] += 1
    return {question: counts.most_common(1)[0][0] for question, counts in answers.items()}


def predictions(path):
    if not path.exists():
        raise SystemExit(f"error: no {path}: run benchmarks/ablation.py with this row, seed and budget first")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main():
    parser = build_parser(__doc__)
    everything = plan()
    known = [name for name, data in everything["datasets"].items() if "kinds" in data]
    parser.add_argument("--dataset", choices=known, default=known[0])
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3, help=f"how many of {', '.join(map(str, SEEDS))}")
    parser.add_argument("--budget", type=int, help="steps of the runs")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/ablation")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    data, seeds = everything["datasets"][args.dataset], SEEDS[: args.seeds]
    rows, kinds = {**everything["rows"], **data["rows"]}, data["kinds"]
    check_rows(args.rows, [name for name, row in rows.items() if "parts" not in row])
    budget, found = args.budget or data["budget"], defaultdict(list)
    for name in args.rows:
        for seed in seeds:
            answered = predictions(args.runs / args.dataset / f"{name}_{budget}_{seed}" / "predictions.jsonl")
            found[name].append(by_kind(answered, kinds, lambda row: row["answer"] == row["source_answer"]))
    guesses = best_guess(answered)
    blind = by_kind(answered, kinds, lambda row: guesses[row["question"]] == row["source_answer"])
    counts = Counter(kind_of(row["question"], kinds) for row in answered)
    lines = [
        [kind, counts[kind], f"{blind[kind]:.1f}", *(spread([one[kind] for one in found[name]]) for name in args.rows)]
        for kind in kinds
        if kind in counts
    ]
    head = ["kind", "questions", "without the image", *(rows[name]["label"] for name in args.rows)]
    text = NOTE.format(dataset=args.dataset, command=command(), budget=budget, seeds=", ".join(map(str, seeds)))
    write_page(args.output, text + table(head, lines))
    print(args.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
