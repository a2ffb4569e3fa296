"""One callable from a batch of columns to a batch of columns, for whatever runs one: datasets, Ray Data, a server."""

from .pipeline import LightPipeline
from .promises_dualvqa import groups_of_column
from .steps import Steps

ERRORS = ("column", "raise")
GAPS = ("None", "nan", "NaN", "<NA>", "NaT")  # how pandas' and other empty cells read, which are no texts


class Answerer:
    """
    ```python
    answer = Answerer("runs/mine_onnx")
    answer({"image": ["a.png", "b.png"], "question": ["is it red?", "what is it?"]})
    # {"answer": ["yes", "a ball"], "score": [0.98, 0.71], "question_type": ["binary", "open_ended"], ...}
    dataset.map(answer, batched=True)
    ```

    This one reads exported folders; `dualvqa.Answerer`, which needs torch, saved ones too, and gives the same columns.

    Args:
        folder: what `dualvqa export` wrote; or a pipeline, light or not, that is there already.
        keep: columns of the batch that are given back beside the answers, for runners that don't keep them.
        batch_size: how many images are encoded together.
        options: of every call: `top_k`, `coverage`, `group`, `question_type`, `abstain`, `truncation`, `timeout`.
        pipeline: arguments of [`LightPipeline`], such as `threads` or `image_sources`.
        errors: "column" gives a row that can't be answered its message in the column `error`, and the other rows their
            answers; "raise" raises it.

    Attributes:
        columns: those of the answers, name -> kind: `COLUMNS`, and `coverage` where the options ask for one.

    Raises:
        ValueError: no such folder, or an argument of another range.
    """

    # Of what kind each column is, a list where its cells are lists. Where a whole batch is None nobody could tell.
    COLUMNS = {
        "answer": "string",
        "score": "float64",
        "question_type": "string",
        "best_guess": "string",
        "unfamiliar": "bool",
        "unfamiliar_image": "bool",
        "unfamiliar_question": "bool",
        "answers": ["string"],
        "scores": ["float64"],
        "error": "string",
    }

    def __init__(self, folder, keep=(), batch_size=32, options=None, pipeline=None, errors="column"):
        if errors not in ERRORS:
            raise ValueError(f"errors must be one of {', '.join(ERRORS)}; found {errors!r}")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number from 1, found {batch_size!r}")
        self.pipe = folder if callable(folder) else self.open(folder, **(pipeline or {}))
        self.keep, self.batch_size, self.options, self.errors = tuple(keep), batch_size, dict(options or {}), errors
        promised = {} if self.options.get("coverage") is None else {"coverage": "float64"}
        self.columns = {**self.COLUMNS, **promised}
        taken = sorted(set(self.keep) & self.columns.keys())
        if taken:
            raise ValueError(f"keep has {taken[0]!r}, which is a column of the answers; rename it in the batch")
        if self.options.get("evidence") is not None:
            raise ValueError("options has evidence, for which there is no column; pipe(..., evidence=3) gives it")

    def open(self, folder, **pipeline):
        """The pipeline of a folder."""
        return LightPipeline(folder, **pipeline)

    def __call__(self, batch):
        """
        Args:
            batch: a dict of lists or arrays with `image` and `question`, row by row; what an image may be, see
                [`LightPipeline`]. Where the model's promises were made by a column, such as `organ`, the column of that
                name has each row's group, or one named `group`: where a cell is empty (None or NaN) that row has no
                promise. The `group` of the options is that of all rows where the batch has neither column.

        Returns:
            A dict of lists, the columns always the same, `columns`: `answer` (None where it was withheld), `score`,
            `question_type`, `best_guess`; `unfamiliar`, whether anything is, and `unfamiliar_image` and
            `unfamiliar_question`, what, None where that isn't judged; `answers` and `scores`, the best `top_k` of each
            or the set of a `coverage`; `error`, None but for rows that can't be answered, whose other columns are None
            or empty; where the options ask for a `coverage` a column of that name, None in rows without a
            promise, which have the best answer alone; and those to `keep`.

        Raises:
            ValueError: a column is missing, they differ in length, or with errors="raise" a row can't be answered.
        """
        missing = [name for name in ("image", "question", *self.keep) if name not in batch]
        if missing:
            raise ValueError(f"expected the columns image and question, found {sorted(batch)}: no {missing[0]}")
        images, questions = list(batch["image"]), [as_text(question) for question in batch["question"]]
        if len(images) != len(questions):
            raise ValueError(f"expected as many images as questions, found {len(images)} and {len(questions)}")
        groups, options = self.groups(batch, len(images)), self.options
        if groups is not None:  # a row without one has none, not that of the options
            options = {name: value for name, value in options.items() if name != "group"}
        rows = [
            {"image": image, "question": question, **({} if group is None else {"group": group})}
            for image, question, group in zip(images, questions, groups or [None] * len(images))
        ]
        steps, found = Steps(self.pipe), []
        for start in range(0, len(rows), self.batch_size):
            found += steps.answer_rows(rows[start : start + self.batch_size], options)
        if self.errors == "raise":
            for error in found:
                if isinstance(error, ValueError):
                    raise error
        limits = self.calibration().get("familiarity") or {}
        cells = [bad(best) if isinstance(best, ValueError) else good(best, limits) for best in found]
        return {
            **{name: batch[name] for name in self.keep},
            **{name: [row[name] for row in cells] for name in self.columns},
        }

    def calibration(self):
        """What the model's scores and limits were fitted to; empty where they weren't."""
        decoder = getattr(self.pipe, "decoder", None) or getattr(self.pipe, "processor", None)
        return getattr(decoder, "calibration", None) or {}

    def groups(self, batch, count):
        """The group of each row of a batch, None in rows whose cell is empty; None where no column says them."""
        column, _ = groups_of_column(self.calibration())
        name = next((name for name in (column, "group") if column is not None and name in batch), None)
        if name is None:
            return None
        groups = [None if is_gap(group) else group for group in batch[name]]
        if len(groups) != count:
            raise ValueError(f"expected one value of {name} for each of {count} images, found {len(groups)}")
        return groups


def is_gap(cell):
    """Whether a cell of a table is empty."""
    return not isinstance(cell, str) and str(cell) in GAPS


def good(best, limits):
    """The columns of a question from its answers, best first, and the limits of what is familiar."""
    guesses = [item.get("best_guess", item["answer"]) for item in best]
    familiar = {name: False if name in limits else None for name in ("image", "question")}
    foreign = best[0].get("unfamiliar")
    return {
        "answer": best[0]["answer"],
        "score": best[0]["score"],
        "question_type": best[0]["question_type"],
        "best_guess": guesses[0],
        "unfamiliar": foreign is not None if limits else None,
        **{f"unfamiliar_{name}": value for name, value in (foreign or familiar).items()},
        "answers": guesses,
        "scores": [item["score"] for item in best],
        "coverage": best[0].get("coverage"),
        "error": None,
    }


def bad(error):
    """The columns of a row that can't be answered."""
    foreign = ("unfamiliar", "unfamiliar_image", "unfamiliar_question")
    nothing = dict.fromkeys(("answer", "score", "question_type", "best_guess", "coverage", *foreign))
    return {**nothing, "answers": [], "scores": [], "error": str(error)}


def as_text(question):
    """A text of an array is one of Python's; anything else stays, for the pipeline to refuse."""
    return str(question) if isinstance(question, str) else question
