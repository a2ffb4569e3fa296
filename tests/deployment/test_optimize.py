import pytest
import torch
from PIL import Image
from torch import nn

from dualvqa.deployment.optimize import Int8Embedding, Int8Linear, optimize_for_inference
from modeling_dualvqa import DualVQAPipeline

LOGITS = ("binary_logits", "open_ended_logits", "question_type_logits")


@pytest.fixture(scope="module", params=["mobilenet_v3_small", "resnet18"])
def model(request, tiny_model):
    """Batch-norm statistics and weights that would show a fold gone wrong; no test changes them."""
    torch.manual_seed(0)
    model = tiny_model(fusion_type="cross_attention", vision_config={"architecture": request.param, "image_size": 64})
    for module in model.vision_encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


def test_folded_batch_norms_change_nothing_but_rounding(model, batch):
    folded = optimize_for_inference(model)
    expected, found = model(**batch), folded(**batch)
    for name in LOGITS:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.image_embeds, expected.image_embeds, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.vision_encoder.modules())


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_a_memory_answers_in_the_copy_too(tiny_model, processor, quantization):
    pipe = DualVQAPipeline(tiny_model(), processor)
    images = [Image.effect_noise((40, 30), spread) for spread in (20, 60, 100)]
    pipe.memory.build(images, ["what color is it?"] * 3, ["mauve", "red", "ochre"])
    pipe.memory.add(images[2], "is it red?", "only at dusk")
    copy = DualVQAPipeline(optimize_for_inference(pipe.model, quantization), processor)
    for question in ("what color is it?", "is it red?"):
        found, expected = (one(image=images[2], question=question)[0] for one in (copy, pipe))
        # Encoded in 8 bits, a question isn't exactly the one that was taught, and what was taught votes as others do.
        assert found == {**expected, "score": pytest.approx(expected["score"], abs=0.3 if quantization else 1e-4)}


def test_the_model_given_is_left_as_it_is(model, batch):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimize_for_inference(model, quantization="int8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_int8_layers_are_near_the_exact_ones():
    linear, states = nn.Linear(256, 128), torch.randn(40, 256)
    exact, error = linear(states), (Int8Linear(linear)(states) - linear(states)).abs()
    assert 0 < error.max() < 0.05 * exact.abs().max()
    embedding, ids = nn.Embedding(2000, 32), torch.arange(2000)
    rows, steps = embedding.weight, embedding.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((Int8Embedding(embedding)(ids) - rows).abs() <= 0.5001 * steps).all()


def test_int8_answers_are_near_the_exact_ones_and_heads_keep_their_precision(model, batch):
    quantized = optimize_for_inference(model, quantization="int8")
    assert not [m for m in quantized.text_encoder.modules() if isinstance(m, nn.Linear)]
    assert isinstance(quantized.visual_projection, Int8Linear) and isinstance(quantized.binary_head[0], nn.Linear)
    expected, found = model(**batch), quantized(**batch)
    for name in LOGITS:
        difference = (found[name] - expected[name]).abs().max()
        assert 0 < difference < 0.1 * expected[name].abs().max(), name


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_the_pipeline_takes_it(model, processor, quantization):
    pipe = DualVQAPipeline(optimize_for_inference(model, quantization), processor)
    exact = DualVQAPipeline(model, processor)
    image, question = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8), "is it red?"
    found, expected = (p(image, question, question_type="binary", top_k=2) for p in (pipe, exact))
    scores = [{best["answer"]: best["score"] for best in answers} for answers in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=0.05 if quantization else 1e-4)


@pytest.mark.slow
def test_compiled_towers_give_the_same(tiny_model, batch):
    model = tiny_model()
    compiled = optimize_for_inference(model, compile=True)
    with torch.no_grad():
        for name in LOGITS:
            torch.testing.assert_close(compiled(**batch)[name], model(**batch)[name], rtol=1e-4, atol=1e-4)


def test_what_can_not_be_done_is_named(tiny_model, monkeypatch):
    with pytest.raises(ValueError, match="quantization must be None or one of int8; found 'int4'"):
        optimize_for_inference(tiny_model(), "int4")
    with pytest.raises(ValueError, match="int8 quantisation runs on a CPU, the model is on meta"):
        optimize_for_inference(tiny_model().to("meta"), "int8")
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["none"])
    with pytest.raises(ValueError, match="int8 quantisation needs one of torch's engines"):
        optimize_for_inference(tiny_model(), "int8")


def test_a_lacking_compiler_is_named(tiny_model, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setenv("PATH", "")
    from torch._inductor import cpp_builder

    for function in (cpp_builder.get_cpp_compiler, cpp_builder.cpp_compiler_search):
        getattr(function, "cache_clear", lambda: None)()
    with pytest.raises(ValueError, match="torch.compile needs a C\\+\\+ compiler"):
        optimize_for_inference(tiny_model(), compile=True)
