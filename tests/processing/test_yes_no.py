"""Which words mean yes and no: given, found among usual ones, or told where nobody can know."""

import re

import pytest
from helpers import ROOT

from processing import AnswerRules, AnswerVocabulary, DataArguments, prepare_dataset, summary_of
from processing.wording import command_line
from processing.yes_no import settle_rules


def found(*answers, **settings):
    rules = settle_rules(DataArguments(**settings), answers)
    return rules.shown if rules.yes_answers else None


@pytest.mark.parametrize(
    "answers, shown",
    [
        (["Ja", "ja", "Ja", "Nein", "rot"], ("Nein", "Ja")),
        (["sí", "si", "sí", "no", "rojo"], ("no", "sí")),
        (["是", "否", "猫"], ("否", "是")),
        (["да", "нет", "кот"], ("нет", "да")),
        (["ja", "nej"], ("nej", "ja")),
        ([True, "false", "cat"], ("false", "True")),
        ([1, 0, "1"], ("0", "1")),
        (["Y", "N", "cat"], ("N", "Y")),
        ([["ja", "ja", "nein"], ["nein", None]], ("nein", "ja")),
    ],
)
def test_usual_words_are_found_and_said_in_the_commonest_writing(answers, shown, caplog):
    assert found(*answers) == shown
    assert f'"{shown[1]}"' in caplog.text and "for the yes/no head" in caplog.text


@pytest.mark.parametrize(
    "answers",
    [
        ["yes", "No", "cat"],  # as ever
        ["yes", "no", "true", "false"],  # nobody can know
        ["ja", "nein", "yes", "no"],
        ["ja", "rot"],  # one alone may be anything
        [1, 0, 2],  # a number of things
        [*["silver"] * 500, "si", "no"],  # silicon
    ],
)
def test_other_words_stay_as_they_are(answers, caplog):
    assert found(*answers) is None and not caplog.records


def test_words_that_are_given_are_taken_alone(caplog):
    assert found("ja", "nein", yes_answers=["yes"], no_answers=["no"]) == ("no", "yes")
    assert found("oui", "nein", yes_answers=["oui", "ja"], no_answers=["non", "nein"]) == ("non", "oui")
    assert not caplog.records


def test_a_saved_model_keeps_its_words_and_says_which_others_look_like_yes_and_no(processor, caplog):
    processor.answer_rules = {"yes_answers": ["oui"], "no_answers": ["non"], "answer_language": "fr"}
    args = DataArguments(metric="vqa")
    assert settle_rules(args, ["ja", "nein", "oui", "non"], processor).shown == ("non", "oui")
    assert (args.answer_language, args.metric) == ("fr", "vqa")
    assert processor.answer_rules["metric"] == "vqa"
    assert '"ja", "nein" may mean yes and no' in caplog.text
    assert "give yes_answers=['oui', 'ja'], no_answers=['non', 'nein']" in caplog.text


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"yes_answers": ["ja"]}, "go together: found"),
        ({"yes_answers": ["ja"], "no_answers": ["JA!"]}, "'ja' can't be an answer that means yes"),
        ({"yes_answers": ["no"], "no_answers": ["ne"]}, "'no' can't be an answer that means yes"),
        ({"yes_answers": ["ja"], "no_answers": ["yes"]}, "'yes' can't be an answer that means no"),
        ({"yes_answers": [""], "no_answers": ["no"]}, "yes_answers must be words"),
        ({"answer_language": "german"}, "answer_language must be one of ar, bg"),
        ({"metric": "bleu"}, "metric must be one of exact, vqa, vizwiz, gqa; found 'bleu'"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        DataArguments(**fields)


def test_the_head_learns_the_own_words_and_the_vocabulary_leaves_them_out(image_folder):
    answers = ["Ja", "nein", "eine Katze", "Katze", "zwei", "2"]
    rows = [{"image": str(image_folder / "0.png"), "question": f"q{n}?", "answer": a} for n, a in enumerate(answers)]
    rules = AnswerRules(["ja"], ["nein"], "de")
    summary = summary_of(prepare_dataset(rows), rules)
    vocabulary = AnswerVocabulary.from_training_answers(
        summary.answers.elements(), writings=summary.writings, rules=rules
    )
    assert dict(summary.answers) == {"yes": 1, "no": 1, "katze": 2, "2": 2} and vocabulary.answers == ["2", "Katze"]
    labels = vocabulary.labels(["JA.", "Nein", "die Katze", "yes", "Hund"])
    assert labels["binary_labels"] == [1, 0, -100, 1, -100] and labels["open_ended_labels"] == [
        -100,
        -100,
        1,
        -100,
        -100,
    ]


def test_nothing_that_has_a_processor_compares_answers_as_english():
    """The functions without rules are for people who have nothing but two answers."""
    english = re.compile(r"^from processing.*import.*\b(normalise_answer|consensus|answer_score)\b", re.MULTILINE)
    found = [path.name for path in (ROOT / "dualvqa").rglob("*.py") if english.search(path.read_text(encoding="utf-8"))]
    assert not found


def test_all_writings_of_the_words_are_counted_and_the_way_back_can_be_copied(caplog):
    answers = ["Ja", "ja", "JA", "Nein", "rot"]
    found(*answers)
    assert "4 of 5 answers" in caplog.text
    back = "To keep them as words among the others: "
    assert caplog.text.strip().endswith(f"{back}yes_answers=['yes'], no_answers=['no']")
    with command_line():
        found(*answers)
    assert caplog.text.strip().endswith(f"{back}--yes_answers yes --no_answers no")
