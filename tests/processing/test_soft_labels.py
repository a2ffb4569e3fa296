import itertools
from types import SimpleNamespace

import pytest
import torch

from processing import SoftLabels, summarise
from processing.soft_labels import score_of_matches

NONE = [-100.0] * 3


def labels_of(*answers, answers_known=("red", "green", "blue"), score="vqa"):
    processor = SimpleNamespace(answers=list(answers_known))
    return SoftLabels(processor, score).batch([{"answer": people} for people in answers])


def ten(**votes):
    return [answer.replace("_", " ") for answer, count in votes.items() for _ in range(count)]


@pytest.mark.parametrize(("matches", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_the_score_of_ten_people_is_the_official_one(matches, score):
    assert score_of_matches(matches, 10) == pytest.approx(score)


def test_the_score_is_the_mean_over_the_people_that_are_left_out():
    for people in range(4, 12):
        for matches in range(people + 1):
            said = [place < matches for place in range(people)]
            left = [min(sum(rest) / 3, 1) for rest in itertools.combinations(said, people - 1)]
            assert score_of_matches(matches, people) == pytest.approx(sum(left) / people)


def test_every_answer_of_the_vocabulary_has_its_score():
    labels = labels_of(ten(red=6, Green=2, purple=2))
    torch.testing.assert_close(labels["open_ended_labels"], torch.tensor([[1.0, 0.6, 0.0]]))
    assert labels["binary_labels"].tolist() == [[-100, -100]] and labels["question_type_labels"].tolist() == [1]


def test_the_share_counts_those_who_said_something_else():
    labels = labels_of(ten(red=6, Green=2, purple=2), score="share")
    torch.testing.assert_close(labels["open_ended_labels"], torch.tensor([[0.6, 0.2, 0.0]]))


def test_people_who_disagree_about_yes_and_no_are_a_label_in_between():
    labels = labels_of(ten(yes=6, no=3, red=1), ten(no=5))
    torch.testing.assert_close(labels["binary_labels"], torch.tensor([[1 / 3, 2 / 3], [1.0, 0.0]]))
    assert labels["open_ended_labels"].tolist() == [NONE, NONE]


def test_a_question_is_learned_from_the_known_answers_of_few_and_left_out_without_any():
    labels = labels_of(ten(purple=7, green=3), ten(purple=10))
    torch.testing.assert_close(labels["open_ended_labels"], torch.tensor([[0.0, 0.9, 0.0], NONE]))


def test_one_head_for_all_questions_has_yes_and_no_among_its_answers():
    labels = labels_of(ten(yes=8, no=2), ten(red=1), answers_known=("yes", "red", "no"))
    torch.testing.assert_close(labels["open_ended_labels"], torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.0]]))


def test_one_person_is_certain_and_gaps_are_nobody():
    labels = labels_of("Red.", ["red", None, ""])
    assert labels["open_ended_labels"].tolist() == [[1, 0, 0], [1, 0, 0]]


def test_rows_without_answers_have_no_labels():
    assert SoftLabels(SimpleNamespace(answers=["red"])).batch([{"question": "what?"}]) == {}


def test_the_vocabulary_of_soft_labels_counts_all_answers_of_open_ended_questions():
    summary = summarise([("what?", ten(red=6, blue=4)), ("is it?", ten(yes=9, maybe=1))])
    assert summary.counts("soft") == {"red": 6, "blue": 4}
    assert summary.counts("soft", with_binary=True) == {"red": 6, "blue": 4, "yes": 9, "maybe": 1}
    assert summary.counts_of(["blue", "Red"], "soft") == [4, 6] and summary.counts_of(["blue", "Red"]) == [0, 1]
