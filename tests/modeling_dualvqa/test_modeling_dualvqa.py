import pytest
import torch
from helpers import MOBILENET
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v3_small
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, ResNetConfig, ViTConfig, ViTModel
from transformers import ResNetModel as TransformersResNet

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering
from modeling_dualvqa.encoders_dualvqa import build_vision_encoder

LOGITS = ("binary_logits", "open_ended_logits", "question_type_logits")


@pytest.mark.slow
def test_the_default_model_has_the_sizes_of_the_design():
    counts = DualVQAForQuestionAnswering(DualVQAConfig()).parameter_counts()
    assert counts["vision_encoder"] == 927_008
    assert counts["text_encoder"] == 66_362_880
    assert 67e6 < counts["total"] < 69e6
    assert sum(value for name, value in counts.items() if name != "total") == counts["total"]


def test_outputs_have_the_documented_shapes(tiny_model, batch):
    output = tiny_model(vision_config=MOBILENET)(**batch)
    tokens = batch["input_ids"].shape[1]
    assert output.binary_logits.shape == (4, 2)
    assert output.open_ended_logits.shape == (4, 3)
    assert output.question_type_logits.shape == (4, 2)
    assert output.fused_state.shape == (4, 16)
    assert output.image_embeds.shape == (3, 1, 576)
    assert output.text_embeds.shape == (4, 1, 16)
    grid = tiny_model(fusion_type="cross_attention", vision_config=MOBILENET)
    batch["pixel_values"] = torch.randn(3, 3, 64, 64)
    output = grid(**batch)
    assert output.image_embeds.shape == (3, 1 + 2 * 2, 576)
    assert output.text_embeds.shape == (4, tokens, 16)


@pytest.mark.parametrize("fusion", ["attention", "cross_attention"])
def test_embeddings_stand_in_for_pixels_and_ids(tiny_model, batch, fusion):
    model = tiny_model(fusion_type=fusion)
    whole = model(**batch)
    again = model(
        image_embeds=whole.image_embeds,
        text_embeds=whole.text_embeds,
        attention_mask=batch["attention_mask"],
        image_index=batch["image_index"],
    )
    for name in LOGITS:
        torch.testing.assert_close(whole[name], again[name])


@pytest.mark.parametrize("fusion", ["attention", "cross_attention"])
def test_questions_sharing_an_image_equal_questions_with_a_copy_each(tiny_model, batch, fusion):
    model = tiny_model(fusion_type=fusion)
    shared = model(**batch)
    index = batch.pop("image_index")
    batch["pixel_values"] = batch["pixel_values"][index]
    copied = model(**batch)
    for name in LOGITS:
        torch.testing.assert_close(shared[name], copied[name])


@pytest.mark.parametrize("fusion", ["attention", "cross_attention"])
def test_padding_changes_nothing(tiny_model, batch, fusion):
    model = tiny_model(fusion_type=fusion)
    short = model(**batch)
    for name in ("input_ids", "attention_mask"):
        batch[name] = nn.functional.pad(batch[name], (0, 3))
    for name in LOGITS:
        torch.testing.assert_close(short[name], model(**batch)[name])


def test_the_answer_depends_on_the_image_and_on_the_question(tiny_model, batch):
    model = tiny_model(fusion_type="cross_attention")
    before = model(**batch).open_ended_logits
    other_image = model(**{**batch, "pixel_values": -batch["pixel_values"]}).open_ended_logits
    other_question = model(**{**batch, "input_ids": batch["input_ids"].flip(0)}).open_ended_logits
    assert not torch.allclose(before, other_image)
    assert not torch.allclose(before, other_question)


def test_attention_weights_sum_to_one(tiny_model, batch):
    model = tiny_model(fusion_type="cross_attention", attn_implementation="eager")
    (weights,) = model(**batch, output_attentions=True).fusion_attentions
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert model(**batch).fusion_attentions is None


def test_a_model_with_one_head_has_no_router(tiny_model, batch, labels):
    output = tiny_model(heads=["binary"])(**batch, **labels)
    assert output.open_ended_logits is None and output.question_type_logits is None
    assert output.binary_logits.shape == (4, 2) and output.loss > 0


def test_a_head_without_rows_stays_in_the_graph_with_zero_gradient(tiny_model, batch, labels):
    model = tiny_model()
    labels["binary_labels"] = torch.full((4,), -100)
    model(**batch, **labels).loss.backward()
    gradients = [parameter.grad for parameter in model.binary_head.parameters()]
    assert all(gradient is not None and gradient.abs().max() == 0 for gradient in gradients)
    assert any(parameter.grad.abs().max() > 0 for parameter in model.open_ended_head.parameters())


@pytest.mark.parametrize("fusion", ["attention", "cross_attention"])
def test_every_parameter_gets_a_gradient(tiny_model, batch, labels, fusion):
    model = tiny_model(fusion_type=fusion).train()
    model(**batch, **labels).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_save_and_load_gives_the_same_weights_and_logits(tiny_model, batch, tmp_path):
    model = tiny_model(fusion_type="cross_attention")
    model.save_pretrained(tmp_path)
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path)
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    for name in LOGITS:  # up to rounding: where tensors lie in memory decides which kernel some processors take
        torch.testing.assert_close(model(**batch)[name], again(**batch)[name], rtol=1e-5, atol=1e-6)


def test_frozen_towers_do_not_change_in_training(tiny_model, batch, labels):
    model = tiny_model()
    model.freeze_encoders()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1)
    model(**batch, **labels).loss.backward()
    optimizer.step()
    moved = {name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not moved & {"vision_encoder", "text_encoder"}
    assert {"fusion", "binary_head", "open_ended_head"} <= moved
    states = [model(**batch).text_embeds for _ in range(2)]
    assert torch.equal(*states)


def test_thawed_towers_move_again(tiny_model, batch, labels):
    model = tiny_model()
    model.freeze_encoders()
    model.freeze_encoders(vision=False, text=False)
    model.train()
    mean = next(module for module in model.vision_encoder.modules() if isinstance(module, nn.BatchNorm2d)).running_mean
    before = mean.clone()
    model(**batch, **labels).loss.backward()
    assert not torch.equal(before, mean)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_model_comes_back_frozen(tiny_model, tmp_path):
    model = tiny_model()
    model.freeze_encoders(vision=True, text=False)
    model.save_pretrained(tmp_path)
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path).train()
    assert not any(parameter.requires_grad for parameter in again.vision_encoder.parameters())
    assert all(parameter.requires_grad for parameter in again.text_encoder.parameters())
    assert not again.vision_encoder.training and again.text_encoder.training


@pytest.fixture
def text_folder(tmp_path):
    """A DistilBERT folder as the Hub has it, with weights unlike any fresh ones."""
    config = DistilBertConfig(dim=16, hidden_dim=32, n_layers=1, n_heads=2, vocab_size=50)
    DistilBertModel(config).save_pretrained(tmp_path / "distilbert")
    return tmp_path / "distilbert"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_towers_start_from_torchvision_and_transformers_weights(text_folder, tmp_path, suffix):
    classifier = mobilenet_v3_small()
    file = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(classifier.state_dict(), file)
    else:
        torch.save(classifier.state_dict(), file)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(
        "mobilenet_v3_small", text_folder, vision_weights=file, num_answers=7, fusion_hidden_size=32
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = classifier.eval().features(images)
    states = model.vision_encoder(images).states
    torch.testing.assert_close(states[:, 0], expected.mean(dim=(2, 3)))
    torch.testing.assert_close(states[:, 1:], expected.flatten(2).transpose(1, 2))
    ids = torch.randint(50, (2, 5))
    expected = DistilBertModel.from_pretrained(text_folder).eval()(ids).last_hidden_state
    torch.testing.assert_close(model.text_encoder(ids).states, expected)
    assert model.config.num_answers == 7 and model.open_ended_head[-1].out_features == 7


def test_a_transformer_without_class_token_has_the_mean_of_its_patches_as_pooled_state():
    swin = {
        "model_type": "swin",
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
    }
    config = DualVQAConfig(vision_config={**swin, "window_size": 4, "hidden_size": 16})
    tower = build_vision_encoder(config.vision_config).eval()
    states = tower(torch.randn(2, 3, 32, 32)).states
    assert states.shape == (2, 1 + 16, 16)
    torch.testing.assert_close(states[:, 0], states[:, 1:].mean(dim=1))


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_towers_start_from_any_transformers_vision_model(text_folder, tmp_path, kind):
    if kind == "resnet":
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        pretrained = TransformersResNet(config)
    else:
        config = ViTConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32
        )
        pretrained = ViTModel(config)
    pretrained.save_pretrained(tmp_path / kind)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(tmp_path / kind, text_folder, num_answers=3).eval()
    images = torch.randn(2, 3, 32, 32)
    outputs = pretrained.eval()(images)
    states = model.vision_encoder(images).states
    pooled = outputs.pooler_output.flatten(1) if kind == "resnet" else outputs.last_hidden_state[:, 0]
    torch.testing.assert_close(states[:, 0], pooled)
    assert states.shape == (2, 1 + 4 if kind == "vit" else 1 + 16, 16)
    output = model(pixel_values=images, input_ids=torch.randint(50, (2, 5)))
    model.save_pretrained(tmp_path / "saved")
    again = DualVQAForQuestionAnswering.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again.vision_encoder(images).states, states)
    assert output.open_ended_logits.shape == (2, 3)


def test_towers_start_from_those_of_another_dualvqa_model(tiny_model, batch, tmp_path):
    """Whatever its fusion and heads: a pre-trained model's towers serve every variant."""
    trained = tiny_model(fusion_type="cross_attention", heads=["binary"])
    trained.save_pretrained(tmp_path)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(
        tmp_path, tmp_path, num_answers=4, text_config={"dropout": 0.5}, fusion_hidden_size=32
    ).eval()
    assert model.config.fusion_type == "attention" and model.config.text_config.dropout == 0.5
    images, ids = batch["pixel_values"], batch["input_ids"]
    torch.testing.assert_close(model.vision_encoder(images).states, trained.vision_encoder(images).states)
    torch.testing.assert_close(model.text_encoder(ids).states, trained.text_encoder(ids).states)
    assert model(**batch).open_ended_logits.shape == (4, 4)


def test_pooled_fusions_can_read_the_mean_of_a_questions_tokens(tiny_model, batch):
    model = tiny_model(text_pooling="mean")
    mask = batch["attention_mask"]
    tokens = model.text_encoder(batch["input_ids"], mask).states
    embeds = model.encode_questions(batch["input_ids"], mask)  # (V, 1, C)
    for embedding, states, real in zip(embeds[:, 0], tokens, mask.bool()):
        torch.testing.assert_close(embedding, states[real].mean(dim=0))
    output = model(**batch)
    again = model.answer(model.encode_images(batch["pixel_values"]), embeds, mask, batch["image_index"])
    for name in LOGITS:
        torch.testing.assert_close(again[name], output[name])
    with pytest.raises(ValueError, match="text_pooling must be one of first, mean; found 'max'"):
        tiny_model(text_pooling="max")


def test_bert_as_text_tower_has_no_pooler_that_nothing_trains(tmp_path):
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=50)
    BertModel(config).save_pretrained(tmp_path)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(None, tmp_path, num_answers=3)
    assert not [name for name, _ in model.named_parameters() if "pooler" in name]


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"pixel_values": None}, "exactly one of pixel_values and image_embeds; found neither"),
        ({"text_embeds": torch.zeros(4, 1, 16)}, "exactly one of input_ids and text_embeds; found both"),
        ({"image_index": None}, "4 questions and 3 images"),
        ({"pixel_values": None, "image_embeds": torch.zeros(3, 576)}, "reads sequences"),
    ],
)
def test_inputs_that_do_not_fit_are_named(tiny_model, batch, inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(fusion_type="cross_attention")(**{**batch, **inputs})


def test_weights_of_another_network_are_refused(text_folder, tmp_path):
    save_file({"features.0.0.weight": torch.zeros(1)}, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match="don't fit mobilenet_v3_small"):
        DualVQAForQuestionAnswering.from_vision_text_pretrained(
            "mobilenet_v3_small", text_folder, vision_weights=tmp_path / "wrong.safetensors"
        )


def test_blocks_that_stay_whole_are_those_that_the_model_has(tiny_model):
    blocks = tiny_model(vision_config=MOBILENET)._no_split_modules
    assert set(blocks) == {"TransformerBlock", "AttentionBlock", "InvertedResidual"}


@pytest.mark.parametrize(("device", "last"), [("cpu", True), ("meta", False)])
def test_the_layout_is_channels_last_on_a_cpu_alone(tiny_config, device, last):
    encoder = build_vision_encoder(tiny_config(vision_config=MOBILENET).vision_config).eval().to(device)
    maps = encoder(torch.rand(2, 3, 32, 32, device=device), output_hidden_states=True).hidden_states[0]
    assert maps.is_contiguous(memory_format=torch.channels_last) == last and maps.is_contiguous() != last


def test_batch_norm_takes_weights_of_less_precision_than_its_statistics(tiny_model):
    """So FSDP2 leaves them in mixed precision: parameters in bfloat16, buffers in float32."""
    encoder = tiny_model(fusion_type="cross_attention", vision_config=MOBILENET).vision_encoder
    images = torch.randn(2, 3, 64, 64)
    expected = encoder(images).states
    for parameter in encoder.parameters():
        parameter.data = parameter.data.bfloat16()
    assert encoder.trunk[0][0][1].running_mean.dtype == torch.float32
    found = encoder(images.bfloat16()).states
    assert found.dtype == torch.bfloat16 and (found.float() - expected).abs().mean() < 0.1 * expected.abs().mean()


@pytest.mark.parametrize("fusion_type", ["attention", "cross_attention"])
def test_embeddings_answer_as_pixels_and_ids_do(tiny_model, batch, fusion_type):
    model = tiny_model(fusion_type=fusion_type)
    images = model.encode_images(batch["pixel_values"])
    questions = model.encode_questions(batch["input_ids"], batch["attention_mask"])
    image_index = torch.arange(3).repeat_interleave(4)
    question_index = torch.arange(4).repeat(3)
    grid = model.answer(images, questions, batch["attention_mask"], image_index, question_index)
    mask = batch["attention_mask"].repeat(3, 1)
    plain = model(batch["input_ids"].repeat(3, 1), mask, batch["pixel_values"].repeat_interleave(4, 0))
    for name in ("binary_logits", "open_ended_logits", "question_type_logits", "fused_state"):
        torch.testing.assert_close(grid[name], plain[name])


def test_a_repeated_question_has_the_gradients_of_its_copies(tiny_model, batch, labels):
    model = tiny_model(fusion_type="cross_attention")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    rest = {"pixel_values": batch["pixel_values"], "image_index": batch["image_index"], **labels}
    index = torch.tensor([1, 1, 3, 1])

    def gradients(**inputs):
        model.zero_grad()
        model(**inputs, **rest).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    once, copied = gradients(**inputs, question_index=index), gradients(**{k: v[index] for k, v in inputs.items()})
    for found, expected in zip(once, copied, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_questions_and_images_that_do_not_match_are_named(tiny_model, batch):
    with pytest.raises(ValueError, match="3 questions and 4 images"):
        tiny_model()(**batch, question_index=torch.tensor([0, 1, 2]))


def test_the_text_tower_attends_without_a_mask_when_nothing_is_padded(tiny_model, batch, monkeypatch):
    masks, attend = [], torch.nn.functional.scaled_dot_product_attention

    def record(*args, attn_mask=None, **kwargs):
        masks.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    model = tiny_model()
    assert model.text_encoder.model.config._attn_implementation == "sdpa"
    model.encode_questions(batch["input_ids"], batch["attention_mask"])
    assert [mask is None for mask in masks] == [False]
    model.encode_questions(batch["input_ids"][:, :4], torch.ones(4, 4, dtype=torch.long))
    assert [mask is None for mask in masks] == [False, True]


@pytest.mark.parametrize(
    "vision",
    [
        {"image_size": 32},
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ],
)
def test_one_image_of_which_one_pixel_is_left_is_named_in_training(tiny_config, batch, vision):
    model = DualVQAForQuestionAnswering(tiny_config(vision_config=vision)).train()
    one = {name: batch[name][:2] for name in ("input_ids", "attention_mask")}
    one |= {"image_index": torch.zeros(2, dtype=torch.long), "pixel_values": torch.randn(1, 3, 8, 8)}
    with pytest.raises(ValueError, match=r"pixel_values \(1, 3, 8, 8\) is one image .* freeze the vision tower"):
        model(**one)
    assert model.eval()(**one).binary_logits.isfinite().all()
    model.freeze_encoders(vision=True, text=False)
    assert model.train()(**one).binary_logits.isfinite().all()
