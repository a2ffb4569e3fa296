"""Explanations against what can be computed by hand."""

import numpy as np
import pytest
import torch
from helpers import ANSWERS, MOBILENET

from dualvqa.deployment.ensemble import EnsemblePipeline
from dualvqa.deployment.optimize import optimize_for_inference
from dualvqa.trust.gradients import (
    as_grid,
    grad_cam,
    gradient_times_input,
    grid_of,
    group_tokens,
    layer_cam,
)
from dualvqa.trust.gradients import explain_by_gradients as explain
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from modeling_dualvqa.encoders_dualvqa import with_pooled
from modeling_dualvqa.fusion_dualvqa import FUSIONS
from processing import DualVQAImageProcessor, DualVQAProcessor

QUESTION = "what color is it?"
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}


@pytest.fixture
def tall(tokenizer):
    """A processor whose images are higher than wide."""
    return DualVQAProcessor(DualVQAImageProcessor(size={"height": 96, "width": 64}), tokenizer, ANSWERS)


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 50, 40), dtype=torch.uint8)


def scaled(model, factor=20):
    """Larger weights behind the towers: answers that depend on what is asked about."""
    with torch.no_grad():
        for name, part in model.named_children():
            for parameter in part.parameters() if not name.endswith("_encoder") else ():
                parameter.mul_(factor if parameter.ndim > 1 else 1)
    return model


# Grad-CAM


def test_grad_cam_is_the_rectified_sum_of_channels_weighted_by_their_mean_gradient():
    feature_map = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])  # (C, h, w) = (2, 1, 2)
    gradient = torch.tensor([[[1.0, 3.0]], [[-1.0, 0.0]]])  # means 2 and -1/2
    assert grad_cam(feature_map, gradient).tolist() == [[2 * 1 - 0.5 * 3, 2 * 2 + 0.5 * 1]]
    assert grad_cam(feature_map, -gradient).tolist() == [[0, 0]]


def test_the_map_of_a_linear_model_is_what_each_place_adds_to_the_logit(tiny_model, tall, image):
    """A product with a fixed question and a linear head: the logit is a bias and the mean over places of w . A."""
    model = scaled(tiny_model(fusion_type="product", open_ended_head_sizes=[], vision_config=RESNET))
    inputs = tall(images=image, text=[QUESTION], return_tensors="pt")
    with torch.no_grad():
        feature_map = model.vision_encoder.model(inputs["pixel_values"]).last_hidden_state[0]  # (C, h, w)
        question = model.text_projection(model.text_encoder(inputs["input_ids"]).states[:, 0])[0]  # (D,)
    for number, answer in enumerate(ANSWERS):
        weights = model.visual_projection.weight.T @ (question * model.open_ended_head[0].weight[number])  # (C,)
        expected = torch.einsum("c,chw->hw", weights, feature_map) / feature_map[0].numel()
        found = explain((model, tall), image, QUESTION, answer)
        np.testing.assert_allclose(found.image_map, expected.relu().detach(), rtol=1e-4, atol=1e-7)
        bias = question * model.visual_projection.bias @ model.open_ended_head[0].weight[number]
        bias = bias + model.open_ended_head[0].bias[number]
        logit = model(**inputs).open_ended_logits[0, number]
        torch.testing.assert_close(expected.sum() + bias, logit, rtol=1e-4, atol=1e-5)


def test_the_gradient_comes_through_the_pooled_vector_and_through_the_grid(tiny_model, tall, image):
    model = scaled(tiny_model(fusion_type="cross_attention", vision_config=MOBILENET))
    inputs = tall(images=image, text=[QUESTION], return_tensors="pt")
    maps = model(**inputs, output_hidden_states=True).image_hidden_states[-1].detach().requires_grad_()
    text = model.encode_questions(inputs["input_ids"], inputs["attention_mask"])
    expected = []
    for pooled in (with_pooled(maps)[:, :1], with_pooled(maps)[:, :1].detach()):
        states = torch.cat([pooled, with_pooled(maps)[:, 1:]], dim=1)
        logit = model.answer(states, text, inputs["attention_mask"]).open_ended_logits[0, 1]
        expected.append(grad_cam(maps[0], torch.autograd.grad(logit, maps, retain_graph=True)[0][0]).detach().numpy())
    found = explain((model, tall), image, QUESTION, "green").image_map
    assert found.shape == (3, 2) and found.any()
    np.testing.assert_allclose(found, expected[0], rtol=1e-3, atol=1e-6)
    assert not np.allclose(found, expected[1], rtol=1e-1, atol=1e-6)  # the grid alone has another


def test_an_explanation_knows_what_the_crop_left_of_the_image(tiny_model, tall, image):
    assert explain((tiny_model(), tall), image, QUESTION).crop is None
    crop = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
    cropped = DualVQAProcessor(DualVQAImageProcessor(**crop, do_center_crop=True), tall.tokenizer, ANSWERS)
    assert explain((tiny_model(), cropped), image, QUESTION).crop == crop


def test_layer_cam_weighs_each_place_with_its_own_positive_gradient():
    maps, gradient = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    expected = sum(channel * weight.clamp(min=0) for channel, weight in zip(maps, gradient)).clamp(min=0)
    torch.testing.assert_close(layer_cam(maps, gradient), expected)


def test_the_detail_map_is_four_times_as_fine_and_of_an_earlier_state(tiny_model, tall, image):
    model = scaled(tiny_model(fusion_type="cross_attention", vision_config=MOBILENET))
    inputs = tall(images=image, text=[QUESTION], return_tensors="pt")
    inputs["pixel_values"].requires_grad_()
    outputs = model(**inputs, output_hidden_states=True)
    states = [one for one in outputs.image_hidden_states if one.shape[-2:] == (12, 8)][-1]
    (gradient,) = torch.autograd.grad(outputs.open_ended_logits[0, 1], states)
    found = explain((model, tall), image, QUESTION, "green")
    assert found.image_map.shape == (3, 2) and found.detail_map.any()
    np.testing.assert_allclose(found.detail_map, layer_cam(states[0], gradient[0]).detach(), rtol=1e-3, atol=1e-7)


def test_a_tower_that_does_not_become_coarser_has_no_detail_map(tiny_config, tall, image):
    vision = {"model_type": "vit", **VIT, "image_size": [96, 64]}
    model = DualVQAForQuestionAnswering(tiny_config(vision_config=vision))
    assert explain((model, tall), image, QUESTION).detail_map is None


def test_a_grid_is_taken_out_of_states_as_it_was_put_in():
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(as_grid(with_pooled(maps), (3, 4)), maps[0])
    assert torch.equal(as_grid(maps, (3, 4)), maps[0])


def test_the_grid_of_patches_is_that_of_the_first_convolution_merged_or_not():
    states = torch.zeros
    assert grid_of(states(1, 5, 3, 2), None) == (3, 2)
    assert grid_of(states(1, 1 + 12, 5), (3, 4)) == (3, 4)
    assert grid_of(states(1, 6, 5), (10, 7)) == (3, 2)  # merged twice: 5 x 4, 3 x 2
    assert grid_of(states(1, 7, 5), (10, 7)) is None
    assert grid_of(states(1, 7, 5), None) is None and grid_of(states(1, 5), (2, 2)) is None


@pytest.mark.parametrize("fusion", [pytest.param("attention", marks=pytest.mark.slow), "cross_attention"])
@pytest.mark.parametrize(
    ("vision", "grid"),
    [
        ({"architecture": "resnet18"}, (3, 2)),
        (RESNET, (12, 8)),
        ({"model_type": "pvt_v2", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64]}, (3, 2)),
        ({"model_type": "timm_wrapper", "architecture": "mobilenetv3_small_050"}, (3, 2)),
        ({"model_type": "vit", **VIT, "image_size": [96, 64]}, (12, 8)),
        ({"model_type": "dinov2_with_registers", **VIT}, (12, 8)),
    ],
    ids=lambda value: value.get("model_type", "torchvision") if isinstance(value, dict) else "",
)
def test_every_kind_of_tower_has_a_map_of_its_grid(tiny_config, tall, image, vision, grid, fusion):
    if vision.get("model_type") == "timm_wrapper":
        pytest.importorskip("timm", reason="timm isn't installed: pip install dualvqa[timm]")
    model = scaled(DualVQAForQuestionAnswering(tiny_config(vision_config=vision, fusion_type=fusion)))
    found = [explain((model, tall), image, QUESTION, answer) for answer in ANSWERS]
    assert {one.image_map.shape for one in found} == {grid} and any(one.image_map.any() for one in found)
    assert all((one.attention_map is None) == (fusion == "attention") for one in found)
    assert found[0].attention_map is None or found[0].attention_map.shape == grid


def test_a_tower_that_gives_the_answer_no_grid_is_refused_by_name(tiny_config, tall, image):
    """timm's vision transformer gives [CLS] to a fusion of pooled vectors, and its earlier states to nobody."""
    pytest.importorskip("timm", reason="timm isn't installed: pip install dualvqa[timm]")
    name = "vit_tiny_patch16_224"
    vision = {"model_type": "timm_wrapper", "architecture": name, "model_args": {"img_size": [96, 64], "depth": 1}}
    model = DualVQAForQuestionAnswering(tiny_config(vision_config=vision))
    with pytest.raises(ValueError, match=rf"gives a grid.* found TimmWrapperModel \({name}\) .*\(1, 25, 192\)"):
        explain((model, tall), image, QUESTION)


# Attention


def test_the_attention_map_is_the_mean_over_blocks_heads_and_tokens_without_the_pooled_vector(tiny_model, tall, image):
    fields = {"fusion_type": "cross_attention", "fusion_num_layers": 2, "fusion_bidirectional": True}
    model = scaled(tiny_model(**fields, vision_config=RESNET))
    found = explain((model, tall), image, QUESTION).attention_map
    model.set_attn_implementation("eager")
    inputs = tall(images=image, text=[QUESTION], return_tensors="pt")
    to_image = torch.stack(model(**inputs, output_attentions=True).fusion_attentions[:2])  # (2, 1, heads, T, 1 + S)
    mean = to_image.mean(dim=(0, 1, 2, 3)).detach().numpy()
    np.testing.assert_allclose(found, mean[1:].reshape(12, 8), rtol=1e-4)
    assert found.sum() == pytest.approx(1 - mean[0], rel=1e-4) and mean[0] > 0


# Words


def test_gradient_times_input_of_a_linear_function_is_each_tokens_part_of_it():
    embeddings, weights = torch.randn(1, 3, 4), torch.randn(3, 4)
    value = (embeddings.requires_grad_() * weights).sum()
    scores = gradient_times_input(embeddings, torch.autograd.grad(value, embeddings)[0])
    torch.testing.assert_close(scores[0], (embeddings[0] * weights).sum(dim=1))
    torch.testing.assert_close(scores.sum(), value)


def test_a_words_score_is_how_the_logit_changes_when_its_embedding_is_scaled(tiny_model, tall, image):
    model = scaled(tiny_model(fusion_type="cross_attention")).double()
    found = explain((model, tall), image, "is redish?", "blue")
    inputs = tall(images=image, text=["is redish?"], return_tensors="pt")
    rows = model.get_input_embeddings().weight.data
    expected = []
    for token in inputs["input_ids"][0]:
        logits = []
        for factor in (1 + 1e-4, 1 - 1e-4):
            row = rows[token].clone()
            rows[token] *= factor
            logits.append(model(**inputs).open_ended_logits[0, 2].item())
            rows[token] = row
        expected.append((logits[0] - logits[1]) / 2e-4)
    assert found.tokens == ["is", "redish", "?"] and found.special_tokens == ["[CLS]", "[SEP]"]
    assert len(expected) > 5 and len(set(inputs["input_ids"][0].tolist())) == len(expected)  # pieces, each once
    scores = [found.special_scores[0], *found.token_scores, found.special_scores[1]]
    expected = [expected[0], expected[1], sum(expected[2:-2]), expected[-2], expected[-1]]
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-7)
    assert np.abs(scores).max() > 1e-4


def test_word_pieces_become_the_words_that_were_written(tokenizer, tiny_model, processor, image):
    question = "Is the bluered REDISH?"
    pieces = tokenizer.tokenize(question)
    words, special = group_tokens(tokenizer, question)
    assert [word for word, _ in words] == ["Is", "the", "bluered", "REDISH", "?"] and len(pieces) > len(words)
    assert [token for token, _ in special] == ["[CLS]", "[SEP]"]
    places = [place for _, group in words for place in group]
    assert places == list(range(1, 1 + len(pieces))) and special[1][1] == [1 + len(pieces)]
    long = explain((tiny_model(), processor), image, "is it red? " * 10)  # 16 tokens are read, two of them special
    assert long.tokens == (["is", "it", "red", "?"] * 10)[:14]


def test_a_tokenizer_without_words_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="doesn't know its tokens' words"):
        group_tokens(tokenizer, QUESTION)


# Answers


def test_the_best_answer_is_explained_unless_one_is_given(tiny_model, processor, image):
    model = tiny_model()
    pipe = DualVQAPipeline(model, processor)
    best = pipe(image, QUESTION)[0]
    for source in (pipe, (model, processor)):
        found = explain(source, image, QUESTION)
        assert (found.answer, found.question_type) == (best["answer"], best["question_type"])
        assert found.score == pytest.approx(best["score"])
    inputs = processor(images=image, text=[QUESTION], return_tensors="pt")
    outputs = model(**inputs)
    types = outputs.question_type_logits.softmax(dim=-1)[0]
    for answer, head, number in [("Yes!", "binary", 1), ("the green", "open_ended", 1)]:
        found = explain(pipe, image, QUESTION, answer)
        within = outputs[f"{head}_logits"].softmax(dim=-1)[0, number].item()
        assert found.question_type == head and found.answer in ("yes", "green")
        assert found.score == pytest.approx(within * types[["binary", "open_ended"].index(head)].item())
        assert explain(pipe, image, QUESTION, answer, head).score == pytest.approx(within)


def test_answers_and_types_that_the_model_does_not_have_are_refused(tiny_model, processor, image):
    both, alone = tiny_model(), tiny_model(heads=["open_ended"])
    with pytest.raises(ValueError, match="'gren' is none of the model's 5 answers; did you mean green\\?"):
        explain((both, processor), image, QUESTION, "gren")
    with pytest.raises(ValueError, match="'yes' is none of the model's 3 answers; it has [a-z]+, [a-z]+, [a-z]+$"):
        explain((alone, processor), image, QUESTION, "yes")
    with pytest.raises(ValueError, match="'red' is none of the model's 2 binary answers"):
        explain((both, processor), image, QUESTION, "red", question_type="binary")
    with pytest.raises(ValueError, match="question_type must be None, one of open_ended"):
        explain((alone, processor), image, QUESTION, question_type="binary")


def test_more_or_less_than_one_question_and_image_are_refused(tiny_model, processor, image):
    source = tiny_model(), processor
    for question in ("", " ", ["is it red?"], None):
        with pytest.raises(ValueError, match="expected one question as text"):
            explain(source, image, question)
    with pytest.raises(ValueError, match="expected one image, found 2"):
        explain(source, [image, image], QUESTION)


@pytest.mark.slow
def test_models_without_gradients_are_refused(tiny_model, processor, image):
    model = tiny_model()
    with pytest.raises(ValueError, match="a model with int8 parts has no gradients"):
        explain((optimize_for_inference(model, "int8"), processor), image, QUESTION)
    expected, found = (explain((m, processor), image, QUESTION) for m in (model, optimize_for_inference(model)))
    np.testing.assert_allclose(found.token_scores, expected.token_scores, rtol=1e-2, atol=1e-6)  # folded ones have them
    model.text_encoder.compile()
    with pytest.raises(ValueError, match="a model with compiled parts has no gradients"):
        explain((model, processor), image, QUESTION)
    for other in ("model", torch.nn.Module()):
        with pytest.raises(ValueError, match=f"expected a DualVQA model in torch, found a {type(other).__name__}"):
            explain((other, processor), image, QUESTION)


def test_an_ensemble_is_refused_and_not_its_first_member_explained(tiny_model, processor, image):
    pipes = [DualVQAPipeline(tiny_model(), processor) for _ in range(2)]
    for number, pipe in enumerate(pipes):
        pipe.model.name_or_path = str(number)
    with pytest.raises(ValueError, match="explain its members one by one"):
        explain(EnsemblePipeline(pipes), image, QUESTION)


# Traces


def state_of(model):
    return {
        "modes": [part.training for part in model.modules()],
        "trained": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "tensors": [(tensor._version, tensor.sum().item()) for tensor in model.state_dict().values()],
        "hooks": [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()],
        "attention": [config._attn_implementation for config in (model.config, model.config.text_config)],
    }


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_is_left_behind_also_after_an_error(tiny_model, processor, image, monkeypatch, broken):
    model = tiny_model(fusion_type="cross_attention", freeze_vision=True, vision_config=MOBILENET).train()
    next(model.vision_encoder.parameters()).requires_grad_(True)  # thawed by hand in a frozen tower
    before, random_state = state_of(model), torch.get_rng_state()
    assert len(set(before["modes"])) == len(set(before["trained"])) == 2 and before["attention"] == ["sdpa"] * 2
    if broken:
        monkeypatch.setattr(model.open_ended_head, "forward", lambda states: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explain((model, processor), image, QUESTION, "red")
    else:
        explain((model, processor), image, QUESTION, "red")
    assert state_of(model) == before and torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_is_explained_and_frozen_towers_change_nothing(tiny_model, processor, image, fusion):
    model = scaled(tiny_model(fusion_type=fusion))
    expected = explain((model, processor), image, QUESTION)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        found = explain((model, processor), image, QUESTION)
    assert found.answer == expected.answer and np.abs(found.token_scores).max() > 0
    np.testing.assert_allclose(found.image_map, expected.image_map)
    np.testing.assert_allclose(found.token_scores, expected.token_scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same(tiny_model, tall, image, dtype):
    model = scaled(tiny_model(fusion_type="cross_attention", vision_config=RESNET))
    expected = explain((model, tall), image, QUESTION, "red")
    found = explain((model.to(dtype), tall), image, QUESTION, "red")
    for name in ("attention_map", "token_scores"):
        exact = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), exact, atol=0.1 * np.abs(exact).max(), err_msg=name)
