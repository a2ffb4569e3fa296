from processing import AnswerVocabulary, TrainingSummary, summarise


def summary_of(*answers) -> TrainingSummary:
    return summarise(("what?", answer) for answer in answers)


def test_answers_are_counted_by_normal_form_and_kept_as_written():
    summary = summary_of("CT scan", "ct scan", "CT scan", ["left", "Left", "Left", "right"], "Yes")
    assert summary.answers == {"ct scan": 3, "left": 1, "yes": 1}
    assert summary.writings == {"ct scan": "CT scan", "left": "Left", "yes": "yes", "right": "right"}
    assert summary.votes == ({"yes": 1}, {"ct scan": 3, "left": 3, "right": 1})
    assert summary.counts_of(["Left", "CT scan", "lung"]) == [1, 3, 0]


def test_gaps_are_neither_answers_nor_writings():
    summary = summary_of([None, None, "Red"], ["", "", "Red", "red"], None)
    assert summary.rows == 3 and summary.answers == {"red": 2} and summary.writings == {"red": "Red"}


def test_a_vocabulary_from_a_summary_is_that_from_its_answers():
    answers = ["CT scan", "ct scan", "CT scan", "Lung", "a dog", "yes"]
    summary = summary_of(*answers)
    found = AnswerVocabulary.from_training_answers(summary.answers.elements(), writings=summary.writings)
    assert found.answers == AnswerVocabulary.from_training_answers(answers).answers == ["CT scan", "a dog", "Lung"]
