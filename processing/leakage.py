"""What of an evaluation part was in the training part, and what its figures therefore measure."""

from .rewordings import MARKS, question_groups, wording
from .vqa_accuracy.rules import ENGLISH


def leakage_report(train, evaluation, column=None, rules=ENGLISH):
    """How much of an evaluation part was already in the training part.

    Args:
        train, evaluation: canonical rows; the evaluation part may lack answers.
        column: tells rewordings, see `question_groups`; without it, or where a part lacks it, their words do.
        rules: how answers are compared, [`AnswerRules`].

    Returns:
        A dict of counts: `images` and `images_seen`, of different images; `questions`, and how many of them have in
        training their image with the same wording (`image_question_pairs_seen`), their image with the same wording
        or another of the same question (`rewordings_seen`), and, where there are answers, their image and answer
        (`image_answer_pairs_seen`) and image, question and answer (`examples_seen`).
    """
    images, questions = evaluation["image_key"][:], evaluation["question"][:]
    seen = set(train["image_key"][:])
    pairs = set(zip(train["image_key"][:], map(wording, train["question"][:])))
    report = {
        "images": len(set(images)),
        "images_seen": len(set(images) & seen),
        "questions": len(evaluation),
        "image_question_pairs_seen": sum(pair in pairs for pair in zip(images, map(wording, questions))),
        "rewordings_seen": rewordings_seen(train, evaluation, column) if set(images) & seen else 0,
    }
    if "answer" in evaluation.column_names and "answer" in train.column_names:
        known = list(map(rules.consensus, train["answer"][:]))
        answers = list(map(rules.consensus, evaluation["answer"][:]))
        pairs = set(zip(train["image_key"][:], known))
        examples = set(zip(train["image_key"][:], train["question"][:], known))
        report["image_answer_pairs_seen"] = sum(pair in pairs for pair in zip(images, answers))
        report["examples_seen"] = sum(row in examples for row in zip(images, questions, answers))
    return report


def rewordings_seen(train, evaluation, column=None):
    """How many questions of the evaluation part are asked in training about the same image, in whatever words."""
    names = ["image_key", "question", MARKS[0], column]
    names = [name for name in names if name in train.column_names and name in evaluation.column_names]
    together = {name: [*train[name][:], *evaluation[name][:]] for name in names}
    groups = question_groups(together, column if column in names else None)
    known = set(groups[: len(train)])
    return sum(group in known for group in groups[len(train) :])


def held_out(leakage):
    """In words what the figures of a part are figures of, from its `leakage_report`; None where that isn't known."""
    if leakage is None:
        return None
    images, questions = leakage["images"], leakage["questions"]
    if not leakage["images_seen"]:
        return "held out by image"
    if leakage["images_seen"] == images and not leakage["rewordings_seen"]:
        return "held out by question"
    if leakage["rewordings_seen"] == questions and not leakage["image_question_pairs_seen"]:
        return "held out by wording"
    return (
        f"{leakage['images_seen'] / images:.1%} of the images, {leakage['rewordings_seen'] / questions:.1%} of the "
        f"questions in some wording and {leakage['image_question_pairs_seen'] / questions:.1%} word for word are in "
        f"training"
    )


def in_short(way):
    """What `held_out` says, in a few words; None as it is."""
    return way if way is None or way.startswith("held out") else "partly seen in training"
