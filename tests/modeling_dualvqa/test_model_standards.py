"""What transformers' own common tests ask of every model, asked of ours."""

import copy
import warnings

import pytest
import torch
from helpers import FUSIONS, LOGITS, MOBILENET, assert_same_logits, load
from torch import nn
from towers import vision_config
from transformers.utils import logging

from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAOutput


@pytest.fixture(params=FUSIONS)
def model(request, tiny_model):
    return tiny_model(fusion_type=request.param)


@pytest.fixture(params=FUSIONS)
def with_mobilenet(request, tiny_model):
    return tiny_model(fusion_type=request.param, vision_config=MOBILENET)


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    return tmp_path


def checkpoint_activations(model):
    """Its older name is deprecated in the newest transformers, and the only one in the oldest that is supported."""
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)()


# Initialisation


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "resnet18", "convnext_tiny", "swin_t"])
def test_missing_weights_start_like_those_of_a_new_model(tiny_config, architecture):
    config = tiny_config(vision_config={"architecture": architecture, "image_size": 64})
    new = DualVQAForQuestionAnswering(copy.deepcopy(config)).state_dict()
    loaded = DualVQAForQuestionAnswering.from_pretrained(None, config=config, state_dict={}).state_dict()
    assert new.keys() == loaded.keys()
    for name, tensor in loaded.items():
        expected, found = new[name].float(), tensor.float()
        assert found.isfinite().all(), name
        if expected.numel() > 1 and expected.std() > 0:  # drawn at random: 6 standard errors
            error = 6 * expected.std() / expected.numel() ** 0.5
            assert (found.mean() - expected.mean()).abs() < 2 * error, name
            assert (found.std() - expected.std()).abs() < max(error, 0.1 * expected.std()), name
        else:
            assert torch.equal(found, expected), name


def test_initialisation_on_the_meta_device_allocates_nothing(tiny_config):
    with torch.device("meta"):
        model = DualVQAForQuestionAnswering(tiny_config())
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_all_tensors_are_parameters_or_buffers_and_are_saved(model):
    held = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            assert not isinstance(value, torch.Tensor), f"{name}.{key} would not move to another device"
    unsaved = held - set(model.state_dict())
    assert unsaved <= {"text_encoder.model.embeddings.position_ids"}  # transformers makes these anew


# Saving and loading


def test_save_and_load_keeps_every_tensor(model, saved):
    again = load(saved).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    assert [path.name for path in saved.glob("*.bin")] == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_loads_and_computes_in_every_precision(model, saved, batch, dtype):
    again = load(saved, dtype=dtype)
    assert {tensor.dtype for tensor in again.parameters()} == {dtype}
    output = again(**batch)
    assert output.open_ended_logits.dtype == dtype
    assert_same_logits(model(**batch), {name: output[name].float() for name in LOGITS}, atol=0.05, rtol=0.05)


def test_a_model_saved_in_half_precision_comes_back_so(model, batch, tmp_path):
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert load(tmp_path, dtype="auto").dtype == torch.bfloat16


def test_device_map_auto(model, saved, batch):
    again = load(saved, device_map="auto")
    assert_same_logits(model(**batch), again(**{name: tensor.to(again.device) for name, tensor in batch.items()}))


def test_loads_where_memory_is_short_and_parts_stay_on_disk(with_mobilenet, batch, tmp_path):
    with_mobilenet.save_pretrained(tmp_path)
    short = {"max_memory": {"cpu": 2_000_000}, "offload_folder": tmp_path / "offloaded"}
    again = load(tmp_path, device_map="auto", **short)
    assert set(again.hf_device_map.values()) == {"cpu", "disk"}
    assert_same_logits(with_mobilenet(**batch), again(**batch))


def test_missing_and_unexpected_weights_are_reported(model, saved):
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("binary_head")}
    _, report = load(
        None, config=model.config, state_dict={**weights, "stray": torch.zeros(1)}, output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"binary_head"}
    assert set(report["unexpected_keys"]) == {"stray"}


def test_another_number_of_answers_loads_only_when_asked_for(model, saved):
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(saved, num_answers=7)
    again = load(saved, num_answers=7, ignore_mismatched_sizes=True)
    assert again.open_ended_head[-1].out_features == 7 and again.open_ended_head[-1].weight.isfinite().all()
    assert torch.equal(again.binary_head[0].weight, model.binary_head[0].weight)


def test_a_new_open_ended_head_leaves_the_rest_as_it_was(model, batch):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.reset_open_ended_head(3)  # as many answers as before: still a new head
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"open_ended_head"}
    model.reset_open_ended_head(9)
    assert model(**batch).open_ended_logits.shape == (4, 9) and model.config.num_answers == 9


# Output


def test_a_tuple_holds_what_the_output_holds(model, batch, labels):
    model.set_attn_implementation("eager")
    options = {"output_attentions": True, "output_hidden_states": True}
    output = model(**batch, **labels, **options)
    as_tuple = model(**batch, **labels, **options, return_dict=False)
    assert isinstance(output, DualVQAOutput) and isinstance(as_tuple, tuple)
    assert len(output.to_tuple()) == len(as_tuple) >= 12
    for one, other in zip(output.to_tuple(), as_tuple):
        torch.testing.assert_close(one, other)
    model.config.return_dict = False
    assert isinstance(model(**batch), tuple)


def test_hidden_states_have_the_documented_shapes(tiny_model, batch):
    model = tiny_model(fusion_type="cross_attention", fusion_num_layers=2, vision_config=MOBILENET)
    assert model(**batch).text_hidden_states is None
    output = model(**batch, output_hidden_states=True)
    tokens = batch["input_ids"].shape[1]
    assert [tuple(state.shape) for state in output.text_hidden_states] == [(4, tokens, 16)] * 2
    assert [tuple(state.shape) for state in output.fusion_hidden_states] == [(4, tokens, 16)] * 3
    assert len(output.image_hidden_states) == 13 and output.image_hidden_states[-1].shape == (3, 576, 1, 1)
    torch.testing.assert_close(output.text_hidden_states[-1], output.text_embeds)


def test_attentions_of_fusion_and_text_have_the_documented_shapes(tiny_model, batch):
    tokens = batch["input_ids"].shape[1]
    for fusion, shape in {"attention": (4, 2, 2, 2), "cross_attention": (4, 2, tokens, 2)}.items():
        model = tiny_model(fusion_type=fusion, attn_implementation="eager", vision_config=MOBILENET)
        output = model(**batch, output_attentions=True)
        assert [tuple(weights.shape) for weights in output.fusion_attentions] == [shape]
        assert [tuple(weights.shape) for weights in output.text_attentions] == [(4, 2, tokens, tokens)]
        padding = batch["attention_mask"] == 0
        assert output.text_attentions[0].amax(dim=(1, 2))[padding].max() == 0


def test_attentions_of_an_implementation_without_them_are_told_and_left_out(with_mobilenet, batch, caplog):
    model = with_mobilenet
    model.set_attn_implementation("sdpa")
    logging.warning_once.cache_clear()  # of the tests before
    output = model(**batch, output_attentions=True)
    assert "sdpa attention gives no attention weights" in caplog.text and "'eager'" in caplog.text
    assert output.fusion_attentions == () and not output.text_attentions
    assert_same_logits(output, model(**batch))
    mixed = {"": "sdpa", "text_config": "eager"}
    model.set_attn_implementation(mixed)
    output = model(**batch, output_attentions=True)
    assert output.fusion_attentions == () and len(output.text_attentions) == 1


def test_hidden_states_can_be_chosen_by_number(tiny_model, batch):
    model = tiny_model(fusion_type="cross_attention", fusion_num_layers=2)
    everything = model(**batch, output_hidden_states=True)
    names = ("image_hidden_states", "text_hidden_states", "fusion_hidden_states")
    for asked, chosen in {(1,): {1}, (0, -1): {0, -1}, (99,): set()}.items():
        output = model(**batch, output_hidden_states=list(asked))
        for name in names:
            states, whole = output[name], everything[name]
            assert len(states) == len(whole)
            kept = {number % len(whole) for number in chosen if number < len(whole)}
            for number, (found, expected) in enumerate(zip(states, whole)):
                if number in kept:
                    torch.testing.assert_close(found, expected)
                else:
                    assert found is None
    assert [state is None for state in model(**batch, output_hidden_states=1).text_hidden_states] == [True, False]


# Attention implementations


def test_eager_equals_sdpa(with_mobilenet, batch):
    model = with_mobilenet
    model.set_attn_implementation("eager")
    eager = model(**batch)
    model.set_attn_implementation("sdpa")
    assert_same_logits(eager, model(**batch))


@pytest.mark.slow
def test_the_attention_implementation_is_set_as_a_whole_or_by_part(with_mobilenet, tmp_path):
    with_mobilenet.save_pretrained(tmp_path)

    def found(model):
        return model.config._attn_implementation, model.config.text_config._attn_implementation

    assert found(load(tmp_path, attn_implementation="eager")) == ("eager", "eager")
    assert found(load(tmp_path, attn_implementation="sdpa")) == ("sdpa", "sdpa")
    assert found(load(tmp_path, attn_implementation={"": "eager", "text_config": "sdpa"})) == ("eager", "sdpa")
    assert found(load(tmp_path, attn_implementation={"text_config": "eager"})) == ("sdpa", "eager")


def test_a_tower_without_an_attention_keeps_its_own_and_the_rest_takes_it(tiny_model, batch, tmp_path, caplog):
    model = tiny_model(vision_config=vision_config("resnet"), attn_implementation="eager")
    model.save_pretrained(tmp_path)
    model.set_attn_implementation("sdpa")
    loaded = load(tmp_path, attn_implementation="sdpa")
    assert caplog.text.count("the tower ResNetModel has no sdpa attention and keeps eager") == 2
    for changed in (model, loaded):
        parts = changed.config, changed.config.text_config, changed.config.vision_config
        assert [config._attn_implementation for config in parts] == ["sdpa", "sdpa", "eager"]
        assert changed(**batch).binary_logits.isfinite().all()
    with pytest.raises(ValueError, match="ResNetModel"):
        model.set_attn_implementation({"vision_config": "sdpa"})


# Computing


def test_answers_are_the_same_every_time_in_evaluation_mode(model, batch):
    first = model(**batch)
    torch.manual_seed(1)
    for name in LOGITS:
        assert torch.equal(first[name], model(**batch)[name])


def test_one_by_one_equals_all_at_once(model, batch):
    together = model(**batch)
    for row, length in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        image = batch["image_index"][row]
        alone = model(
            input_ids=batch["input_ids"][row : row + 1, :length], pixel_values=batch["pixel_values"][image][None]
        )
        for name in LOGITS:
            torch.testing.assert_close(alone[name][0], together[name][row], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "resnet18"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_activation_checkpointing_changes_neither_gradients_nor_statistics(
    tiny_config, batch, labels, fusion, architecture
):
    vision = {"architecture": architecture, "image_size": 64}
    plain = DualVQAForQuestionAnswering(tiny_config(fusion_type=fusion, vision_config=vision)).train()
    saving = copy.deepcopy(plain)
    checkpoint_activations(saving)
    batch["pixel_values"] = torch.randn(3, 3, 64, 64)
    for model in (plain, saving):
        torch.manual_seed(0)  # dropout
        model(**batch, **labels).loss.backward()
    for (name, expected), found in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(expected.grad, found.grad, msg=name)
    for (name, expected), found in zip(plain.named_buffers(), saving.buffers()):
        assert torch.equal(expected, found), name


def test_activation_checkpointing_does_compute_again(with_mobilenet, batch, labels):
    model = with_mobilenet
    checkpoint_activations(model)
    calls = []
    for part in (model.vision_encoder.trunk.features[1], model.text_encoder.model.transformer.layer[0].attention):
        part.register_forward_pre_hook(lambda *_, part=part: calls.append(part))
    model.train()(**batch, **labels).loss.backward()
    assert len(calls) == 4


def test_token_embeddings_can_be_resized(model, batch, tmp_path):
    before = model(**batch)
    size = model.config.text_config.vocab_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.resize_token_embeddings(size + 5)
    assert model.get_input_embeddings().num_embeddings == model.config.text_config.vocab_size == size + 5
    assert_same_logits(before, model(**batch))
    model.save_pretrained(tmp_path)
    assert_same_logits(before, load(tmp_path)(**batch))


@pytest.mark.slow
def test_compiles_in_one_graph(model, batch, labels):
    # The graph is what is asked for; a code generator would add a minute and show nothing more.
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():  # with labels, the graph has all that the one without has
        expected, found = model(**batch, **labels), compiled(**batch, **labels)
    assert_same_logits(expected, found)
    torch.testing.assert_close(expected.loss, found.loss)


@pytest.mark.slow
def test_exports_with_any_number_of_questions_tokens_and_images(model, batch):
    dims = {name: torch.export.Dim(name, min=2, max=64) for name in ("questions", "images")}
    tokens = torch.export.Dim("tokens", min=2, max=16)
    shapes = {
        "input_ids": {0: dims["questions"], 1: tokens},
        "attention_mask": {0: dims["questions"], 1: tokens},
        "pixel_values": {0: dims["images"]},
        "image_index": {0: dims["questions"]},
    }
    exported = torch.export.export(model, (), dict(batch), dynamic_shapes=shapes).module()
    other = {
        "input_ids": batch["input_ids"][:3, :4],
        "attention_mask": batch["attention_mask"][:3, :4],
        "pixel_values": torch.randn(2, 3, 32, 32),
        "image_index": torch.tensor([1, 0, 1]),
    }
    for inputs in (batch, other):
        assert_same_logits(model(**inputs), exported(**inputs))


# Further inputs


def test_embeddings_of_tokens_stand_for_their_ids(model, batch):
    embeds = model.get_input_embeddings()(batch["input_ids"])
    rest = {name: value for name, value in batch.items() if name != "input_ids"}
    assert_same_logits(model(**batch), model(inputs_embeds=embeds, **rest))
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds; found both"):
        model(inputs_embeds=embeds, **batch)


def test_whatever_a_tokenizer_gives_is_taken(tiny_model, tokenizer, batch):
    """DistilBERT has no token types, BERT has."""
    encoded = tokenizer(["is it red?"] * 4, padding=True, return_tensors="pt", return_token_type_ids=True)
    assert "token_type_ids" in encoded
    rest = {"pixel_values": batch["pixel_values"], "image_index": batch["image_index"]}
    plain = {name: value for name, value in encoded.items() if name != "token_type_ids"}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    bert = tiny_model(text_config={"model_type": "bert", "vocab_size": len(tokenizer), **small})
    for model in (tiny_model(), bert):
        assert_same_logits(model(**encoded, **rest), model(**plain, **rest))
    second = {**encoded, "token_type_ids": torch.ones_like(encoded["input_ids"])}
    assert not torch.allclose(bert(**second, **rest).fused_state, bert(**encoded, **rest).fused_state)
    states = bert.encode_questions(**second)
    torch.testing.assert_close(states, bert(**second, **rest).text_embeds)


# Bad input


def test_a_truncated_weights_file_is_named(saved):
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(OSError, match=f"{saved.name} are damaged or incomplete.*force_download"):
        load(saved)


def test_a_model_without_an_open_ended_head_has_none_to_replace(tiny_model):
    with pytest.raises(ValueError, match="no open-ended head"):
        tiny_model(heads=["binary"]).reset_open_ended_head(3)


def test_embeddings_of_another_precision_are_cast(model, batch):
    output = model(**batch)
    half = {name: output[name].half() for name in ("image_embeds", "text_embeds")}
    again = model(**half, attention_mask=batch["attention_mask"], image_index=batch["image_index"])
    assert_same_logits(output, again, atol=1e-2, rtol=1e-2)


def test_weights_are_not_shared_between_two_models_of_one_configuration(tiny_config):
    config = tiny_config()
    one, other = DualVQAForQuestionAnswering(config), DualVQAForQuestionAnswering(config)
    assert isinstance(one.fusion, nn.Module) and not {p.data_ptr() for p in one.parameters()} & {
        p.data_ptr() for p in other.parameters()
    }
