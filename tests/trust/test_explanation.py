"""Explanations of pipelines of every kind: by hiding, and by gradients where there are any."""

import copy
import itertools

import numpy as np
import pytest
from helpers import COLOR, RED
from PIL import Image

import dualvqa_light
from dualvqa.deployment.ensemble import EnsemblePipeline
from dualvqa.deployment.optimize import optimize_for_inference
from dualvqa.trust.explanation import Explanation, explain
from dualvqa.trust.gradients import explain_by_gradients
from dualvqa_light import LightPipeline
from dualvqa_light.scoring import ScoredAnswer
from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8))


@pytest.fixture
def pipe(tiny_model, processor):
    processor.calibration = {"temperatures": {"binary": 0.5, "open_ended": 2.0, "question_type": 1.5}}
    return DualVQAPipeline(tiny_model(fusion_type="cross_attention"), processor)


def test_the_score_is_that_of_the_pipeline_for_each_answer_and_head(pipe, image):
    for question, kind in itertools.product((COLOR, RED), (None, "binary", "open_ended")):
        for best in pipe(image, question, top_k=2, question_type=kind):
            scored = ScoredAnswer(pipe, image, question, best["answer"], kind)
            assert scored.question_type == best["question_type"]
            assert scored.score == pytest.approx(best["score"], rel=1e-5)
            odds = scored.of_questions([question, question])
            np.testing.assert_allclose(scored.of_images([scored.image] * 2), odds, atol=1e-4)


def test_the_answer_is_the_best_one_or_that_which_is_given_in_any_writing(pipe, image):
    best = pipe(image, COLOR)[0]
    found = explain(pipe, image, COLOR)
    assert (found.answer, found.question_type) == (best["answer"], best["question_type"])
    assert found.score == pytest.approx(best["score"], rel=1e-5)
    for either in (explain, dualvqa_light.explain):
        assert either(pipe, image, COLOR, " Blue. ").answer == "blue"
    with pytest.raises(ValueError, match="'bleu' is none of the model's .* did you mean blue"):
        explain(pipe, image, COLOR, "bleu")
    with pytest.raises(ValueError, match="'blue' is none of the model's 2 binary answers"):
        explain(pipe, image, COLOR, "blue", "binary")
    for answer in (5, ["red"]):
        with pytest.raises(ValueError, match="expected an answer as text, one of the model's, found "):
            explain(pipe, image, COLOR, answer)
    for question in (7, ["is it red?"], " "):
        with pytest.raises(ValueError, match="expected (one|a) question as text"):
            explain(pipe, image, question)


def test_maps_are_chosen_by_name_and_come_in_that_order(pipe, image):
    with pytest.warns(UserWarning, match="layer_cam"):
        found = explain(pipe, image, COLOR, "red", maps=["layer_cam", "attention", "rise", "grad_cam"])
    gradients = explain_by_gradients(pipe, image, COLOR, "red")
    assert list(found.maps) == ["attention", "rise", "grad_cam"]  # this tower has no finer feature map
    assert list(found.changes) == ["rise"] and found.changes["rise"] > np.abs(found.maps["rise"]).max()
    np.testing.assert_allclose(found.maps["grad_cam"], gradients.image_map, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(found.maps["attention"], gradients.attention_map, rtol=1e-4)
    assert found.words == ["what", "color", "is", "it", "?"] and len(found.word_scores) == 5
    for either, maps in itertools.product((explain, dualvqa_light.explain), (None, 5, "saliency", ["rise", {}])):
        with pytest.raises(
            ValueError, match="expected maps to be (a list, )?some of occlusion, .*; found (None|5|'sal|{)"
        ):
            either(pipe, image, COLOR, maps=maps)
    assert list(dualvqa_light.explain(pipe, image, COLOR, maps="occlusion").maps) == ["occlusion"]
    for maps in ([], ["saliency"]):
        with pytest.raises(ValueError, match="expected maps to be some of occlusion, occlusion_fine, rise, .*grad_cam"):
            explain(pipe, image, COLOR, maps=maps)


def test_a_map_that_this_model_cannot_have_is_left_out_with_its_reason_or_refused_where_nothing_else_is_asked(
    pipe, image, tiny_model, processor
):
    with pytest.warns(UserWarning, match="left out: layer_cam: the vision tower gives no feature map 4 times"):
        assert list(explain(pipe, image, COLOR, maps=["layer_cam", "grad_cam"]).maps) == ["grad_cam"]
    with pytest.raises(ValueError, match="^layer_cam: the vision tower gives no"):
        explain(pipe, image, COLOR, maps="layer_cam")
    pooled = DualVQAPipeline(tiny_model(fusion_type="product"), processor)
    with pytest.raises(ValueError, match="^attention: the fusion 'product' reads pooled vectors only"):
        explain(pooled, image, COLOR, maps="attention")


def test_an_ensemble_and_int8_are_explained_by_hiding_and_their_gradients_left_out_with_a_warning(
    tiny_model, processor, image
):
    models = [tiny_model(fusion_type=fusion) for fusion in ("cross_attention", "product")]
    for number, model in enumerate(models):
        model.name_or_path = str(number)
    members = [DualVQAPipeline(model, processor) for model in models]
    ensemble = EnsemblePipeline(members)
    int8 = DualVQAPipeline(optimize_for_inference(copy.deepcopy(models[0]), "int8"), processor)
    for several in (ensemble, int8):
        with pytest.warns(UserWarning, match="maps of gradients can't be had and are left out"):
            found = explain(several, image, COLOR, maps=["occlusion", "grad_cam"])
        assert list(found.maps) == ["occlusion"] and found.score == pytest.approx(
            several(image, COLOR)[0]["score"], 1e-4
        )
        with pytest.raises(ValueError, match="explain its members|no gradients"):
            explain(several, image, COLOR, maps="grad_cam")
    assert ensemble.members[0].images is not None and len(ensemble.members[0].images) == 1


def test_a_model_and_its_processor_are_left_as_they_were(tiny_model, processor, image):
    model = tiny_model().train()
    model.text_encoder.eval()
    modes = [part.training for part in model.modules()]
    found = explain((model, processor), image, COLOR)
    assert [part.training for part in model.modules()] == modes and len(set(modes)) == 2
    assert np.ptp(found.maps["occlusion"]) > 0 and found.evidence is None


def test_examples_of_the_memory_that_spoke_for_the_answer_are_part_of_it(tiny_model, processor, image):
    pipe = DualVQAPipeline(tiny_model(fusion_type="cross_attention"), processor)
    pipe.memory.build([image, image.rotate(90)], [COLOR, RED], ["mauve", "no"], ["one.png", "two.png"])
    (example,) = explain(pipe, image, COLOR, answer="mauve").evidence
    assert (example["image"], example["answer"]) == ("one.png", "mauve")


def test_masked_images_drive_nothing_out_of_the_cache(pipe, image):
    pipe(image, COLOR)
    before = pipe.images.entries.copy()
    explain(pipe, image, COLOR)
    assert pipe.images.entries.keys() == before.keys()


def test_what_cannot_be_had_is_named_and_the_rest_is_there(pipe):
    with pytest.warns(UserWarning) as warned:
        found = explain(pipe, Image.new("RGB", (12, 40), "red"), "color")
    said = [str(one.message) for one in warned]
    assert any("without the map occlusion, which can't be had" in one and "found 12 x 40" in one for one in said)
    assert any("without the scores of the words, which can't be had" in one and "found 'color'" in one for one in said)
    assert (found.maps, found.words, found.word_scores) == ({}, ["color"], None) and found.answer
    with pytest.raises(ValueError, match="expected maps to be some of occlusion, occlusion_fine, .*; found 'saliency'"):
        explain(pipe, Image.new("RGB", (40, 40)), COLOR, maps=["saliency"])


def test_the_words_of_a_long_question_are_scored_up_to_where_the_tower_reads(tiny_model, processor, image):
    pipes = [DualVQAPipeline(tiny_model(fusion_type=fusion), processor) for fusion in ("cross_attention", "product")]
    for number, pipe in enumerate(pipes):
        pipe.model.name_or_path = str(number)
    for pipe in (pipes[0], EnsemblePipeline(pipes)):
        found = dualvqa_light.explain(pipe, image, f"{COLOR} " * 400, maps=[])  # 16 tokens are read
        assert len(found.words) == 2000 and found.word_scores[:14].any() and not found.word_scores[14:].any()
        scored = ScoredAnswer(pipe, image, COLOR)
        assert scored.part_read() == (0, len(COLOR))


def test_large_images_are_encoded_a_few_at_once_on_a_cpu(pipe, image, monkeypatch):
    scored, seen = ScoredAnswer(pipe, image, COLOR), []
    outputs, (width, height) = scored.outputs, scored.image.size
    scored.outputs = lambda items: seen.append(len(items)) or outputs(items)
    for pixels, batches in ((3 * width * height, [3, 2]), (1, [1] * 5), (99 * width * height, [5])):
        monkeypatch.setattr("dualvqa_light.scoring.PIXELS_AT_ONCE", pixels)
        seen.clear()
        assert len(scored.of_images([scored.image] * 5)) == 5 and seen == batches


def test_a_batch_that_is_too_large_for_the_memory_is_halved_until_it_fits(pipe, image):
    scored = ScoredAnswer(pipe, image, COLOR, batch_size=4)
    expected, outputs = scored.of_images([scored.image] * 5), scored.outputs

    def short(items, most):
        if len(items) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return outputs(items)

    scored.outputs = lambda items: short(items, 2)
    with pytest.warns(UserWarning, match="too little memory: now 2 images at once"):
        np.testing.assert_allclose(scored.of_images([scored.image] * 5), expected, atol=1e-5)
    scored.outputs = lambda items: short(items, 0)
    with pytest.warns(UserWarning), pytest.raises(MemoryError, match="one image alone is too much"):
        scored.of_images([scored.image] * 2)


def test_a_foreign_input_and_an_answer_below_the_threshold_have_maps_of_gradients_too(pipe, image):
    pipe.processor.calibration = {
        "temperatures": {},
        "abstention": {"threshold": 1.0, "max_risk": 0.1},
        "familiarity": {"binary_energy": -1e9, "open_ended_energy": -1e9},
    }
    assert pipe(image, COLOR)[0]["answer"] is None and "unfamiliar" in pipe(image, COLOR)[0]
    found = explain(pipe, image, COLOR, maps="grad_cam")
    assert list(found.maps) == ["grad_cam"] and found.unfamiliar == pipe(image, COLOR)[0]["unfamiliar"]
    assert any("unlike what the model was trained on" in one for one in found.cautions())
    assert explain_by_gradients(pipe, image, COLOR).answer == pipe(image, COLOR)[0]["best_guess"]


def test_an_explanation_says_where_the_pipeline_leaves_the_question_unanswered(pipe, image):
    """By the pipeline's own answer to the question, whichever answer is explained."""
    pipe.processor.calibration = {"temperatures": {}}
    first, seen = pipe(image, COLOR)[0], set()
    for threshold, kind in itertools.product((0.0, first["score"] - 1e-4, 1.0), (None, "binary")):
        pipe.processor.calibration["abstention"] = {"threshold": threshold, "max_risk": 0.1}
        own = pipe(image, COLOR, question_type=kind)[0]
        guess = own.get("best_guess")
        said = f"the model is not sure: it leaves this question unanswered, with {guess!r} as its best guess"
        for answer in (None, "yes", *(["red"] if kind is None else [])):
            found = dualvqa_light.explain(pipe, image, COLOR, answer, kind, maps=[])
            assert found.best_guess == guess and found.answer == (answer or own["answer"] or guess)
            assert (said in found.cautions()) == (own["answer"] is None)
        seen.add((kind, guess))
    assert {(None, None), (None, first["answer"])} < seen


def test_what_runs_without_torch_keeps_its_other_maps_or_is_refused_in_words(monkeypatch, image):
    light = object.__new__(LightPipeline)
    kept = Explanation(COLOR, "red", 0.5, "open_ended", {"occlusion": np.ones((16, 16))})
    monkeypatch.setattr("dualvqa_light.explanation.explain", lambda *given: kept)
    with pytest.warns(UserWarning, match="left out: gradients need a model in PyTorch, found a LightPipeline"):
        assert list(explain(light, image, COLOR, maps=["occlusion", "grad_cam"]).maps) == ["occlusion"]
    with pytest.raises(ValueError, match="gradients need a model in PyTorch, found a LightPipeline"):
        explain(light, image, COLOR, maps="grad_cam")
