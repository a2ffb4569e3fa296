"""What would change an answer: places of the image and words of the question, found by hiding them.

It needs no gradients, and so works for whatever answers: PyTorch, ONNX files in fp32 or int8, ensembles.
"""

import sys
import warnings
from dataclasses import dataclass, field

import numpy as np

from . import hidden_places, hidden_words
from .scoring import ScoredAnswer

SHOWN_EVIDENCE = 3
TINY = 0.05  # log-odds: a probability of 50 % changes to 51.2 % at most


@dataclass
class Explanation:
    """What would change an answer.

    Args:
        question, answer: what was asked, and the answer that is explained.
        score: probability of the answer, as the pipeline gives it.
        question_type: the answer's head, "binary" or "open_ended".
        maps: name -> (h, w) over the image, the first one the best that was asked for. Those of hiding are in units of
            the log-odds, see `hidden_places`.
        changes: name of a map of hiding -> the largest change of the log-odds, up or down, that one of its ways to hide
            places made. Where it is tiny, the map shows differences between nothing and nothing; see `hardly_matters`.
        words: the words and punctuation marks of the question.
        word_scores: (n,) what the answer's log-odds lose without each, positive for the answer and negative against it,
            see `hidden_words`, and 0 for a word that the model doesn't read, since it cuts long questions. None for a
            question of one word.
        evidence: examples of the memory that spoke for the answer, the most similar first, each a dict with `image`,
            `question`, `answer`, `similarity` and `weight`. None of a model without a memory or its texts.
        unfamiliar: which of both is unlike what the model was trained on, {"image": True, "question": False}, with None
            for one that isn't judged; None where neither is, or the model doesn't tell.
        best_guess: what the pipeline's answer would be where it leaves the question unanswered, by the threshold of its
            calibration; None where it answers.
        crop: `size` and `crop_size` of an image processor that shows the model the centre of an image alone: maps that
            come of gradients are of that part. None where it shows all of it.
    """

    question: str
    answer: str
    score: float
    question_type: str
    maps: dict = field(default_factory=dict)
    words: list = field(default_factory=list)
    word_scores: np.ndarray | None = None
    evidence: list | None = None
    crop: dict | None = None
    changes: dict = field(default_factory=dict)
    unfamiliar: dict | None = None
    best_guess: str | None = None

    def cautions(self):
        """Sentences that say what to mind: an answer that isn't given, a foreign input, maps that show nothing."""
        said = (said_of_guess(self.best_guess), said_of_foreign(self.unfamiliar), self.hardly_matters())
        return [sentence for sentence in said if sentence]

    def hardly_matters(self):
        """A sentence where hiding places changes almost nothing, on no map, else None."""
        largest = max(self.changes.values(), default=TINY)
        if largest >= TINY:
            return None
        return f"hiding places of the image changes almost nothing: the answer's log-odds by at most {largest:.2g}"


def explain(pipe, image, question, answer=None, question_type=None, maps=("occlusion",)):
    """Explains one answer to one question about one image by hiding places and words.

    Args:
        pipe: a [`LightPipeline`], or one of transformers with its methods: on PyTorch, on ONNX files, an ensemble.
        image, question: what the pipeline takes, one of each.
        answer: the answer to explain; the pipeline's best one when left out.
        question_type: "binary" or "open_ended" chooses the head; the pipeline does when left out.
        maps: names of `hidden_places.METHODS`, or one of them; an empty list for none.

    Returns:
        [`Explanation`]. What can't be had, such as a map of an image of 8 pixels, is left out with a warning.

    Raises:
        ValueError: an image or a question that can't be asked about, an answer, a type or a map that there isn't.
    """
    maps = check_maps(maps, hidden_places.METHODS)
    scored = ScoredAnswer(pipe, image, question, answer, question_type)
    found = Explanation(question, scored.answer, scored.score, scored.question_type)
    for name in maps:
        asked = Remembered(scored.of_images)
        values = attempt(f"the map {name}", hidden_places.METHODS[name], asked, scored.image)
        if values is not None:
            found.maps[name], found.changes[name] = values, asked.largest_change()
    words = attempt("the scores of the words", words_of, scored)
    found.words, found.word_scores = words or ([question.strip()], None)
    options = {"top_k": sys.maxsize, "question_type": found.question_type}
    if has_examples(pipe):
        options["evidence"] = SHOWN_EVIDENCE
    best = scored.pipe(image, question, **options)
    told = next(item for item in best if item.get("best_guess", item["answer"]) == found.answer)
    found.evidence, found.unfamiliar = told.get("evidence"), told.get("unfamiliar")
    if scored.chosen != found.question_type:  # the answer that is explained is of the other head
        best = scored.pipe(image, question, question_type=question_type)
    found.best_guess = best[0].get("best_guess")
    return found


def check_maps(maps, known):
    """Names of maps as a list, also of one.

    Raises:
        ValueError: it is no list of names, or one of them isn't known.
    """
    try:
        names = [maps] if isinstance(maps, str) else list(maps)
    except TypeError:
        raise ValueError(f"expected maps to be a list, some of {', '.join(known)}; found {maps!r}") from None
    unknown = [name for name in names if name not in list(known)]
    if unknown:
        raise ValueError(f"expected maps to be some of {', '.join(known)}; found {unknown[0]!r}")
    return names


def words_of(scored):
    """The words of the question that was asked, and what each is worth; 0 behind what the model reads."""
    return hidden_words.leave_some_out(scored.of_questions, scored.question, read=scored.part_read())


def said_of_guess(best_guess):
    """That a question is left unanswered, in words; None of None."""
    if best_guess is None:
        return None
    return f"the model is not sure: it leaves this question unanswered, with {best_guess!r} as its best guess"


def said_of_foreign(unfamiliar):
    """{"image": True, "question": False} in words; None of None."""
    if unfamiliar is None:
        return None
    parts = [f"the {name}" for name in ("image", "question") if unfamiliar[name]] or ["the image or the question"]
    verb = "are" if len(parts) == 2 else "is"
    return f"{' and '.join(parts)} {verb} unlike what the model was trained on"


class Remembered:
    """A function that scores images, and the scores that it gave. The first is of the image as it is."""

    def __init__(self, function):
        self.function, self.given = function, []

    def __call__(self, images):
        self.given.append(self.function(images))
        return self.given[-1]

    def largest_change(self):
        given = np.concatenate(self.given)
        return float(np.abs(given - given[0]).max())


def has_examples(pipe):
    """Whether a pipeline can say which examples of its memory spoke for an answer."""
    if hasattr(pipe, "members"):
        return False
    if not hasattr(pipe, "model"):
        return pipe.evidence is not None
    memory = getattr(pipe.model, "memory", None)
    return memory is not None and memory.texts is not None


def attempt(what, function, *arguments):
    """What a function returns; None and a warning where it can't."""
    try:
        return function(*arguments)
    except (ValueError, MemoryError) as error:
        warnings.warn(f"without {what}, which can't be had: {error}", stacklevel=3)
        return None
