"""What docs/explanations/answer_normalisation.md says of answers is so."""

import re

import pytest
from helpers import ROOT

from processing import AnswerRules
from processing.vqa_accuracy.answer_strings import score_of_matches
from processing.vqa_accuracy.languages import LANGUAGES
from processing.vqa_accuracy.official import official_form

PAGE = (ROOT / "docs/explanations/answer_normalisation.md").read_text(encoding="utf-8")


def table(header):
    """The rows of the table with this header: lists of cells."""
    lines = PAGE[PAGE.index(header) :].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]


def spans(cell):
    return [text.replace('""', "") for text in re.findall("`([^`]*)`", cell)]


DIFFERENCES = table("| answers | official forms | forms here | why |")


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row[0])
def test_the_two_normalisations_differ_as_it_says(row):
    answers, official, ours = map(spans, row[:3])
    assert [official_form(answer) for answer in answers] == official
    assert [AnswerRules().form(answer) for answer in answers] == ours
    assert official != ours and len(DIFFERENCES) > 20


@pytest.mark.parametrize("row", table("| language | one answer | why |"), ids=lambda row: row[0])
def test_spellings_of_one_answer_are_one_in_their_language_alone(row):
    own, other = AnswerRules(answer_language=row[0]), AnswerRules(answer_language="none")
    pairs = [spans(pair) for pair in row[1].split(";")]
    for one, same in pairs:
        assert own.form(one) == own.form(same) == own.form(own.form(one))
    assert any(other.form(one) != other.form(same) for one, same in pairs)


def test_the_scores_of_ten_people_and_the_languages_are_those_that_there_are():
    for name, kind in (("exact", "exact"), ("vqa", "vqa"), ("vizwiz", AnswerRules(metric="vizwiz").counted)):
        (row,) = [row for row in table("| score | of ten people") if row[0].startswith(f"`{name}`")]
        said = [float(value) for value in row[1].split(", ")]
        assert [score_of_matches(matches, 10, kind) for matches in range(5)] == pytest.approx(said, abs=5e-4)
    (named,) = re.findall(r"There are ([a-z, \n]+)\. In other", PAGE)
    assert set(re.findall("[a-z]{2,}", named.replace(" and ", " "))) == set(LANGUAGES) - {"none"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_number_words_of_a_language_are_digits_and_no_word_is_two_numbers(language):
    words = LANGUAGES[language].number_words
    own = LANGUAGES[language].numbers.replace("/", " ").split()
    assert len(words) == len([word for word in own if word != "-"])
    assert len(LANGUAGES[language].numbers.split()) in (0, 11)
    rules = AnswerRules(answer_language=language)
    assert {word: rules.form(word) for word in words} == words
