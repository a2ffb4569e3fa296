"""A saved model's words for yes and no keep their meaning, or somebody is told."""

import copy

import pytest

from processing import AnswerRules, DataArguments
from processing.other_rules import check_saved_words, same_words, swapped_words
from processing.yes_no import settle_rules, tell_of_scored

GERMAN = {"yes_answers": ["Ja"], "no_answers": ["Nein"]}


@pytest.fixture
def german(processor):
    processor = copy.deepcopy(processor)
    processor.answer_rules = dict(GERMAN)
    return processor


def test_words_are_the_same_by_their_meaning_however_they_are_written():
    german = AnswerRules(["Ja"], ["Nein"])
    assert same_words(german, AnswerRules(["yes", "JA!"], ["nein", "no"]))
    assert not same_words(german, AnswerRules()) and not same_words(german, AnswerRules(["ja", "jawohl"], ["nein"]))
    assert swapped_words(german, AnswerRules(["ne", "nein"], ["jo"])) == ["Nein", "nein"]
    assert not swapped_words(german, AnswerRules(["oui"], ["non"]))


@pytest.mark.parametrize("renewed", [False, True])
def test_a_word_that_changes_sides_is_refused(german, renewed):
    args = DataArguments(yes_answers=["nein"], no_answers=["ja"])
    message = "'Ja' means yes to the saved model, and is given as no: expected its words, --yes_answers Ja"
    with pytest.raises(ValueError, match=message.replace("--", "(--)?")):
        settle_rules(args, processor=german, renewed=renewed)
    assert german.answer_rules == GERMAN


def test_other_words_are_told_and_the_same_are_not(german, caplog):
    settle_rules(DataArguments(yes_answers=["ja"], no_answers=["NEIN"]), processor=german)
    assert not caplog.records
    settle_rules(DataArguments(yes_answers=["oui"], no_answers=["non"]), processor=german)
    assert "words for yes and no are other ones: yes_answers ja no_answers NEIN" in caplog.text
    assert "from here on they are yes_answers oui no_answers non" in caplog.text
    caplog.clear()
    settle_rules(DataArguments(yes_answers=["oui"], no_answers=["non"]), processor=german)  # told once
    assert not caplog.records


@pytest.mark.parametrize("given", [{"metric": "vqa"}, {"answer_language": "de"}])
def test_another_metric_or_language_than_the_saved_models_is_told_once(given, german, caplog):
    ((name, value),) = given.items()
    settle_rules(DataArguments(), processor=german)
    assert not caplog.records
    for _ in range(2):
        settle_rules(DataArguments(**given), processor=german)
    (message,) = caplog.messages
    former = {"metric": "exact", "answer_language": "en"}[name]
    assert f"{name} {former} in the saved model" in message and f"{name} {value} here. All figures" in message
    assert "words for yes and no" not in message and AnswerRules.of(german).yes_answers == ("Ja",)


def test_an_answer_of_the_vocabulary_does_not_become_yes_or_no(processor):
    args = DataArguments(yes_answers=["RED"], no_answers=["blue"])
    with pytest.raises(ValueError, match="'red' is given as a word for yes or no, and is one of .* --new_answers"):
        check_saved_words(processor, args.rules)
    assert settle_rules(args, processor=processor, renewed=True).shown == ("blue", "RED")


def test_a_model_with_a_new_vocabulary_finds_the_words_of_its_new_data_and_another_keeps_its_own(processor):
    for renewed, shown in ((True, ("Nein", "Ja")), (False, ("no", "yes"))):
        args = DataArguments()
        settle_rules(args, processor=processor, renewed=renewed)
        assert settle_rules(args, ["Ja", "Nein", "rot"]).shown == shown


def test_answers_that_the_model_cannot_say_are_told_with_the_flags(processor, german, caplog):
    tell_of_scored("test", ["yes", "no", "red"], processor)
    tell_of_scored("test", ["Ja", "Nein", "red"], german)
    tell_of_scored("test", ["ja", "rot", None], processor)  # one alone may be anything
    assert not caplog.records
    tell_of_scored("test", ["Ja", ["Nein", "Nein"], "red"], processor)
    assert 'test: "Ja", "Nein" may mean yes and no' in caplog.text and 'its words are "yes", "no"' in caplog.text
    assert "give yes_answers=['yes', 'Ja'], no_answers=['no', 'Nein']" in caplog.text


def test_answers_that_are_in_the_vocabulary_are_no_yes_and_no(processor, caplog):
    processor = copy.deepcopy(processor)
    processor.answers = ["red", "ja", "nein"]
    tell_of_scored("test", ["Ja", "Nein"], processor)
    assert not caplog.records
