import copy
import json

import pytest
import torch
from helpers import familiar, lines_of
from PIL import Image

from dualvqa.deployment.ensemble import EnsembleModel, EnsemblePipeline, average_logits, calibration_of, check_members
from dualvqa.run import main as run_vqa
from dualvqa.training.building import load_model
from modeling_dualvqa import DualVQAPipeline
from processing import DualVQAProcessor, named_logits


def softmax(values):
    exponentials = [torch.tensor(v).exp().item() for v in values]
    return [e / sum(exponentials) for e in exponentials]


def test_averages_by_hand():
    a, b = [0.0, 2.0], [3.0, 0.0]
    outputs = [{"binary_logits": torch.tensor([a])}, {"binary_logits": torch.tensor([b])}]
    assert average_logits(outputs)["binary_logits"].tolist() == [[1.5, 1.0]]
    found = average_logits(outputs, "probabilities")["binary_logits"].softmax(-1)[0].tolist()
    assert found == pytest.approx([(x + y) / 2 for x, y in zip(softmax(a), softmax(b))])
    assert softmax([1.5, 1.0]) != pytest.approx(found, abs=0.01)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_equal_models_are_one(average):
    logits = torch.randn(5, 4)
    found = average_logits([{"open_ended_logits": logits, "loss": None}] * 3, average)
    assert list(found) == ["open_ended_logits"]
    torch.testing.assert_close(found["open_ended_logits"].softmax(-1), logits.softmax(-1))


@pytest.fixture
def two(tiny_model, processor):
    """Two pipelines whose images differ in size."""
    other = copy.deepcopy(processor)
    other.image_processor.size = {"height": 64, "width": 64}
    models = [tiny_model(), tiny_model(fusion_type="cross_attention")]
    return [DualVQAPipeline(model, own) for model, own in zip(models, (processor, other))]


def test_what_only_a_member_can_promise_is_refused(two):
    sets = {"levels": {"0.9": 0.1}, "largest": 0.9}
    for pipe in two:
        pipe.processor.calibration = {"abstention": {"threshold": 0.5}, "sets": sets}
    for asked in ({"coverage": 0.9}, {"abstain": True}):
        with pytest.raises(ValueError, match="an ensemble has no threshold and no sets of its own.*leave out"):
            EnsemblePipeline(two)(Image.new("RGB", (40, 30)), "is it red?", **asked)


def test_members_have_memories_of_their_own_that_know_the_same_words(two):
    images = [Image.effect_noise((40, 30), spread) for spread in (20, 60, 100)]
    questions, answers = ["what color is it?"] * 3, ["mauve", "red", "ochre"]
    two[0].memory.build(images, questions, answers)
    with pytest.raises(ValueError, match="know different words that no head has: 2 answers and 0"):
        EnsemblePipeline(two)
    two[1].memory.build(images, questions, answers)
    for pipe in two:
        pipe.memory.add(images[2], "is it red?", "only at dusk")
    ensemble = EnsemblePipeline(two)
    assert ensemble(image=images[2], question="is it red?")[0]["answer"] == "only at dusk"
    with pytest.raises(ValueError, match="each member has a memory of its own: teach all of them the same"):
        ensemble.memory.add(images[2], "is it red?", "no")
    with pytest.raises(ValueError, match="evidence is a member's own"):
        ensemble(image=images[2], question="is it red?", evidence=1)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_pipeline_averages_members_of_different_kinds(two, average):
    ensemble = EnsemblePipeline(two, average)
    images = [Image.new("RGB", (50, 40), color) for color in ("red", "blue")]
    questions = ["what color is it?", "is it red?"]
    found = ensemble(images, questions, top_k=3, question_type="open_ended", batch_size=2)
    assert len(found) == 4
    for row, (image, question) in enumerate((i, q) for i in images for q in questions):
        logits = []
        for pipe in two:
            inputs = pipe.processor(images=image, text=question, return_tensors="pt")
            with torch.no_grad():
                logits.append(pipe.model(**inputs).open_ended_logits[0])
        if average == "logits":
            expected = (sum(logits) / 2).softmax(-1)
        else:
            expected = sum(one.softmax(-1) for one in logits) / 2
        scores = {best["answer"]: best["score"] for best in found[row]}
        for answer, value in zip(two[0].processor.answers, expected.tolist()):
            assert scores[answer] == pytest.approx(value, abs=1e-5)
    assert ensemble(image=images[0], question="is it red?")[0]["answer"]
    assert len(list(ensemble({"image": image, "question": "is it red?"} for image in images))) == 2


def test_members_calibration_is_theirs_alone(two):
    plain = EnsemblePipeline(two)(image=Image.new("RGB", (50, 40), "red"), question="is it red?")
    for pipe in two:
        pipe.processor.calibration = {"temperatures": {"binary": 9.0}, "abstention": {"threshold": 1.0}}
    assert EnsemblePipeline(two)(image=Image.new("RGB", (50, 40), "red"), question="is it red?") == plain
    assert two[0](image=Image.new("RGB", (50, 40), "red"), question="is it red?")[0]["answer"] is None


def test_what_is_foreign_to_every_member_that_judges_it_is_foreign(two):
    image, question = Image.new("RGB", (40, 30), "red"), "is it red?"
    for pipe, limits in zip(two, ({"image": -1e9, "question": -1e9}, {"image": -1e9})):
        familiar(pipe.model)
        pipe.processor.calibration = {"familiarity": limits}
    expected = EnsemblePipeline(two)(image=image, question=question)[0]
    assert expected["unfamiliar"] == {"image": True, "question": True}
    two[1].processor.calibration = {"familiarity": {"image": 1e9, "question": -1e9}}
    assert EnsemblePipeline(two)(image=image, question=question)[0]["unfamiliar"] == {"image": False, "question": True}
    two[1].processor.calibration = {"familiarity": {"image": 1e9, "question": 1e9}}
    assert "unfamiliar" not in EnsemblePipeline(two)(image=image, question=question)[0]


def test_the_ensemble_of_a_run_says_what_is_foreign_too(two):
    """Through arrays in their order, as the Trainer hands them on."""
    limits = [{"image": -1e9}, {"image": -1e9}]
    model = EnsembleModel([familiar(pipe.model) for pipe in two], limits=limits)
    image, question = Image.new("RGB", (40, 30), "red"), "is it red?"
    members = {str(n): pipe.processor(images=image, text=question, return_tensors="pt") for n, pipe in enumerate(two)}
    processor = two[0].processor.without_calibration()
    processor.calibration = calibration_of(limits)
    with torch.no_grad():
        outputs = model(members)
    arrays = tuple(value.numpy() for name, value in outputs.items() if name.endswith(("_logits", "_novelty")))
    (best,) = processor.post_process_question_answering(named_logits(arrays, processor))
    assert best[0]["unfamiliar"] == {"image": True, "question": None}
    assert EnsembleModel([pipe.model for pipe in two])(members).image_novelty is None


def test_what_cannot_answer_together_is_named(two, tiny_model, processor):
    with pytest.raises(ValueError, match="two or more models, found 1"):
        EnsemblePipeline(two[:1])
    with pytest.raises(ValueError, match="logits, probabilities; found 'votes'"):
        EnsemblePipeline(two, "votes")
    others = copy.deepcopy(processor)
    others.answers = others.answers[::-1]
    with pytest.raises(ValueError, match=f"answer 0 is '{processor.answers[0]}' and '{others.answers[0]}'"):
        EnsemblePipeline([two[0], DualVQAPipeline(tiny_model(), others)])
    with pytest.raises(ValueError, match="heads"):
        EnsemblePipeline([two[0], DualVQAPipeline(tiny_model(heads=["open_ended"]), processor)])


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            {"yes_answers": ["nein"], "no_answers": ["ja"]},
            "yes_answers Ja no_answers Nein in model 0, ",
        ),
        ({}, "yes_answers Ja no_answers Nein in model 0, yes_answers yes no_answers no in model 1"),
        ({"metric": "vqa"}, "metric exact in model 0, metric vqa in model 1"),
        ({"answer_language": "de"}, "answer_language en in model 0, answer_language de in model 1"),
    ],
)
def test_members_that_compare_answers_in_different_ways_are_refused(two, rules, message):
    own = {"yes_answers": ["Ja"], "no_answers": ["Nein"]}
    for pipe, given in zip(two, (own, {"yes_answers": ["jawohl", "ja"], "no_answers": ["NEIN"]})):
        pipe.processor.answer_rules = given
    check_members([pipe.model for pipe in two], [pipe.processor for pipe in two])
    two[1].processor.answer_rules = {**own, **rules} if set(rules) - {*own} else rules
    with pytest.raises(ValueError, match=f"compare answers in different ways: {message}"):
        EnsemblePipeline(two)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_run_vqa_predicts_with_several_folders(recipe, test_file, image_folder, tmp_path, average):
    folders = [str(tmp_path / f"member_{seed}") for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        run_vqa.main([recipe(seed=seed), "--output_dir", folder, "--seed", str(seed)])
    flags = ["--model_name_or_path", folders[0], "--ensemble_with", folders[1], "--ensemble_average", average]
    flags += ["--test_file", str(test_file), "--do_predict", "--output_dir", str(tmp_path / "both")]
    flags += ["--do_eval", "--validation_file", str(image_folder / "train.jsonl")]
    run_vqa.main([recipe(do_train=False), *flags])
    pipes = [load_model(folder) for folder in folders]
    ensemble = EnsemblePipeline([DualVQAPipeline(*pipe) for pipe in pipes], average)
    for line in lines_of(tmp_path / "both" / "predictions.jsonl"):
        best = ensemble(image=str(image_folder / line["image"]), question=line["question"])[0]
        assert (line["answer"], line["question_type"]) == (best["answer"], best["question_type"])
        assert line["score"] == pytest.approx(best["score"], abs=1e-4)
    figures = json.loads((tmp_path / "both" / "all_results.json").read_text())
    assert 0 <= figures["eval_routed_accuracy"] <= 1
    assert json.loads((tmp_path / "both" / "report.json").read_text())["settings"] == [["model", "member_0, member_1"]]


@pytest.mark.slow
def test_run_vqa_refuses_other_vocabularies_before_it_reads_data(recipe, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    run_vqa.main([recipe(), "--output_dir", str(one)])
    model, processor = load_model(str(one))
    model.reset_open_ended_head(2)
    processor = DualVQAProcessor(processor.image_processor, processor.tokenizer, processor.answers[:2])
    model.save_pretrained(other)
    processor.save_pretrained(other)
    (tmp_path / "empty.jsonl").write_text("")  # no rows, once it is read
    base = [
        recipe(do_train=False, train_file=str(tmp_path / "empty.jsonl")),
        "--do_eval",
        "--model_name_or_path",
        str(one),
    ]
    with pytest.raises(SystemExit, match="different vocabularies: 3 answers and 2"):
        run_vqa.main([*base, "--ensemble_with", str(other)])
    with pytest.raises(SystemExit, match="in the ensemble twice"):
        run_vqa.main([*base, "--ensemble_with", str(one)])
    with pytest.raises(SystemExit, match="leave out --do_train"):
        run_vqa.main([recipe(), "--model_name_or_path", str(one), "--ensemble_with", str(other)])
