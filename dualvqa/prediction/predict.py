"""The questions of a file of any size -> a file of answers that grows row by row."""

import contextlib
import dataclasses
import itertools
import logging
import os
from dataclasses import dataclass

from processing import DataArguments
from processing.hub_rows import is_hub, open_hub
from processing.predictions import said_of, with_answer
from processing.row_streams import PassingRows, open_rows
from processing.wording import python_words

from .answering import answered, open_answers
from .columns import SAID, output_columns
from .outputs import output_kind
from .parts import part_path, part_rows, read_shard
from .questions import check_columns, read_questions
from .rate import Rate
from .record import Record, changed_fields, check_whole, data_digest, held

logger = logging.getLogger(__name__)

SETTINGS = "top_k", "question_type", "batch_size"  # that must be the same to go on
HOPELESS = 256  # rows, none of which can be answered, at which a run gives up before it has written any


@dataclass
class PredictionArguments:
    """How questions are answered, and which of them.

    Args:
        split: of a data set on the Hub, or of a folder laid out as one; "test" when left out, or the only one.
        shard: "3/16" for the third of sixteen parts of the rows.
        top_k: answers of each question; 5 when left out.
        coverage: as many answers as it takes for the right one to be among them in this share of cases, in place of
            `top_k`; each row then has `coverage`, None where nothing can be promised.
        question_type: "binary" or "open_ended" chooses the head; the model does when left out.
        batch_size: questions that are answered together; they alone decide an answer's numbers, to the last bit.
        workers: threads that read images; of the machine when left out.
        device: of PyTorch, such as "cuda:1"; a GPU if there is one when left out.
    """

    split: str | None = None
    shard: str | None = None
    top_k: int | None = None
    coverage: float | None = None
    question_type: str | None = None
    batch_size: int = 128
    workers: int | None = None
    device: str | None = None

    def __post_init__(self):
        if self.shard is not None:
            read_shard(self.shard)
        for name in ("top_k", "batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number, at least 1; found {value!r}")
        if self.question_type not in (None, "binary", "open_ended"):
            raise ValueError(f"question_type must be binary or open_ended, found {self.question_type!r}")
        if self.coverage is not None and self.top_k is not None:
            raise ValueError(f"coverage decides how many answers are given: leave out top_k, found {self.top_k}")
        if self.coverage is None:
            self.top_k = self.top_k or 5
        self.workers = self.workers or min(8, os.cpu_count() or 1)

    @property
    def said(self):
        """The names of what is said of a question."""
        return SAID if self.coverage is None else (*SAID, "coverage")

    def kept(self):
        """Those that must be the same to go on."""
        names = SETTINGS if self.coverage is None else (*SETTINGS, "coverage")
        return {name: getattr(self, name) for name in names}

    def rows(self, data, data_args):
        """The rows as a `RowStream`."""
        if is_hub(data):
            return open_hub(data, data_args, self.split)
        if self.split is not None:
            raise ValueError(
                f"split={self.split!r} is for a data set of the Hub or a folder; found another kind of data"
            )
        return open_rows(data, data_args)

    def answers(self, model, sources):
        options = {"top_k": self.top_k, "coverage": self.coverage, "question_type": self.question_type}
        return open_answers(model, sources, self.device, options)


@python_words
def predict(model, data, output, data_args=None, **settings):
    """Answers the questions of a file into another, which grows while the file is read, and goes on after a kill.

    ```python
    predict("runs/mine", "questions.jsonl", "answers.jsonl", data_args=DataArguments(image_dir="photos"))
    ```

    Memory doesn't grow with the rows. Started again with the same arguments it goes on behind the last row that it
    wrote. Each row of the output has the fields of its own, and the answers as `write_predictions` writes them; one
    that can't be answered has `error` in their place.

    Args:
        model: a saved folder or its id on the Hub, or what `dualvqa export` wrote; or a `DualVQAPipeline`.
        data: a file, a pattern of files, a list of them; the id of a data set on the Hub, or a folder laid out as one,
            which are streamed; or rows in Python, a generator too: see `open_rows`.
        output: the file to write, JSON Lines, CSV or Parquet by its name.
        data_args: [`DataArguments`] with all else about the data: `image_dir`, `image_column` and so on.
        **settings: fields of [`PredictionArguments`], such as `shard="3/16"`, which writes a part of the rows to
            `part_path(output, 3, 16)`.

    Returns:
        A dict with the `output`, its `rows`, how many of them are `bad`, and those `answered` by this call with
        `seconds` and `per_second`.

    Raises:
        ValueError: the output is of another model, of other data or settings; none of the first rows can be answered;
            or a file or setting that can't be used, such as one without the column that promises were made by.
    """
    settings, output = PredictionArguments(**settings), os.fspath(output)
    data_args = DataArguments() if data_args is None else dataclasses.replace(data_args)
    kind, stream = output_kind(output), settings.rows(data, data_args)
    if settings.shard:
        if isinstance(stream, PassingRows):
            raise ValueError("--shard needs rows whose number is known, and those of a generator are not")
        output = part_path(output, *read_shard(settings.shard))
    answers = settings.answers(model, data_args.image_sources)
    data_args.remembered_columns = answers.columns
    for file in stream.files:
        check_columns(file, data_args)
        answers.groups.check(file)
    with held(output):
        return write_answers(kind, output, stream, answers, data_args, settings)


def write_answers(kind, output, stream, answers, data_args, settings):
    of = {
        "model": answers.digest,
        "data": data_digest(stream),
        "settings": {**changed_fields(data_args), **settings.kept()},
        "part": {"shard": settings.shard},
    }
    record = Record(output, of)
    values = record.values
    if values["whole"]:
        check_whole(output, values)
        logger.info("%s is whole: there is nothing to do", output)
        return summary(output, values, Rate(values["rows"]))
    total = stream.count()
    number, parts = read_shard(settings.shard or "1/1")
    start, end = part_rows(total, settings.batch_size, number, parts) if settings.shard else (0, total)
    stop = None if number == parts else end  # to the end: a data set's card may say fewer rows than there are
    columns = values.get("columns") or (output_columns(stream, settings.said) if kind.is_table else None)
    if values["rows"]:
        logger.info("%s has %d rows already: going on behind them", output, values["rows"])
    rate = Rate(None if end is None else end - start, values["rows"])
    questions = read_questions(stream, data_args, start + values["rows"], stop)
    batches = answered(answers, questions, settings.batch_size, settings.workers)
    batches = begun(batches, values["rows"] > values["bad"], is_part=settings.shard is not None)
    first = next(batches, [])
    record.write(columns=columns)
    with contextlib.closing(kind(output, columns, values["state"])) as file:
        for rows in itertools.chain([first], batches):
            record.add(*file.write([line_of(*row, settings.said) for row in rows]))
            rate.add(len(rows))
        record.add(*file.finish(), whole=True)
        file.clear()
    rate.tell_end(output, record.values["bad"])
    return summary(output, record.values, rate)


def begun(batches, hopeful, is_part):
    """The same batches, from the first on in which a question can be answered, with those before it.

    Args:
        hopeful: whether one was answered before.
        is_part: whether these are a shard's, which goes on with a warning: the file of one run has such rows too.

    Raises:
        ValueError: there is none among the first `HOPELESS` rows: mostly something is wrong with all of them.
    """
    waiting = []
    for rows in batches:
        waiting += rows
        hopeful = hopeful or any(problem is None for *_, problem in rows)
        if not hopeful and len(waiting) >= HOPELESS:
            break
        if hopeful:
            yield waiting
            waiting = []
    if waiting:
        problem = f"none of the first {len(waiting)} rows can be answered; the first: {waiting[0][-1]}"
        if not is_part:
            raise ValueError(problem)
        logger.warning("of this shard %s", problem)
        yield waiting
        yield from batches


def line_of(question, best, problem, names):
    """A row of the output, name -> JSON text."""
    said = {"answer": None, "error": problem} if problem else said_of(best)
    return with_answer(question.fields, said, names)


def summary(output, values, rate):
    return {
        "output": output,
        "rows": values["rows"],
        "bad": values["bad"],
        "answered": rate.answered,
        "seconds": rate.seconds,
        "per_second": rate.per_second,
    }
