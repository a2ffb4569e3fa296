"""One callable from a batch of columns to a batch of columns, for whatever runs one: datasets, Ray Data, a server."""

from .pipeline import LightPipeline


class Answerer:
    """
    ```python
    answer = Answerer("runs/mine_onnx")
    answer({"image": ["a.png", "b.png"], "question": ["is it red?", "what is it?"]})
    # {"answer": ["yes", "a ball"], "score": [0.98, 0.71], "question_type": ["binary", "open_ended"], ...}
    dataset.map(answer, batched=True)
    ```

    Args:
        folder: what `dualvqa export` wrote; or a pipeline, light or not, that is there already.
        keep: columns of the batch that are given back beside the answers, for runners that don't keep them.
        batch_size: how many images are encoded together.
        options: of every call: `top_k`, `question_type`, `abstain`, `truncation`, `timeout`.
        pipeline: arguments of [`LightPipeline`], such as `threads` or `image_sources`.
    """

    def __init__(self, folder, keep=(), batch_size=32, options=None, pipeline=None):
        self.pipe = folder if callable(folder) else LightPipeline(folder, **(pipeline or {}))
        self.keep, self.options = tuple(keep), {"batch_size": batch_size, **(options or {})}

    def __call__(self, batch):
        """
        Args:
            batch: a dict of lists or arrays with `image` and `question`, row by row; what an image may be, see
                [`LightPipeline`].

        Returns:
            A dict of lists, the columns always the same: `answer` (None where it was withheld), `score`,
            `question_type`, `best_guess`, `unfamiliar`, and `answers` and `scores`, the best `top_k` of each question;
            and those to `keep`.

        Raises:
            ValueError: a column is missing, they differ in length, or a row can't be answered; see the pipeline.
        """
        missing = [name for name in ("image", "question", *self.keep) if name not in batch]
        if missing:
            raise ValueError(f"expected the columns image and question, found {sorted(batch)}: no {missing[0]}")
        images, questions = list(batch["image"]), [as_text(question) for question in batch["question"]]
        if len(images) != len(questions):
            raise ValueError(f"expected as many images as questions, found {len(images)} and {len(questions)}")
        rows = [{"image": image, "question": question} for image, question in zip(images, questions)]
        found = list(self.pipe(rows, **self.options)) if rows else []
        guesses = [[item.get("best_guess", item["answer"]) for item in best] for best in found]
        return {
            **{name: batch[name] for name in self.keep},
            "answer": [best[0]["answer"] for best in found],
            "score": [best[0]["score"] for best in found],
            "question_type": [best[0]["question_type"] for best in found],
            "best_guess": [guess[0] for guess in guesses],
            "unfamiliar": [best[0].get("unfamiliar", False) for best in found],
            "answers": guesses,
            "scores": [[item["score"] for item in best] for best in found],
        }


def as_text(question):
    """A text of an array is one of Python's; anything else stays, for the pipeline to refuse."""
    return str(question) if isinstance(question, str) else question
