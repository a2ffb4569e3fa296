"""Rows that arrive while a batch is computed are the next batch."""

import threading

import pytest
from serving_helpers import Echo, picture

from dualvqa_light.batcher import Batcher, Stopped

RED = picture()


@pytest.fixture
def pipe():
    return Echo()


@pytest.fixture
def batcher(pipe):
    batcher = Batcher(pipe, max_batch_size=4)
    yield batcher
    pipe.gate.set()
    batcher.close()


def ask(batcher, question, **options):
    return batcher.answer(batcher.read(lambda: ({"image": RED, "question": question}, options)).result(5))


def test_what_waits_is_answered_together_up_to_the_size_of_a_batch(pipe, batcher):
    pipe.gate.clear()
    first = ask(batcher, "0")
    while not batcher.waiting.empty():  # the first is being computed
        pass
    others = [ask(batcher, str(number)) for number in range(1, 7)]
    pipe.gate.set()
    found = [future.result(5)[0]["answer"] for future in (first, *others)]
    assert found == [f"{number} (255, 0, 0)" for number in range(7)] and pipe.batches == [1, 4, 2]


def test_questions_about_one_image_count_each_and_stay_together(pipe, batcher):
    pipe.gate.clear()
    ask(batcher, "0")
    while not batcher.waiting.empty():
        pass
    several, one = ask(batcher, [*"abcde"]), ask(batcher, "f")
    pipe.gate.set()
    assert [best[0]["answer"][0] for best in several.result(5)] == [*"abcde"]
    assert one.result(5)[0]["answer"][0] == "f" and pipe.batches == [1, 1, 1]


def test_rows_with_other_options_are_of_the_batch_and_computed_apart(pipe, batcher):
    pipe.gate.clear()
    ask(batcher, "0")
    while not batcher.waiting.empty():
        pass
    plain, three, wrong = ask(batcher, "a"), ask(batcher, "b", top_k=3), ask(batcher, "c", abstain=True)
    pipe.gate.set()
    assert len(plain.result(5)) == 1 and len(three.result(5)) == 3
    with pytest.raises(ValueError, match="needs a threshold"):
        wrong.result(5)


def test_a_batch_that_fails_ends_nothing_but_itself(batcher):
    with pytest.raises(KeyError):
        ask(batcher, "crash").result(5)
    assert ask(batcher, "a").result(5)[0]["answer"] == "a (255, 0, 0)" and batcher.alive


def test_what_was_cancelled_is_not_computed(pipe, batcher):
    pipe.gate.clear()
    ask(batcher, "0")
    while not batcher.waiting.empty():
        pass
    gone, there = ask(batcher, "a"), ask(batcher, "b")
    assert gone.cancel()
    pipe.gate.set()
    there.result(5)
    assert pipe.batches == [1, 1]


def test_a_question_may_wait_for_others(pipe):
    batcher = Batcher(pipe, max_batch_size=3, max_wait_ms=5000)
    futures = [ask(batcher, str(number)) for number in range(3)]
    assert [future.result(2)[0]["answer"][0] for future in futures] == ["0", "1", "2"] and pipe.batches == [3]
    batcher.close()


def test_at_the_end_what_waits_is_answered_and_nothing_more_is_taken(pipe):
    batcher = Batcher(pipe)
    pipe.gate.clear()
    futures = [ask(batcher, str(number)) for number in range(3)]
    threading.Timer(0.05, pipe.gate.set).start()
    job = batcher.read(lambda: ({"image": RED, "question": "late"}, {})).result(5)
    batcher.close()
    assert all(future.done() for future in futures) and not batcher.alive
    with pytest.raises(Stopped):
        batcher.answer(job)
