"""Teaching without training, and the examples that spoke for an answer."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import COLOR, QUESTIONS, RED, lines_of, load
from PIL import Image

from modeling_dualvqa import DualVQAPipeline
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.teaching_dualvqa import plain
from processing import DualVQAProcessor


def image(number):
    torch.manual_seed(number)
    return Image.fromarray((torch.rand(32, 32, 3) * 255 / (1 + number)).byte().numpy())


@pytest.fixture
def image_paths(tmp_path):
    """Paths of four image_paths that the tiny model tells from each other."""
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        image(number).save(path)
    return list(map(str, paths))


@pytest.fixture
def pipe(tiny_model, processor, image_paths):
    """A pipeline whose model remembers what was asked about three of the image_paths."""
    pipe = DualVQAPipeline(tiny_model(fusion_type="cross_attention"), processor)
    images = [image for image in image_paths[:3] for _ in range(2)]
    pipe.memory.build(images, [COLOR, RED] * 3, ["red", "yes", "green", "no", "blue", "no"])
    return pipe


def state(pipe):
    """All that is saved of a memory."""
    memory = pipe.model.memory
    return {name: buffer.clone() for name, buffer in memory.named_buffers()}, memory.texts, memory.settings


def assert_same_state(one, other):
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)
    assert one[1:] == other[1:]


def best(pipe, image, question, **options):
    return pipe(image=image, question=question, **options)[0]


def test_a_new_word_is_said_from_the_next_question_on_and_a_saved_folder_says_it_too(pipe, image_paths, tmp_path):
    assert best(pipe, image_paths[3], COLOR)["answer"] != "mauve"
    pipe.memory.add([image_paths[3]], [COLOR], ["mauve"])
    said = best(pipe, image_paths[3], COLOR)
    assert said["answer"] == "mauve" and said["score"] > 0.9 and pipe.processor.memory_answers == ["mauve"]
    assert len(pipe.memory) == 7 and pipe.model.memory.taught.tolist() == [False] * 6 + [True]
    pipe.save_pretrained(tmp_path / "taught")
    again = DualVQAPipeline(load(tmp_path / "taught"), DualVQAProcessor.from_pretrained(tmp_path / "taught"))
    assert best(again, image_paths[3], COLOR) == said
    assert_same_state(state(again), state(pipe))


def test_adding_and_removing_are_exact_inverses(pipe, image_paths):
    everything = {"image": image_paths, "question": QUESTIONS}
    before, answers = state(pipe), pipe(**everything, top_k=5)
    images, questions = [image_paths[3], image_paths[0], image_paths[3]], [COLOR, COLOR, RED]
    pipe.memory.add(images, questions, ["mauve", "ochre", "yes"])
    assert pipe(**everything, top_k=5) != answers and len(pipe.model.memory.image_keys) == 4
    pipe.memory.remove(images[1:], questions[1:])
    assert pipe.processor.memory_answers == ["mauve"]
    pipe.memory.remove(images[:1], questions[:1])
    assert_same_state(state(pipe), before)
    assert pipe(**everything, top_k=5) == answers and pipe.processor.memory_answers == []


def test_a_corrected_answer_takes_the_place_of_that_of_training(pipe, image_paths):
    pipe.memory.add(image_paths[0], RED, "no")
    assert best(pipe, image_paths[0], RED)["answer"] == "no"
    assert pipe.model.memory.hidden.tolist() == [False, True] + [False] * 5
    pipe.memory.add(image_paths[0], RED, "Yes.")  # and the later one that of the earlier
    assert best(pipe, image_paths[0], RED)["answer"] == "yes" and len(pipe.memory) == 7
    pipe.memory.add([image_paths[0]] * 2, [RED] * 2, ["yes", "no"])
    assert best(pipe, image_paths[0], RED)["answer"] == "no" and len(pipe.memory) == 7
    assert pipe.model.memory.texts[-1] == {"image": image_paths[0], "question": RED, "answer": "no"}


def test_of_contradictory_lessons_the_last_one_counts_and_a_warning_names_them(pipe, image_paths, caplog):
    paths, questions = [image_paths[3]] * 4 + [image_paths[0]], [COLOR, RED, COLOR, COLOR, COLOR]
    assert pipe.memory.add(paths, questions, ["mauve", "yes", "Mauve.", "ochre", "red"]) == 3
    assert best(pipe, image_paths[3], COLOR)["answer"] == "ochre" and pipe.processor.memory_answers == ["ochre"]
    assert "2 of 5 lessons are contradicted by a later one about the same question and image" in caplog.text
    assert f"first {COLOR!r}, with the answers 'mauve' and 'ochre'" in caplog.text
    caplog.clear()
    assert pipe.memory.add(paths[:2] * 2, questions[:2] * 2, ["mauve", "no", "Mauve", "no."]) == 2
    assert not caplog.text  # said twice, and an earlier lesson replaced by another call: nothing contradicts


def test_what_was_known_is_not_forgotten(pipe, image_paths):
    known = [best(pipe, image, question) for image in image_paths[1:3] for question in (COLOR, RED)]
    pipe.memory.add([image_paths[3]] * 2, [COLOR, RED], ["mauve", "yes"])
    now = [best(pipe, image, question) for image in image_paths[1:3] for question in (COLOR, RED)]
    assert [item["answer"] for item in now] == [item["answer"] for item in known]


def test_teaching_leaves_the_embeddings_of_before_in_the_cache(pipe, image_paths, monkeypatch):
    pipe(image=image_paths[3], question=COLOR)
    pipe.memory.add(image_paths[3], COLOR, "mauve")
    monkeypatch.setattr(pipe.model, "encode_images", lambda *_: pytest.fail("encoded again"))
    assert best(pipe, image_paths[3], COLOR)["answer"] == "mauve"


def test_what_threads_teach_and_take_out_at_the_same_time_is_all_there(pipe, image_paths):
    words, together = ["mauve", "ochre", "azure", "beige"], threading.Barrier(4)

    def lesson(number):
        path = image_paths[number]
        together.wait(10)
        pipe.memory.add(path, COLOR, words[number])
        pipe.memory.add(path, RED, "yes")
        pipe.memory.remove(path, RED)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lesson, range(4)))
    assert int(pipe.model.memory.taught.sum()) == 4 and sorted(pipe.processor.memory_answers) == sorted(words)
    assert [best(pipe, path, COLOR)["answer"] for path in image_paths] == words


def test_forgetting_leaves_the_heads_alone(pipe, image_paths, tiny_model):
    pipe.memory.add(image_paths[3], COLOR, "mauve")
    pipe.memory.forget()
    assert pipe.model.memory is None and pipe.processor.memory_answers == [] and len(pipe.memory) == 0
    assert best(pipe, image_paths[3], COLOR, top_k=1)["answer"] in ("red", "green", "blue", "no", "yes")


def test_the_evidence_is_what_spoke_for_the_answer(pipe, image_paths):
    pipe.memory.add(image_paths[3], COLOR, "mauve", "my image")
    (said,) = best(pipe, image_paths[3], COLOR, evidence=3)["evidence"]
    assert said["image"] == "my image" and said["answer"] == "mauve" and said["question"] == COLOR
    assert said["similarity"] == pytest.approx(1.8, abs=1e-3) and said["weight"] == pytest.approx(1)
    for items in pipe(image=image_paths[:3], question=[COLOR, RED], evidence=2, top_k=2):
        for item in items:
            assert all(example["answer"] == item["answer"] for example in item["evidence"])
            similarities = [example["similarity"] for example in item["evidence"]]
            assert similarities == sorted(similarities, reverse=True) and len(similarities) <= 2
    assert any(
        item["evidence"] for item in pipe(image=image_paths[0], question=RED, question_type="binary", evidence=1)
    )
    assert "evidence" not in best(pipe, image_paths[3], COLOR)


@pytest.mark.slow
def test_the_texts_are_a_file_of_their_own_which_goes_with_them(pipe, image_paths, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    lines = lines_of(tmp_path / "saved" / "memory_examples.jsonl")
    assert lines == pipe.model.memory.texts and lines[0] == {
        "image": image_paths[0],
        "question": COLOR,
        "answer": "red",
    }
    (tmp_path / "saved" / "memory_examples.jsonl").unlink()
    model = load(tmp_path / "saved")
    assert model.memory.texts is None
    (tmp_path / "saved" / "memory_examples.jsonl").write_text("{}\n")  # of another memory
    assert load(tmp_path / "saved").memory.texts is None
    model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "memory_examples.jsonl").exists()
    other = DualVQAPipeline(model, pipe.processor)
    with pytest.raises(
        ValueError,
        match="evidence=3 asks for .* this model has a memory without texts: put its own memory_examples.jsonl back",
    ):
        other(image=image_paths[0], question=RED, evidence=3)
    other.memory.add(image_paths[3], RED, "yes")
    assert model.memory.texts is None and best(other, image_paths[3], RED)["answer"] == "yes"


@pytest.mark.slow
def test_texts_of_an_earlier_memory_are_no_evidence(pipe, image_paths, tmp_path, caplog):
    pipe.save_pretrained(tmp_path)
    file = tmp_path / "memory_examples.jsonl"
    earlier = file.read_bytes()
    images = [path for path in image_paths[:3] for _ in range(2)]
    pipe.memory.build(images, [COLOR, RED] * 3, ["blue", "no", "green", "yes", "red", "no"])
    for texts in (pipe.model.memory.texts, None):  # a push that leaves them out leaves those of before where they are
        pipe.model.memory.texts = texts
        pipe.save_pretrained(tmp_path)
        file.write_bytes(earlier)
        caplog.clear()
        assert load(tmp_path).memory.texts is None
        assert "its texts are those of another memory): answers come without evidence" in caplog.text
    config = json.loads((tmp_path / "config.json").read_text())
    del config["memory"]["texts"]  # as it was saved before there was a digest
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(load(tmp_path).memory.texts) == 6


def test_the_texts_are_pushed_only_when_that_is_asked_for(pipe, monkeypatch):
    timestamps = {}
    monkeypatch.setattr(
        "transformers.PreTrainedModel._upload_modified_files",
        lambda self, folder, repo_id, stamps, *args, **kwargs: timestamps.update(stamps),
    )
    pipe.model._upload_modified_files("nowhere", "me/model", {})
    assert timestamps == {"memory_examples.jsonl": float("inf")}
    timestamps.clear()
    pipe.model.memory.push_texts = True
    pipe.model._upload_modified_files("nowhere", "me/model", {})
    assert timestamps == {}


def test_teaching_leaves_what_is_pushed_as_it_was(pipe, image_paths):
    pipe.model.memory.push_texts = True
    pipe.memory.add(image_paths[3], COLOR, "mauve")
    assert pipe.model.memory.push_texts is True
    pipe.memory.remove(image_paths[3], COLOR)
    assert pipe.model.memory.push_texts is True


def test_texts_with_other_ends_of_a_line_are_read_again(pipe, image_paths, tmp_path):
    pipe.memory.add(image_paths[3], COLOR, "mauve\u2028or\u0085so\r\n", "a\u2029b")
    pipe.save_pretrained(tmp_path)
    assert load(tmp_path).memory.texts == pipe.model.memory.texts


def test_a_pipeline_of_changed_weights_is_saved_without_words_of_the_memory(pipe, image_paths, tmp_path, caplog):
    pipe.memory.add(image_paths[3], COLOR, "mauve")
    pipe.model.binary_head[0].weight.data.add_(1)
    pipe.save_pretrained(tmp_path)
    assert "the memory is not saved" in caplog.text and pipe.processor.memory_answers == []
    again = DualVQAPipeline(load(tmp_path), DualVQAProcessor.from_pretrained(tmp_path))
    assert again.processor.memory_answers == []
    for one in (pipe, again):
        assert best(one, image_paths[3], COLOR)["answer"] in ("red", "green", "blue", "no", "yes")


def test_bad_lessons_are_refused(pipe, image_paths, tiny_model, processor):
    memory, bare = pipe.memory, DualVQAPipeline(tiny_model(), processor)
    first, last = image_paths[:1], image_paths[3:]
    for call, message in (
        (lambda: memory.add(image_paths, [COLOR], ["red"]), "expected 1 images, one for each question, found 4"),
        (lambda: memory.add(first, [COLOR], [None]), "expected a text as answer to question 0, found None"),
        (lambda: memory.add(first, [COLOR], [" . "]), r"expected a text as answer to question 0, found ' \. '"),
        (lambda: memory.add(first, [[COLOR, RED]], ["red"]), r"expected a text as question 0, found \['what color"),
        (lambda: memory.remove(first, [None]), "expected a text as question 0, found None"),
        (lambda: memory.add(first * 3, [COLOR] * 3, "red"), "expected a list of answers, one for .* the text 'red'"),
        (lambda: memory.add([], [], []), "expected questions about images, found none"),
        (lambda: memory.remove(first, [COLOR]), "1 of 1 questions were never taught, first 'what color is it"),
        (lambda: memory.remove(last, [COLOR]), "1 of 1 questions were never taught"),
        (lambda: memory.build(first, [COLOR], ["red"]), "a memory needs two examples or more"),
        (lambda: bare.memory.add(first, [COLOR], ["red"]), r"no memory that could be taught: .*memory\.build\("),
        (
            lambda: bare(image=first[0], question=RED, evidence=1),
            "and this model has no memory: give it one with texts",
        ),
        (lambda: pipe(image=first[0], question=RED, evidence=0), "evidence must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_model_and_a_processor_that_know_different_words_are_refused(pipe):
    processor = pipe.processor
    pipe.memory.add(image(9), COLOR, "mauve")
    processor.memory_answers = []
    with pytest.raises(ValueError, match="memory knows 1 answers that the head doesn't, and the processor's .* are 0"):
        DualVQAPipeline(pipe.model, processor)


def test_a_model_with_an_open_ended_head_alone_is_taught_yes_as_a_word(tiny_model, processor, image_paths):
    pipe = DualVQAPipeline(tiny_model(heads=["open_ended"]), processor)
    pipe.memory.build(image_paths[:2], [RED, COLOR], ["yes", "red"])
    assert processor.memory_answers == ["yes"] and pipe.model.memory.question_type.tolist() == [1, 1]
    assert isinstance(pipe.model.memory, Memory)


@pytest.mark.parametrize("written", ["mass", " Mass. ", "MASS", "mass ."])
def test_writings_of_one_answer_are_one(written):
    assert plain(written) == "mass"


def test_one_word_in_two_unicode_forms_is_one():
    assert (
        plain("Caf\u00e9") == plain("cafe\u0301") == "caf\u00e9"
        and plain("hairline \u3000 fracture") == "hairline fracture"
    )


DIFFERENT = [
    ("A+", "A-"),
    (">5 cm", "5 cm"),
    ("C++", "C"),
    ("-5", "5"),
    ("10%", "10"),
    ("a b", "b"),
    ("\u0915\u093f", "\u0915\u0940"),  # Devanagari ki and kii, which differ in the last vowel sign
    ("\u0915\u093e", "\u0915"),
]


def test_a_lesson_is_taken_out_where_a_nearer_image_was_taught_after_it(pipe, image_paths):
    pipe.memory.add(image_paths[3], COLOR, "mauve")
    memory = pipe.model.memory
    own = memory.image_keys[3]
    aside = torch.nn.functional.normalize(own + 0.1 * torch.roll(own, 1), dim=0)  # as that of another file of the image
    assert 0.99 < own @ aside < 0.999
    memory.image_keys = torch.cat([memory.image_keys[:3], aside[None], own[None]])
    pipe.memory.remove(image_paths[3], COLOR)
    assert pipe.processor.memory_answers == [] and not pipe.model.memory.taught.any()


def test_an_answer_that_differs_in_a_sign_is_another_one(pipe, image_paths):
    images, questions = image_paths[2:], [COLOR, COLOR]
    for pair in [*DIFFERENT, *(pair[::-1] for pair in DIFFERENT)]:
        for image, answer in zip(images, pair):
            pipe.memory.add(image, COLOR, answer)
        assert pipe.processor.memory_answers == list(pair)
        assert [best(pipe, image, COLOR)["answer"] for image in images] == list(pair)
        pipe.memory.remove(images, questions)


def test_a_new_word_is_kept_as_it_was_written_and_known_in_other_capitals(pipe, image_paths):
    pipe.memory.add(image_paths[2:], [COLOR] * 2, [" Prussian  Blue", "prussian blue."])
    assert pipe.processor.memory_answers == ["Prussian Blue"]
    pipe.memory.add(image_paths[2:], [COLOR] * 2, ["RED", "Green."])  # words of the head
    assert pipe.processor.memory_answers == [] and best(pipe, image_paths[3], COLOR)["answer"] == "green"


def test_of_two_known_words_the_one_that_is_written_so_is_taught(pipe, image_paths, monkeypatch):
    monkeypatch.setattr(pipe.processor, "answers", ["US", "us", "blue"])
    pipe.memory.add(image_paths[2:], [COLOR] * 2, ["us", "US"])
    assert pipe.model.memory.answer_index[-2:].tolist() == [1, 0] and pipe.processor.memory_answers == []


def test_yes_and_no_are_words_without_other_signs(pipe, image_paths):
    pipe.memory.add(image_paths[1:], [RED] * 3, ["Yes", "yes.", "+yes"])
    assert pipe.model.memory.question_type[-3:].tolist() == [0, 0, 1] and pipe.processor.memory_answers == ["+yes"]
