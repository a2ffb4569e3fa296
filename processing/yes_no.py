"""Which words of a data set mean yes and no: those that are given, the saved model's, or usual ones that are found."""

import logging
import shlex
from collections import Counter

from .answers import AnswerRules, AnswerVocabulary, as_list
from .other_rules import check_saved_words
from .vqa_accuracy.languages import CODES, USUAL_WORDS
from .vqa_accuracy.normal_form import normal_form
from .wording import command_lines, worded

logger = logging.getLogger(__name__)

LEAST = 0.01  # of all answers: what is rarer may well be something else, as "si" for silicon
DIGITS = ("digits", "1", "0")  # of statements; counts and years are numbers too, so only where nothing else is said
FIELDS = ("yes_answers", "no_answers", "answer_language", "metric")


def settle_rules(data_args, answers=(), processor=None, renewed=False):
    """Fills in, in place, what the settings leave open about how answers are compared.

    Args:
        data_args: `DataArguments`. What they have is kept, and a processor takes it over.
        answers: those of the training rows, where there are any; None for a row without one.
        processor: the saved model's, whose rules hold for what isn't given. Without it the words for yes and no are
            looked for among the answers.
        renewed: whether the saved model gets another vocabulary.

    Returns:
        The [`AnswerRules`].

    Raises:
        ValueError: see `check_saved_words`.
    """
    if processor is not None:
        own = AnswerRules.of(processor)
        for name in FIELDS:
            if not getattr(data_args, name):
                value = getattr(own, name)
                setattr(data_args, name, list(value) if isinstance(value, tuple) else value)
        check_saved_words(processor, data_args.rules, renewed)
        processor.answer_rules = data_args.rules.saved()
        data_args.has_words = not renewed
    if data_args.has_words:
        tell(found_groups(written(answers)), data_args.rules)
    elif not data_args.yes_answers:
        counts = written(answers)
        groups = found_groups(counts)
        if len(groups) == 1:
            take(data_args, groups[0], counts)
    return data_args.rules


def written(answers):
    """How often each answer is given, as it is written."""
    return Counter(text for people in answers if people is not None for text in as_list(people))


def found_groups(counts):
    """The pairs of words for yes and no that answers have: (whose, yes words, no words), the commonest writings first.

    Both sides must be at least `LEAST` of the answers. Pairs whose words are all among another's are that one.

    Args:
        counts: see `written`.
    """
    forms, total = {}, sum(counts.values())
    for text, count in counts.most_common():
        forms.setdefault(normal_form(text, "none"), []).append((text, count))
    only_digits = bool(forms) and set(forms) <= {"0", "1"}
    found = []
    for whose, *sides in [DIGITS] if only_digits else USUAL_WORDS:
        words = [
            sorted((forms[form] for form in side.split() if form in forms), key=lambda same: -sum(n for _, n in same))
            for side in sides
        ]
        if all(sum(n for same in side for _, n in same) >= LEAST * total and side for side in words):
            found.append((whose, *([same[0][0] for same in side] for side in words)))
    kept = []
    for place, (_, *sides) in enumerate(found):
        own, others = {*sides[0], *sides[1]}, [{*other[1], *other[2]} for other in found]
        if not any(own < other or (own == other and n < place) for n, other in enumerate(others)):
            names = [other[0] for other, words in zip(found, others) if words == own]
            kept.append((" or ".join(names), *sides))
    return kept


def take(data_args, group, counts):
    """Makes a pair of words those of the settings, and says so where they aren't English."""
    whose, yes, no = group
    if AnswerRules().form(yes[0]) == "yes" and AnswerRules().form(no[0]) == "no" and len(yes) == len(no) == 1:
        return
    data_args.yes_answers, data_args.no_answers = yes, no
    forms = {normal_form(word, "none") for word in (*yes, *no)}
    number = sum(count for text, count in counts.items() if normal_form(text, "none") in forms)
    language = CODES.get(whose)
    if language and not data_args.answer_language:
        whose = f"{whose}; {worded(f'--answer_language {language}')} for its articles and number words"
    logger.warning(
        "%s: taken as yes, %s: as no (%s; %s of %s answers), for the yes/no head. To keep them as words among the "
        "others: %s",
        quoted(yes),
        quoted(no),
        whose,
        f"{number:,}",
        f"{sum(counts.values()):,}",
        flags(["yes"], ["no"]),
    )


def tell(groups, rules):
    """Says which words look like yes and no and are learned as any others."""
    others = [
        group for group in groups if any(rules.form(word) not in ("yes", "no") for word in (*group[1], *group[2]))
    ]
    if others:
        yes = list(dict.fromkeys([*rules.shown[1:], *(word for group in groups for word in group[1])]))
        no = list(dict.fromkeys([*rules.shown[:1], *(word for group in groups for word in group[2])]))
        logger.warning(
            "%s may mean yes and no, and are learned as any other words; if they do, give %s",
            " and ".join(quoted([*group[1], *group[2]]) for group in others),
            flags(yes, no),
        )


def tell_of_scored(part, answers, processor):
    """Says which words of answers that are to be scored look like yes and no, and can't be said by the model.

    Args:
        part: its name.
        answers: of its rows.
        processor: the model's.
    """
    vocabulary = AnswerVocabulary.of(processor, memory=True)
    known, rules = {"yes", "no", *vocabulary.index}, vocabulary.rules
    groups = found_groups(written(answers))
    strange = [group for group in groups if any(rules.form(word) not in known for word in (*group[1], *group[2]))]
    if strange:
        no, yes = ([*dict.fromkeys([own, *(w for g in strange for w in g[n])])] for own, n in zip(rules.shown, (2, 1)))
        logger.warning(
            "%s: %s may mean yes and no, and count as wrong whatever the model answers: its words are %s; if they do, "
            "give %s",
            part,
            " and ".join(quoted([*group[1], *group[2]]) for group in strange),
            quoted(rules.shown[::-1]),
            flags(yes, no),
        )


def quoted(words):
    return ", ".join(f'"{word}"' for word in words)


def flags(yes, no):
    """The words as flags, or as arguments in Python, ready to be copied."""
    if command_lines:
        return f"--yes_answers {shlex.join(yes)} --no_answers {shlex.join(no)}"
    return f"yes_answers={list(yes)}, no_answers={list(no)}"
