"""What teaching a saved model is worth: corrected answers, answers that nobody knew, and what was known before.

python benchmarks/teaching.py FOLDER --file train.jsonl --image_dir photos --output docs/results/teaching.md

The model remembers the questions about half of the images; those about the other half are lessons and tests. Nothing is
trained. Some minutes for 1,800 questions on one core.
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path
from statistics import mean

from pages import ROOT, build_parser, command, table, write_page

sys.path.insert(0, str(ROOT))
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import DualVQAProcessor, normalise_answer

LESSONS, COUNTS, MOST = 100, (1, 3, 10), 10


def columns(rows):
    return [[row[name] for row in rows] for name in ("image", "question", "answer")]


def right(pipe, rows):
    """For each row whether the pipeline's answer is the row's."""
    found = pipe([{"image": row["image"], "question": row["question"]} for row in rows], batch_size=32)
    return [normalise_answer(best[0]["answer"]) == normalise_answer(row["answer"]) for best, row in zip(found, rows)]


def percent(values):
    return f"{100 * mean(values):.1f}" if values else ""


def corrections(pipe, rng, known, new):
    """Rows of a table: the accuracy before, while and after lessons were taught and taken out again."""
    lessons = rng.sample(new, min(LESSONS, len(new) // 2))
    taught = {id(row) for row in lessons}
    images = {row["image"] for row in lessons}
    others = [row for row in new if id(row) not in taught]
    groups = {
        "the questions taught": lessons,
        "other questions about their images": [row for row in others if row["image"] in images],
        "questions about other images": [row for row in others if row["image"] not in images],
        "questions remembered from before": known,
    }
    before = {name: right(pipe, rows) for name, rows in groups.items()}
    pipe.memory.add(*columns(lessons))
    after = {name: right(pipe, rows) for name, rows in groups.items()}
    pipe.memory.remove(*columns(lessons)[:2])
    again = {name: right(pipe, rows) for name, rows in groups.items()}
    return [
        [name, len(rows), percent(before[name]), percent(after[name]), percent(again[name])]
        for name, rows in groups.items()
    ]


def new_answers(pipe, rng, known, new):
    """Rows of a table: how well a word that nobody knew is said after so many examples, and how often out of place."""
    words = set(map(normalise_answer, [*pipe.processor.all_answers, "yes", "no"]))
    counts = Counter(normalise_answer(row["answer"]) for row in new)
    rows = []
    for count in COUNTS:
        answers = [word for word, found in counts.most_common() if word not in words and found >= count + 2]
        said, misplaced, kept = [], [], []
        for word in answers[:MOST]:
            own = [row for row in new if normalise_answer(row["answer"]) == word]
            others = [row for row in new if normalise_answer(row["answer"]) != word]
            others = rng.sample(others, min(300, len(others)))
            lessons = rng.sample(own, count)
            before = right(pipe, others)
            pipe.memory.add(*columns(lessons))
            said += right(pipe, [row for row in own if row not in lessons])
            kept.append(mean(right(pipe, others)) - mean(before))
            misplaced += right(pipe, [{**row, "answer": word} for row in others])
            pipe.memory.remove(*columns(lessons)[:2])
        change = f"{100 * mean(kept):+.1f}" if kept else ""
        rows.append([count, len(answers[:MOST]), len(said), percent(said), percent(misplaced), change])
    return rows


def main(argv=None):
    parser = build_parser(__doc__)
    parser.add_argument("folder", help="a saved model")
    parser.add_argument("--file", type=Path, required=True, help="JSON Lines with image, question and answer")
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rng = random.Random(args.seed)
    rows = [json.loads(line) for line in args.file.read_text(encoding="utf-8").splitlines()]
    rows = [{**row, "image": str(args.image_dir / row["image"]), "answer": str(row["answer"])} for row in rows]
    images = sorted({row["image"] for row in rows})
    remembered = set(rng.sample(images, len(images) // 2))
    known = [row for row in rows if row["image"] in remembered]
    new = [row for row in rows if row["image"] not in remembered]
    kinds = DualVQAForQuestionAnswering, DualVQAProcessor
    pipe = DualVQAPipeline(*(kind.from_pretrained(args.folder) for kind in kinds), embedding_cache_mib=2048)
    pipe.memory.build(*columns(known))
    lessons = table(["", "questions", "before, %", "taught, %", "removed again, %"], corrections(pipe, rng, known, new))
    head = ["examples", "answers", "questions", "answered with it, %", "others answered with it, %", "accuracy, points"]
    words = table(head, new_answers(pipe, rng, known, new))
    text = (
        f"# Teaching without training\n\nWritten by\n\n```bash\n{command()}\n```\n\n"
        f"A model that remembers {len(known)} questions about {len(remembered)} images; {len(new)} questions about "
        f"{len(images) - len(remembered)} others are lessons and tests. Answers are compared as strings; the head is "
        f"the model's choice. One draw.\n\n## Corrected answers\n\n{lessons}\n"
        f"## Answers that nobody knew\n\nThe commonest "
        f"that neither vocabulary nor memory had, each taught alone with some of its questions and asked for with "
        f"the others; the last column is what it changes for up to 300 questions with other answers.\n\n{words}"
    )
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
