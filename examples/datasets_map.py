"""Answers to all rows of a data file, with datasets: python examples/datasets_map.py EXPORTED rows.jsonl answers.jsonl

Each row has `image`, a path or URL, and `question`; the columns with the answer are added to it.
"""

import sys

from datasets import load_dataset

from dualvqa_light import Answerer


def answered(rows, folder):
    """A data set -> the same with the columns of [`Answerer`]."""
    return rows.map(Answerer(folder, options={"top_k": 3}), batched=True, batch_size=256)


if __name__ == "__main__":
    exported, source, output = sys.argv[1:]
    answered(load_dataset("json", data_files=source, split="train"), exported).to_json(output)
