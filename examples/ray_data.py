"""Answers to a table on many machines, with Ray Data: python examples/ray_data.py EXPORTED rows.parquet answers/

The table has `image`, bytes of a file, a path or a URL, and `question`; `question_id` is carried along. Each worker
reads the exported folder once, so it must lie where all of them can read it. `pip install 'ray[data]'`

It was run with Ray 2.60 on a Parquet file of 400 questions, and gave the answers of `dualvqa predict`.
"""

import sys

from dualvqa_light import Answerer

# What Ray calls `Answerer(*fn_constructor_args, **fn_constructor_kwargs)` with, in each of its workers.
SETTINGS = {"keep": ["question_id"], "pipeline": {"threads": 1}}


def answered(table, folder, workers=2):
    """A Ray data set -> the same rows with the columns of [`Answerer`] in place of image and question."""
    return table.map_batches(
        Answerer,
        fn_constructor_args=[folder],
        fn_constructor_kwargs=SETTINGS,
        batch_size=256,
        concurrency=(1, workers),  # `workers` from the start may leave no CPU to the tasks that read the table
    )


if __name__ == "__main__":
    import ray

    exported, source, output = sys.argv[1:]
    answered(ray.data.read_parquet(source), exported).write_parquet(output)
