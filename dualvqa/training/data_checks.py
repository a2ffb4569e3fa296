"""What a run says of its data and its model before it starts, and what it refuses to start with."""

import contextlib
import json
import logging
import os

from processing import AnswerVocabulary, StreamedRows, held_out, question_type_of
from processing.bad_rows import SHOWN, BadExampleError
from processing.leakage import in_short
from processing.wording import worded

logger = logging.getLogger(__name__)


def report_data(parts, summary, processor, leakages=None, binary=True):
    """Logs sizes, vocabulary coverage, leakage and cut questions of every part.

    Args:
        leakages: part -> its `leakage_report`, of those that could be compared with the training part.
        binary: whether the model has a head for yes and no.
    """
    vocabulary = AnswerVocabulary.of(processor)
    streamed = isinstance(parts.get("train"), StreamedRows)
    for name, rows in parts.items():
        if name == "train":
            images = "images that are read while training" if streamed else f"{summary.images} images"
            logger.info("train: %d questions about %s", summary.rows, images)
            report_lengths(name, summary.questions if streamed else rows["question"][:], processor)
            report_coverage(name, vocabulary.coverage(summary.answers.elements()))
            continue
        logger.info("%s: %d questions about %d images", name, len(rows), len(set(rows["image_key"][:])))
        report_lengths(name, rows["question"][:], processor)
        if "answer" in rows.column_names:
            report_coverage(name, vocabulary.coverage(rows["answer"][:], binary))
        if (leakages or {}).get(name):
            logger.log(*said_of(name, leakages[name]))
        elif streamed:
            logger.warning("%s is not compared with the training part: that would have to be in memory", name)
    logger.info("vocabulary: %d open-ended answers", len(vocabulary))


def said_of(name, leakage):
    """What is logged of a part's leakage: a level, and the message. Only figures of new images need no warning."""
    images, questions, pairs = (leakage[key] for key in ("images_seen", "questions", "image_question_pairs_seen"))
    if not images:
        return logging.INFO, f"{name} is {held_out(leakage)}: none of its images is in training"
    return logging.WARNING, (
        f"{name} ({in_short(held_out(leakage))}) shares {images} of its {leakage['images']} images with the training "
        f"part, and {pairs} of its {questions} questions are there word for word about the same image: its figures are "
        f"not those of new images"
    )


def report_lengths(name, questions, processor):
    limit, cut = processor.tokenizer.model_max_length, 0
    questions = list(questions)
    for start in range(0, len(questions), 1000):  # all encodings at once would be hundreds of megabytes
        encoded = processor.tokenizer(questions[start : start + 1000], truncation=False)
        cut += sum(len(ids) > limit for ids in encoded["input_ids"])
    if cut:
        logger.warning("%s: %d questions are longer than %d tokens and are cut", name, cut, limit)


def report_coverage(name, coverage):
    if coverage is not None:
        logger.info(
            "%s: with this vocabulary the open-ended accuracy can be %.1f %% at most",
            name,
            100 * coverage,
        )


def answers_to_balance(rows, processor):
    """(group, answer) of each training row: a group for each question type.

    Rows whose answer is not in the vocabulary, so that no head learns it, are one more group with one answer: as the
    rarest of all they would otherwise be drawn most.
    """
    vocabulary = AnswerVocabulary.of(processor)
    pairs = ((question_type_of(answer), answer) for answer in map(vocabulary.rules.consensus, rows["answer"][:]))
    return [pair if pair[0] == 0 or pair[1] in vocabulary.index else ("unknown", "") for pair in pairs]


def check_heads(heads, summary, processor):
    """Refuses training rows that no head learns from, and warns about a head that learns from none.

    Raises:
        ValueError: as said.
    """
    vocabulary = AnswerVocabulary.of(processor).index
    rows = {
        "binary": sum(count for answer, count in summary.answers.items() if question_type_of(answer) == 0),
        "open_ended": sum(count for answer, count in summary.answers.items() if answer in vocabulary),
    }
    expected = {"binary": "the answer yes or no", "open_ended": "an answer of the vocabulary"}
    untrained = [head for head in heads if not rows[head]]
    if untrained == list(heads):
        raise ValueError(
            f"there is nothing to train: of {summary.rows} training rows none has "
            f"{', or '.join(expected[head] for head in untrained)}, which the model's heads {list(heads)} learn; give "
            f"other heads with --config heads=[...], or other data"
        )
    for head in untrained:
        logger.warning(
            "the %s head learns nothing: of %d training rows none has %s", head, summary.rows, expected[head]
        )


def check_target(data_args, summary, record):
    """Warns where soft labels are asked for and every question has one answer, and where a saved model that learned
    from them is to learn what most people said.

    Args:
        record: the saved model's, or None.
    """
    several = sum(found.total() for found in summary.votes) > summary.answers.total()
    earlier = dict(map(tuple, (record or {}).get("settings") or [])).get("target")
    if data_args.target == "soft" and not several:
        logger.warning(
            "no training question has the answers of several people: --target soft learns from one answer, as "
            "without it, in another loss"
        )
    elif data_args.target != "soft" and several and earlier:
        kind, score = earlier.split(", ")
        logger.warning(
            "the saved model learned from all answers of several people, and goes on with what most of them said; to "
            "go on as before: %s",
            worded(f"--target {kind} --soft_score {score}"),
        )


def report_parameters(model):
    """Logs the number of parameters of each part, and how many of them training changes."""
    for name, count in model.parameter_counts().items():
        logger.info("%-20s %12s parameters", name, f"{count:,}")
    logger.info("%-20s %12s parameters", "trainable", f"{model.num_parameters(only_trainable=True):,}")


def list_bad_rows(bad, folder):
    """Writes the rows that were left out to bad_examples.jsonl."""
    logger.warning("%d rows left out, listed in %s", len(bad), write_bad_rows(bad, folder))


def write_bad_rows(bad, folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "bad_examples.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in bad)
    return path


@contextlib.contextmanager
def listing_bad_rows(folder):
    """Where more rows are refused than an error's message can show, it names a file that has them all."""
    try:
        yield
    except BadExampleError as error:
        if len(error.rows) <= SHOWN:
            raise
        path = write_bad_rows(error.rows, folder)
        raise BadExampleError(f"{error}\nAll {len(error.rows):,} of them are listed in {path}", error.parts) from error


def check_vocabulary(summary, processor, model):
    """Refuses to go on from a model that knows none of the open-ended answers it is to be trained on.

    Raises:
        ValueError: as said.
    """
    known = len(processor.answers)
    coverage = AnswerVocabulary.of(processor).coverage(summary.answers.elements())
    if "open_ended" in model.config.heads and coverage == 0:
        raise ValueError(
            f"none of the open-ended training answers is among the {known} that the saved model knows; give "
            f"--new_answers to train a new open-ended head"
        )
