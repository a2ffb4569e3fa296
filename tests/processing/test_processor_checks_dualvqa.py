"""What a processor refuses: on loading, on asking, and in logits."""

import json
import math
import shutil

import pytest
import torch

from dualvqa.training.building import load_model as load
from modeling_dualvqa import DualVQAPipeline
from processing import DualVQAProcessor

NAN = math.nan


@pytest.fixture
def folder(processor, tmp_path):
    processor.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"answers": ["red", "red", "blue"]}, "answers 0 and 1 of the vocabulary are both 'red'"),
        ({"answers": ["red", "", "blue"]}, "a text as answer 1 of the vocabulary, found ''"),
        ({"answers": ["red", 3, None]}, "a text as answer 1 of the vocabulary, found 3"),
        ({"answers": "red"}, "expected a list of answers, found the text 'red'"),
        ({"calibration": [1]}, "calibration must be a dict"),
        ({"calibration": {"temperature": {}}}, "familiarity, abstention, sets; found 'temperature'"),
        ({"calibration": {"temperatures": {"binry": 1.0}}}, "may have binary, .*; found 'binry'"),
        ({"calibration": {"temperatures": {"binary": NAN}}}, "binary must be a finite number above 0, found nan"),
        ({"calibration": {"temperatures": {"binary": 0}}}, "binary must be a finite number above 0, found 0"),
        ({"calibration": {"temperatures": {"open_ended": -1.5}}}, "must be a finite number above 0, found -1.5"),
        ({"calibration": {"temperatures": {"question_type": math.inf}}}, "must be a finite number above 0, found inf"),
        ({"calibration": {"temperatures": {"binary": "2"}}}, "must be a finite number above 0, found '2'"),
        ({"calibration": {"temperatures": {"binary": True}}}, "must be a finite number above 0, found True"),
        ({"calibration": {"temperatures": None}}, "temperatures must be a dict, found None"),
        ({"calibration": {"abstention": {"threshold": NAN}}}, "threshold must be a finite number, found nan"),
        ({"calibration": {"abstention": {"threshold": 1.5}}}, "threshold is a probability, from 0 to 1; found 1.5"),
        ({"calibration": {"abstention": {}}}, "threshold must be a finite number, found None"),
        ({"calibration": {"familiarity": {"distance": NAN}}}, "familiarity of distance must be a finite number"),
    ],
)
def test_answers_and_calibration_out_of_their_range_are_refused(processor, folder, tiny_model, fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAProcessor(processor.image_processor, processor.tokenizer, **fields)
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(ValueError, match=message):
        DualVQAProcessor.from_pretrained(folder)
    for name, value in fields.items():  # as a program may set them later
        setattr(processor, name, value)
    with pytest.raises(ValueError, match=message):
        DualVQAPipeline(tiny_model(), processor)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image_std": [0.2, 0.0, 0.2]}, "image_std must be a finite number above 0, found 0.0"),
        ({"image_mean": [NAN, 0.0, 0.2]}, "image_mean must be a finite number, found nan"),
        ({"image_mean": "half"}, "image_mean must be a finite number, found 'half'"),
        ({"rescale_factor": math.inf}, "rescale_factor must be a finite number above 0, found inf"),
        ({"rescale_factor": 0}, "rescale_factor must be a finite number above 0, found 0"),
        ({"size": {"height": 0, "width": 32}}, "the image height must be a finite number above 0, found 0"),
    ],
)
def test_image_settings_that_make_no_image_are_refused(folder, fields, message):
    path = folder / "processor_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "image_processor": {**content["image_processor"], **fields}}))
    with pytest.raises(ValueError, match=message):
        DualVQAProcessor.from_pretrained(folder)


@pytest.mark.parametrize(
    "name, message",
    [
        ("tokenizer.json", "knows no words, only 5 special tokens: its tokenizer.json or vocabulary file is missing"),
        ("tokenizer_config.json", "has no tokenizer_config.json: expected a folder"),
        ("processor_config.json", "has no processor_config.json: expected a folder"),
    ],
)
def test_a_folder_that_lacks_a_file_of_the_processor_is_refused(folder, name, message):
    content = (folder / name).read_text()
    (folder / name).unlink()
    with pytest.raises(ValueError, match=message):
        DualVQAProcessor.from_pretrained(folder)
    (folder / name).write_text(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name} is damaged .*; copy the folder again"):
        DualVQAProcessor.from_pretrained(folder)
    (folder / name).write_text("[1]")
    with pytest.raises(ValueError, match=f"{name} is damaged: expected a JSON object, found a list"):
        DualVQAProcessor.from_pretrained(folder)


def test_a_folder_with_a_vocabulary_file_in_place_of_the_tokenizers_json_knows_the_same_words(folder, processor):
    words = sorted(processor.tokenizer.get_vocab(), key=processor.tokenizer.get_vocab().get)
    shutil.move(folder / "tokenizer.json", folder / "elsewhere")
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    question = "is there a blue square?"
    assert DualVQAProcessor.from_pretrained(folder)(text=question) == processor(text=question)


@pytest.mark.slow
def test_a_run_refuses_to_go_on_from_weights_that_are_no_numbers(folder, tiny_model):
    model = tiny_model()
    with torch.no_grad():
        model.fusion.state_dict()[name := next(iter(model.fusion.state_dict()))].view(-1)[3] = NAN
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"the model's fusion.{name} has values that aren't finite: its training div"):
        load(folder)


def test_variances_below_0_are_refused_as_numbers_that_are_none_are(folder, tiny_model):
    model = tiny_model()
    name = next(name for name in model.state_dict() if name.endswith("running_var"))
    model.state_dict()[name][0] = -1
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=f"the model's {name} has variances below 0"):
        load(folder)


@pytest.mark.parametrize("head", ["binary", "open_ended", "question_type"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_refused_and_their_question_named(processor, head, value):
    outputs = {
        "binary_logits": torch.zeros(3, 2),
        "open_ended_logits": torch.zeros(3, 3),
        "question_type_logits": torch.zeros(3, 2),
    }
    outputs[f"{head}_logits"][1, 0] = value
    with pytest.raises(ValueError, match=f"1 of 3 questions have {head} logits that aren't finite, first number 1"):
        processor.post_process_question_answering(outputs)


def test_a_score_that_is_no_number_is_withheld_and_a_novelty_that_is_none_unfamiliar(processor):
    processor.calibration = {"abstention": {"threshold": 0.2}, "familiarity": {"distance": 1.0}}
    outputs = {"binary_logits": torch.tensor([[0.0, 2.0], [0.0, 2.0]]), "novelty": torch.tensor([0.5, NAN])}
    ranked = processor.rank(outputs)
    assert ranked["unfamiliar"].tolist() == [0, 9]  # and nobody can tell what
    ranked["binary_scores"][0, 0] = NAN
    (first,), (second,) = processor.decode(ranked)
    assert first["answer"] is None and second["answer"] == "yes"


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "3", True, None])
def test_a_number_of_answers_that_is_none_is_refused(processor, top_k):
    with pytest.raises(ValueError, match="top_k must be a whole number from 1, found"):
        processor.rank({"binary_logits": torch.zeros(1, 2)}, top_k)


@pytest.mark.parametrize("text", ["is it \ud83d red?", ["is it red?", "\udfff"]])
def test_half_a_character_in_a_question_is_refused_and_named(processor, text):
    with pytest.raises(ValueError, match=r"a lone surrogate \(U\+D[8F]..,"):
        processor(text=text)


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\x00\x1b", "\ufeff \u200d"])
def test_a_question_of_which_nothing_can_be_seen_is_none(processor, text):
    with pytest.raises(ValueError, match="expected a question as text"):
        processor.check_question(text)
    processor.check_question(text + "?")


def test_a_question_is_refused_when_it_is_longer_than_any_is(processor):
    processor.check_question("is it red? " * 900)
    with pytest.raises(ValueError, match="at most 10,000 characters, found 1,000,000"):
        processor.check_question("x" * 10**6)
    with pytest.raises(ValueError, match=r"at most 16 tokens without truncation, found \d\d+: 'is it red"):
        processor.check_question("is it red? " * 900, cut=False)
