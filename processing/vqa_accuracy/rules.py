"""How answers are compared: which words are yes and no, by which language's articles and numbers, with which score."""

from collections import Counter
from dataclasses import asdict, dataclass, fields
from functools import cached_property

from .answer_strings import answer_text, as_list, score_of_matches
from .languages import LANGUAGES
from .normal_form import normal_form
from .official import official_form

METRICS = ("exact", "vqa", "vizwiz", "gqa")
YES_NO = ("no", "yes")  # the normal forms, by the index of the head that says them


@dataclass(frozen=True)
class AnswerRules:
    """How the answers of one data set are compared. Those of English, with exact match, without arguments.

    Whatever words mean yes and no, their normal forms are "yes" and "no": see `form`. The words yes and no themselves
    always do.

    Args:
        yes_answers, no_answers: words that mean yes and no, however written; the model says the first of each.
        answer_language: whose articles and number words make no difference, a key of `LANGUAGES`; "none" for no
            language's.
        metric: "exact", min(matches / min(3, people), 1) over normal forms; "vqa", the official score of the VQA
            evaluation over its own forms, see `official`; "vizwiz", the same, which is VizWiz's too; or "gqa", 1 where
            an answer is written as the reference is, and else 0.

    Raises:
        ValueError: yes words without no words, or the other way round; a word that is both; a language or a metric
            that isn't known.
    """

    yes_answers: tuple = ()
    no_answers: tuple = ()
    answer_language: str = "en"
    metric: str = "exact"

    def __post_init__(self):
        for name in ("yes_answers", "no_answers"):
            words = getattr(self, name)
            words = (words,) if isinstance(words, str) else tuple(words or ())
            if not all(isinstance(word, str) and normal_form(word) for word in words):
                raise ValueError(f"{name} must be words, found {list(words)}")
            object.__setattr__(self, name, words)
        if bool(self.yes_answers) != bool(self.no_answers):
            raise ValueError(
                f"--yes_answers and --no_answers go together: found {list(self.yes_answers)} and "
                f"{list(self.no_answers)}"
            )
        if self.answer_language not in LANGUAGES:
            raise ValueError(
                f"answer_language must be one of {', '.join(sorted(LANGUAGES))}; found {self.answer_language!r}"
            )
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}; found {self.metric!r}")
        for word in self.yes_answers:
            if self.language_form(word) == "no" or self.language_form(word) in map(self.language_form, self.no_answers):
                raise ValueError(f"{word!r} can't be an answer that means yes: it means no")
        for word in self.no_answers:
            if self.language_form(word) == "yes":
                raise ValueError(f"{word!r} can't be an answer that means no: it means yes")

    @classmethod
    def of(cls, processor):
        """Those that a processor was saved with."""
        return cls(**(getattr(processor, "answer_rules", None) or {}))

    def saved(self):
        """What a processor keeps of them: a dict without what is as in English; None where nothing is left."""
        own = {field.name: field.default for field in fields(self)}
        kept = {name: value for name, value in asdict(self).items() if value != own[name]}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in kept.items()} or None

    @property
    def counted(self):
        """How several people's agreement counts, see `score_of_matches`."""
        return "vqa" if self.metric in ("vqa", "vizwiz") else "exact"

    @property
    def shown(self):
        """("no", "yes") in the words that the model says."""
        return (self.no_answers or YES_NO[:1])[0], (self.yes_answers or YES_NO[1:])[0]

    @cached_property
    def words(self):
        """language form of a word -> "yes" or "no"."""
        pairs = (("no", self.no_answers), ("yes", self.yes_answers))
        return {self.language_form(word): meaning for meaning, words in pairs for word in words}

    @cached_property
    def official_words(self):
        pairs = (("no", self.no_answers), ("yes", self.yes_answers))
        return {official_form(word): meaning for meaning, words in pairs for word in words}

    def language_form(self, text):
        return normal_form(text, self.answer_language)

    def form(self, answer):
        """The normal form of an answer, "yes" or "no" where it means that. The form of a form is itself.

        Raises:
            ValueError: a gap, or neither text nor a number.
        """
        text = answer if isinstance(answer, str) else answer_text(answer)
        if text is None:
            raise ValueError(f"expected an answer, found {answer!r}: leave gaps out before answers are compared")
        form = self.language_form(text)
        return self.words.get(form, form)

    def consensus(self, answers):
        """The normal form of what most people said, the first of them where several are level; gaps are no votes.

        Raises:
            ValueError: nobody said anything.
        """
        forms = Counter(map(self.form, as_list(answers)))
        if not forms:
            raise ValueError(f"expected an answer or a list with at least one, found {answers!r}: nobody said anything")
        return forms.most_common(1)[0][0]

    def as_written(self, answers):
        """What most people said, as the first of them wrote it; see `consensus`."""
        form = self.consensus(answers)
        return next(text for text in as_list(answers) if self.form(text) == form)

    def compared(self, text):
        """The form of a text by which the metric compares it."""
        if self.metric == "exact":
            return self.form(text)
        if self.metric == "gqa":
            return text.strip()
        form = official_form(text)
        return self.official_words.get(form, form)

    def score(self, prediction, references):
        """How right an answer is, in [0, 1], by the metric; see `score_of_matches`.

        Args:
            prediction: an answer, however written, or None for a question left unanswered, which scores 0.
            references: as `as_list` takes them; gaps are no references.

        Raises:
            ValueError: nobody said anything.
        """
        people = as_list(references)
        if not people:
            raise ValueError(f"expected references, found {references!r}: nobody said anything")
        given = answer_text(prediction)
        if given is None:
            return 0.0
        given = self.compared(given)
        return score_of_matches(sum(self.compared(text) == given for text in people), len(people), self.counted)

    def best_score(self, known, references):
        """The most that a question can be scored with an answer among those that are known, in [0, 1].

        Args:
            known: their forms, see `compared`.
            references: as `as_list` takes them.
        """
        people = Counter(map(self.compared, as_list(references)))
        scores = (score_of_matches(n, people.total(), self.counted) for form, n in people.items() if form in known)
        return max(scores, default=0.0)


ENGLISH = AnswerRules()
