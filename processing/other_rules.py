"""What differs between two ways of comparing answers: those of a saved model, and those that are asked for."""

import logging

from .vqa_accuracy.rules import YES_NO, AnswerRules
from .wording import worded

logger = logging.getLogger(__name__)


def forms_of(rules):
    """The normal forms of the words for no and for yes, two sets, without the English ones beside others."""
    sides = zip((rules.no_answers, rules.yes_answers), YES_NO)
    return tuple({rules.language_form(word) for word in words or (english,)} for words, english in sides)


def same_words(one, other):
    """Whether the same words mean yes and no by both rules. The English ones always do."""
    return all(a | {word} == b | {word} for a, b, word in zip(forms_of(one), forms_of(other), YES_NO))


def swapped_words(one, other):
    """Words that mean yes by one of the rules and no by the other, as they are written there."""
    words = [*one.yes_answers, *one.no_answers, *other.yes_answers, *other.no_answers]
    return [word for word in dict.fromkeys(words) if {one.form(word), other.form(word)} == set(YES_NO)]


def apart(one, other):
    """Whether the rules have no word for yes or none for no in common."""
    return any(a.isdisjoint(b) for a, b in zip(forms_of(one), forms_of(other)))


def shown_words(rules):
    """The words for yes and no as the flags that give them."""
    no, yes = ([*words] or [english] for words, english in zip((rules.no_answers, rules.yes_answers), YES_NO))
    return worded(f"--yes_answers {' '.join(yes)} --no_answers {' '.join(no)}")


def shown_difference(one, other, words_differ, places=("there", "here")):
    """What differs between two rules, in words; "" where nothing does.

    Args:
        words_differ: whether the words for yes and no are to be named.
        places: where the rules are from.
    """
    pairs = [(shown_words(one), shown_words(other))] if words_differ else []
    for name in ("answer_language", "metric"):
        values = getattr(one, name), getattr(other, name)
        if values[0] != values[1]:
            pairs.append(tuple(worded(f"--{name} {value}") for value in values))
    return "; ".join(f"{a} {places[0]}, {b} {places[1]}" for a, b in pairs)


def check_saved_words(processor, rules, renewed=False):
    """Refuses words for yes and no by which a saved model's answers would mean something else, and tells of new rules.

    Args:
        processor: the saved model's, with the rules that it was trained by.
        rules: those that it is to be used with.
        renewed: whether it gets another vocabulary.

    Raises:
        ValueError: a word that means yes to the model is to mean no, or the other way round; or a word is to mean yes
            or no and is an answer of the open-ended vocabulary.
    """
    own = AnswerRules.of(processor)
    changed = shown_difference(own, rules, words_differ=False, places=("in the saved model", "here"))
    if changed:
        logger.warning(
            "answers are compared in another way than by the saved model: %s. All figures are by the latter; "
            "temperatures and a threshold for unanswered questions that it was saved with were fitted by the former, "
            "and `dualvqa calibrate` fits them again",
            changed,
        )
    if same_words(own, rules):
        return
    swapped = swapped_words(own, rules)
    if swapped:
        raise ValueError(
            f"{swapped[0]!r} means {own.form(swapped[0])} to the saved model, and is given as "
            f"{rules.form(swapped[0])}: expected its words, {shown_words(own)}, found {shown_words(rules)}. Leave the "
            f"two out for the model's own, or train a new model"
        )
    answers = [] if renewed else processor.all_answers
    known = [answer for answer in answers if rules.form(answer) in YES_NO and own.form(answer) not in YES_NO]
    if known:
        raise ValueError(
            f"{known[0]!r} is given as a word for yes or no, and is one of the saved model's open-ended answers: "
            f"expected its words, {shown_words(own)}, or others that are no answers, found {shown_words(rules)}. Leave "
            f"the two out, or train with these words: a new model, or this one with --new_answers"
        )
    logger.warning(
        "the saved model's words for yes and no are other ones: %s; from here on they are %s, which it says and is "
        "scored by",
        shown_words(own),
        shown_words(rules),
    )
