"""Answers to all rows of a data file, with datasets: python examples/datasets_map.py EXPORTED rows.jsonl answers.jsonl

Each row has `image`, a path or URL, and `question`; the columns with the answer are added to it. A row that can't be
answered has its message in `error`.
"""

import sys

from datasets import Features, List, Value, load_dataset

from dualvqa_light import Answerer


def answered(rows, folder, batch_size=256):
    """A data set -> the same with the columns of [`Answerer`]."""
    answer = Answerer(folder, options={"top_k": 3})
    # Said beforehand: a first batch in which nothing goes wrong has no `error` to tell the kind of that column from.
    kinds = {
        name: List(Value(kind[0])) if isinstance(kind, list) else Value(kind) for name, kind in answer.columns.items()
    }
    return rows.map(answer, batched=True, batch_size=batch_size, features=Features({**rows.features, **kinds}))


if __name__ == "__main__":
    exported, source, output = sys.argv[1:]
    answered(load_dataset("json", data_files=source, split="train"), exported).to_json(output)
