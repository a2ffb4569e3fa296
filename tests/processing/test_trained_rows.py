"""Which questions a model was trained on, told from a few kilobytes."""

from datasets import Dataset

from processing.trained_rows import DIGITS, KEPT, sketch_of, trained_share


def rows(numbers):
    return Dataset.from_dict({"image_key": [str(n) for n in numbers], "question": [f"What is {n}?" for n in numbers]})


def test_rows_that_were_trained_on_are_told_and_no_others():
    sketch = sketch_of(rows(range(5000)))
    assert len(sketch) == KEPT * DIGITS
    told, trained = trained_share(rows(range(2000)), sketch)
    assert 100 < told == trained < 400  # about a tenth
    told, trained = trained_share(rows(range(5000, 7000)), sketch)
    assert told > 100 and not trained
    told, trained = trained_share(rows(range(4000, 6000)), sketch)
    assert 0.3 < trained / told < 0.7


def test_of_few_training_rows_all_are_known_however_they_are_written():
    few = rows(range(10))
    assert trained_share(few.map(lambda row: {"question": row["question"].upper()}), sketch_of(few)) == (10, 10)
    assert trained_share(rows(range(8, 20)), sketch_of(few)) == (12, 2)


def test_what_was_trained_on_before_is_kept():
    both = sketch_of(rows(range(5000, 9000)), earlier=sketch_of(rows(range(5000))))
    assert both == sketch_of(rows(range(9000)))
