"""How well the words of questions tell which are rewordings of each other, on VQA-RAD, whose numbering knows more.

python benchmarks/rewordings.py --train_file vqa-rad/train.jsonl [--output docs/results/rewordings.md]

VQA-RAD numbers a question and its rewordings one after another: about the same image, a question whose number follows
within two, where one of both is marked as a rewording (`phrase_type` para or frame), is taken for a rewording of the
one before. That is the truth here, which the rule of `processing.rewordings` is compared with at several nearnesses.
"""

import json
import sys
from collections import defaultdict
from itertools import combinations, pairwise
from pathlib import Path

from pages import ROOT, build_parser, command, table, write_page

sys.path.insert(0, str(ROOT))

NEARNESSES = (0.25, 0.3, 0.35, 0.4, 0.5)
HELD_OUT = 0.15


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--train_file", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.train_file.read_text(encoding="utf-8").splitlines()]
    plain = [row for row in rows if row["phrase_type"] != "frame"]
    head = ["nearness", "questions", "true pairs joined, %", "joined pairs that are true, %", "missed in a split, %"]
    lines = [measure(nearness, part) for nearness in NEARNESSES for part in (rows, plain)]
    text = (
        f"*Missed in a split*: of the questions that `--split_by question --validation_fraction {HELD_OUT}` holds out, "
        f"those with a rewording in training by the numbering. The second line of each has no `frame` rows.\n\n"
        f"{table(head, lines)}"
    )
    print(text)
    if args.output:
        write_page(args.output, f"# Telling rewordings\n\nWritten by\n\n```bash\n{command()}\n```\n\n{text}")


def measure(nearness, rows):
    """The cells of a line of the table."""
    from datasets import Dataset

    from processing import DataArguments, rewordings, split_dataset

    rewordings.NEAR = nearness
    columns = {name: [row[name] for row in rows] for name in ("question", "phrase_type", "qid")}
    data = Dataset.from_dict({**columns, "image_key": [row["image"] for row in rows]})
    truth = numbered_groups(rows)
    true = pairs(rows, [truth[row["qid"]] for row in rows])
    joined = pairs(rows, rewordings.question_groups(data))
    kept, held = split_dataset(data, DataArguments(split_by="question", validation_fraction=HELD_OUT))
    known = {truth[number] for number in kept["qid"]}
    missed = sum(truth[number] in known for number in held["qid"]) / len(held)
    shares = (len(joined & true) / len(true), len(joined & true) / len(joined), missed)
    return [nearness, f"{len(rows):,}", *(f"{100 * share:.1f}" for share in shares)]


def numbered_groups(rows):
    """Number of each question -> that of the first of its group."""
    by_image, groups = defaultdict(list), {}
    for row in rows:
        by_image[row["image"]].append(row)
    for asked in by_image.values():
        asked.sort(key=lambda row: row["qid"])
        groups[asked[0]["qid"]] = asked[0]["qid"]
        for before, row in pairwise(asked):
            follows = row["qid"] - before["qid"] <= 2 and {before["phrase_type"], row["phrase_type"]} != {"freeform"}
            groups[row["qid"]] = groups[before["qid"]] if follows else row["qid"]
    return groups


def pairs(rows, names):
    """The pairs of questions about one image that have the same name."""
    members = defaultdict(list)
    for row, name in zip(rows, names):
        members[row["image"], name].append(row["qid"])
    return {pair for numbers in members.values() for pair in combinations(sorted(numbers), 2)}


if __name__ == "__main__":
    main()
