"""Text towers that are half of something larger keep its weights and come back; what has no such half is refused."""

import pytest
import torch
import transformers
from helpers import assert_same_logits, load
from training_helpers import training_arguments as arguments
from transformers import AutoModel, GPT2Config, T5Config, ViTConfig

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.building import NewModelArguments
from dualvqa.training.checkpoints import check_weights
from dualvqa.training.new_model_checks import check_new_model
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from modeling_dualvqa.weights_dualvqa import likely, vision_text_config

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {**SMALL, "vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
PARTS = {"text_config": TEXT, "vision_config": {**SMALL, "image_size": 32, "patch_size": 16}}
T5 = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
# Of a larger model: its class, its configuration, and the name of its half.
LARGER = {
    "clip": ("CLIPModel", PARTS, "text_model"),
    "siglip": ("SiglipModel", PARTS, "text_model"),
    "blip": ("BlipModel", PARTS, "text_model"),
    "t5": ("T5ForConditionalGeneration", T5, "encoder"),
    "mt5": ("MT5Model", T5, "encoder"),
}
TINY = {
    "vision_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
    "fusion_hidden_size": 16,
    "fusion_num_attention_heads": 2,
}
TINY["vision_config"]["layer_type"] = "basic"
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 2], [5, 2, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    "pixel_values": torch.ones(2, 3, 32, 32),
}


@pytest.fixture
def larger(tmp_path):
    """Saves a larger model, and gives its folder and itself."""

    def save(kind):
        name, fields, _ = LARGER[kind]
        model_class = getattr(transformers, name)
        model = model_class(model_class.config_class(**fields)).eval()
        model.save_pretrained(tmp_path / kind)
        return str(tmp_path / kind), model

    return save


@pytest.mark.parametrize("kind", LARGER)
def test_the_text_part_of_a_larger_model_is_a_tower_and_is_saved_as_one(larger, kind, tmp_path):
    folder, model = larger(kind)
    found = DualVQAForQuestionAnswering.from_vision_text_pretrained(None, folder, **TINY).eval()
    half = getattr(model, LARGER[kind][2])
    for row, length in enumerate(BATCH["attention_mask"].sum(dim=1)):
        ids = BATCH["input_ids"][row : row + 1, :length]
        expected = half(input_ids=ids).last_hidden_state
        torch.testing.assert_close(found.text_encoder(ids, torch.ones_like(ids)).states, expected)
    found.save_pretrained(tmp_path / "saved")
    check_weights(tmp_path / "saved", found)
    assert_same_logits(load(tmp_path / "saved")(**BATCH), found(**BATCH))
    trainer = DualVQATrainer(found, arguments(tmp_path / "run"))
    trainer._load_from_checkpoint(str(tmp_path / "saved"))


def test_tied_embeddings_stay_one_also_when_their_number_changes(larger, tmp_path, monkeypatch):
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(None, larger("t5")[0], **TINY).eval()
    model.resize_token_embeddings(70)
    model.save_pretrained(tmp_path / "saved")
    for one in (model, load(tmp_path / "saved")):
        embeddings = one.get_input_embeddings()
        monkeypatch.setattr(embeddings, "forward", lambda ids: torch.zeros(*ids.shape, 16))
        assert embeddings.num_embeddings == 70
        text = one.text_encoder(BATCH["input_ids"]).states
        assert torch.equal(text[0], text[1]), "the question goes through these embeddings"


@pytest.mark.parametrize(("kind", "pooling"), [("clip", "mean"), ("siglip", "mean"), ("t5", "mean"), ("blip", "first")])
def test_where_no_first_token_stands_for_the_question_its_tokens_mean_does(larger, kind, pooling):
    config = vision_text_config(None, larger(kind)[0], **TINY)
    assert config.text_pooling == pooling


def test_the_first_token_of_a_causal_tower_is_refused_as_the_question(tmp_path):
    GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the first token of a gpt2 sees no other: set text_pooling to mean"):
        vision_text_config(None, str(tmp_path), text_pooling="first", **TINY)
    assert vision_text_config(None, str(tmp_path), **TINY).text_pooling == "mean"


@pytest.mark.parametrize("config", [ViTConfig(**SMALL), transformers.BartConfig(vocab_size=60)])
def test_what_has_no_text_encoder_is_refused_by_name_before_anything_is_loaded(tmp_path, config, monkeypatch):
    config.save_pretrained(tmp_path)
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *args, **kwargs: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=f"a {config.model_type} .* can't be a text tower, .*T5's encoder"):
        check_new_model(NewModelArguments(text_model_name_or_path=str(tmp_path)), dict(TINY))


def test_an_encoder_decoder_in_a_configuration_is_its_encoder():
    config = DualVQAConfig(**TINY, text_config={"model_type": "t5", **T5})
    tower = DualVQAForQuestionAnswering(config).text_encoder.model
    assert type(tower).__name__ == "T5EncoderModel" and T5Config(**T5).is_encoder_decoder


@pytest.mark.parametrize(
    ("part", "name", "meant"),
    [
        ("vision", "mobilenet_v3_smal", "a torchvision classifier, nor a folder.*did you mean mobilenet_v3_small or"),
        ("text", "distilbert-base-uncasd", "did you mean distilbert-base-uncased or"),
        ("text", "{folder}/minlm", "did you mean {folder}/minilm"),
    ],
)
def test_a_mistyped_tower_is_named_with_what_may_be_meant(part, name, meant, tmp_path, monkeypatch):
    def unreachable(name, **kwargs):
        raise OSError("We couldn't connect")

    monkeypatch.setattr("modeling_dualvqa.weights_dualvqa.AutoConfig.from_pretrained", unreachable)
    (tmp_path / "minilm").mkdir()
    name, meant = (text.format(folder=tmp_path) for text in (name, meant))
    args = NewModelArguments(**{f"{part}_model_name_or_path": name})
    with pytest.raises(OSError, match=f"the {part} tower '{name}' is neither .*{meant}.*couldn't connect"):
        check_new_model(args, dict(TINY))


def test_a_folder_without_a_model_and_one_without_a_tokenizer_are_named(larger, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="the vision tower '.*empty' can't be loaded: .*config.json"):
        check_new_model(NewModelArguments(vision_model_name_or_path=str(tmp_path / "empty")), {})
    folder, _ = larger("t5")
    with pytest.raises(ValueError, match=f"of the text tower '{folder}' can't be taken: the tokenizer knows no words"):
        check_new_model(NewModelArguments(text_model_name_or_path=folder, max_question_length=16), dict(TINY))


def test_names_that_are_like_nothing_have_no_hint():
    assert likely("xyz/quite-another", "text_config") == ""
