import concurrent.futures

import pytest
import torch
from PIL import Image

from processing import DualVQAProcessor, train_tokenizer


@pytest.fixture
def outputs():
    """Two questions. The router takes the first for yes/no (0.8) and the second for open-ended (0.9)."""
    return {
        "binary_logits": torch.tensor([[0.3, 0.7], [0.6, 0.4]]).log(),
        "open_ended_logits": torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]).log(),
        "question_type_logits": torch.tensor([[0.8, 0.2], [0.1, 0.9]]).log(),
    }


def test_encodes_questions_and_images(processor):
    images = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    batch = processor(images=images, text=["what color is it?", "is it red?"], return_tensors="pt")
    assert list(batch) == ["input_ids", "attention_mask", "pixel_values"]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    assert batch["attention_mask"].min() == 0 and batch["pixel_values"].shape == (2, 3, 32, 32)


def test_options_reach_tokenizer_and_image_processor(processor):
    image = Image.new("RGB", (9, 9), "white")
    batch = processor(
        images=image,
        text=["is it red?"],
        return_tensors="pt",
        padding="max_length",
        size={"height": 8, "width": 16},
        do_normalize=False,
    )
    assert batch["input_ids"].shape == (1, 16) and batch["pixel_values"].shape == (1, 3, 8, 16)
    assert (batch["pixel_values"] == 1).all()
    grouped = processor(
        images=image,
        text=["is it red?"],
        return_tensors="pt",
        text_kwargs={"padding": "max_length", "max_length": 12},
        images_kwargs={"do_normalize": False},
    )
    assert grouped["input_ids"].shape == (1, 12) and (grouped["pixel_values"] == 1).all()
    defaults = processor(images=image, text=["is it red?"], return_tensors="pt")  # one call leaves the next alone
    assert defaults["input_ids"].shape[1] < 12 and defaults["pixel_values"].shape == (1, 3, 32, 32)
    assert defaults["pixel_values"].max() > 1


@pytest.mark.parametrize(
    "options", [{"colour": "grey"}, {"text_kwargs": {"colour": 1}}, {"images_kwargs": {"colour": 1}}]
)
def test_options_that_nobody_knows_are_refused(processor, options):
    with pytest.raises(TypeError, match="unknown options: colour"):
        processor(images=Image.new("RGB", (9, 9)), text=["is it red?"], **options)


def test_options_for_both_give_way_to_those_for_one(processor):
    given = {"images": Image.new("RGB", (9, 9), "white"), "text": ["is it red?"]}
    common = {"return_tensors": "pt", "padding": "max_length", "do_normalize": False}
    batch = processor(**given, common_kwargs=common)
    assert batch["input_ids"].shape == (1, 16) and (batch["pixel_values"] == 1).all()
    batch = processor(**given, common_kwargs=common, text_kwargs={"max_length": 12}, do_normalize=True)
    assert batch["input_ids"].shape == (1, 12) and batch["pixel_values"].max() > 1
    with pytest.raises(TypeError, match="unknown options: colour"):
        processor(**given, common_kwargs={"colour": 1})


@pytest.mark.parametrize("fields", [{"abstain": "no"}, {"abstain": 0}, {"question_type": 3}, {"question_type": [[]]}])
def test_choices_that_are_none_are_refused(processor, fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name} must be .*; ?found|{name} must be .*, found"):
        processor.post_process_question_answering({"binary_logits": torch.zeros(1, 2)}, **fields)


def test_long_questions_are_cut(processor):
    batch = processor(text=["is it red? " * 50], return_tensors="pt")
    assert batch["input_ids"].shape == (1, 16)


def test_scores_are_those_of_the_head_times_that_of_the_type(processor, outputs):
    first, second = processor.post_process_question_answering(outputs, top_k=2)
    assert [best["answer"] for best in first] == ["yes", "no"]
    assert [best["score"] for best in first] == pytest.approx([0.8 * 0.7, 0.8 * 0.3])
    assert {best["question_type"] for best in first} == {"binary"}
    assert [best["answer"] for best in second] == ["blue", "green"]
    assert [best["score"] for best in second] == pytest.approx([0.9 * 0.7, 0.9 * 0.2])
    assert {best["question_type"] for best in second} == {"open_ended"}


def test_the_question_type_can_be_forced(processor, outputs):
    first, second = processor.post_process_question_answering(outputs, question_type="open_ended")
    assert (first[0]["answer"], first[0]["score"]) == ("red", pytest.approx(0.5))
    first, second = processor.post_process_question_answering(outputs, question_type=["open_ended", "binary"])
    assert (first[0]["answer"], second[0]["answer"]) == ("red", "no")


def test_top_k_is_cut_to_what_the_head_has(processor, outputs):
    first, second = processor.post_process_question_answering(outputs, top_k=10)
    assert len(first) == 2 and len(second) == 3
    assert sum(best["score"] for best in second) == pytest.approx(0.9)


def test_one_head_needs_no_router(processor, outputs):
    only = {"binary_logits": outputs["binary_logits"]}
    assert processor.post_process_question_answering(only)[0][0] == {
        "answer": "yes",
        "score": pytest.approx(0.7),
        "question_type": "binary",
    }
    with pytest.raises(ValueError, match="one of binary"):
        processor.post_process_question_answering(only, question_type="open_ended")


def test_a_vocabulary_of_another_size_is_refused(processor, outputs):
    outputs["open_ended_logits"] = torch.zeros(2, 7)
    with pytest.raises(ValueError, match="7 answers and this processor's vocabulary 3"):
        processor.post_process_question_answering(outputs)


def test_save_and_load(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = DualVQAProcessor.from_pretrained(tmp_path)
    assert again.answers == processor.answers
    image, question = Image.new("RGB", (9, 5), "red"), "is it red?"
    before = processor(images=image, text=question, return_tensors="pt")
    after = again(images=image, text=question, return_tensors="pt")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_a_trained_tokenizer_knows_the_training_questions():
    questions = ["What colour is the liver?", "is there a mass in the left lung?"]
    tokenizer = train_tokenizer(questions, vocab_size=200, model_max_length=12)
    assert len(tokenizer) <= 200 and tokenizer.model_max_length == 12
    ids = tokenizer(questions)["input_ids"]
    assert tokenizer.unk_token_id not in ids[0] + ids[1]
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "what colour is the liver?"
    for _ in range(5):
        assert train_tokenizer(questions, 200, 12).get_vocab() == tokenizer.get_vocab()


def test_threads_with_other_options_get_each_their_own_padding(processor):
    """A fast tokenizer keeps the padding of a call, and is in use while it is changed by another."""
    questions = [" ".join(["is it red?"] * count) for count in range(1, 40)]
    options = [{}, {"padding": "max_length", "max_length": 12}, {"max_length": 5}]
    expected = [processor(text=questions, return_tensors="pt", **option)["input_ids"] for option in options]

    def encode(number):
        return processor(text=questions, return_tensors="pt", **options[number % 3])["input_ids"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(encode, range(24))):
            assert torch.equal(found, expected[number % 3])
