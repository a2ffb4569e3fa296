"""One line of measurements for each question that a model was asked: its maps, its words, their curves."""

import copy
import json
import os
from functools import partial

import numpy as np
import torch
from explanation_curves import image_curves, word_curves
from explanation_questions import asked, localisation, shape_mask, validation_questions

from dualvqa.deployment.optimize import optimize_for_inference
from dualvqa.trust.gradients import explain_by_gradients
from dualvqa_light import hidden_places, hidden_words
from dualvqa_light.scoring import ScoredAnswer
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import DualVQAProcessor
from processing.answers import normalise_answer

GRADIENTS = {"Grad-CAM": "image_map", "LayerCAM": "detail_map"}
FEW = ("occlusion", "LayerCAM", "Grad-CAM", "random")  # of further models, and of those that have learned nothing
ALL = ("occlusion", "occlusion, fine", "RISE", "combined", "LayerCAM", "Grad-CAM", "random")


def load(folder):
    model = DualVQAForQuestionAnswering.from_pretrained(folder).eval()
    return model, DualVQAProcessor.from_pretrained(folder)


def randomised(model, pixel_values, seed):
    """Part -> the model with random weights there: first behind the towers, then everywhere (Adebayo et al. 2018)."""
    torch.manual_seed(seed)
    fresh = DualVQAForQuestionAnswering(copy.deepcopy(model.config)).eval()
    for module in fresh.vision_encoder.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train().momentum = 1.0  # one pass sets the statistics
    with torch.no_grad():
        fresh.vision_encoder(pixel_values)
    behind = copy.deepcopy(model)
    for name, part in fresh.named_children():
        if not name.endswith("_encoder"):
            behind.get_submodule(name).load_state_dict(part.state_dict())
    return {"fusion and heads random": behind, "everything random": fresh.eval()}


def measured(pair, questions, seed, names=ALL, answers=None, shapes=True):
    """A dict for each question.

    Args:
        pair: model and processor.
        questions: (path, question, right answer) each.
        seed: of the masks and of the random map.
        names: of the maps, some of `ALL`.
        answers: (answer, question type) of each that are explained, in place of the model's own.
        shapes: whether the images have a shape before a plain ground.
    """
    pipe = DualVQAPipeline(optimize_for_inference(pair[0]), pair[1])  # the same answers, in half the time
    rows = []
    for number, (path, question, truth) in enumerate(questions):
        chance = np.random.default_rng([seed, number])
        scored = ScoredAnswer(pipe, path, question, *(answers[number] if answers else ()))
        gradients = explain_by_gradients(pair, path, question, scored.answer, scored.question_type)
        maps = all_maps(scored, names, gradients, seed, chance)
        words = word_scores(scored, question, gradients, seed, chance)
        row = {
            "question": question,
            "answer": scored.answer,
            "type": scored.question_type,
            "right": normalise_answer(scored.answer) == normalise_answer(truth),
            "maps": {name: values.round(6).tolist() for name, values in maps.items()},
            "words": {name: np.round(scores, 6).tolist() for name, scores in words.items()},
            "word curves": {name: word_curves(scored, question, scores) for name, scores in words.items()},
            "curves": {name: image_curves(scored, values, chance) for name, values in maps.items()},
        }
        if shapes:
            mask = shape_mask(np.asarray(scored.image))
            row["shape"] = {name: localisation(values, mask) for name, values in maps.items()}
        rows.append(row)
    return rows


def all_maps(scored, names, gradients, seed, chance):
    """Name -> map, of those that this model can have."""
    found = {"occlusion": hidden_places.occlusion(scored.of_images, scored.image)}
    if "occlusion, fine" in names:
        found["occlusion, fine"] = hidden_places.METHODS["occlusion_fine"](scored.of_images, scored.image)
    if "RISE" in names:
        found["RISE"] = hidden_places.rise(scored.of_images, scored.image, seed=seed)
        found["combined"] = hidden_places.combine(found["occlusion"], found["RISE"])
    found |= {name: getattr(gradients, field) for name, field in GRADIENTS.items()}
    found["random"] = chance.random((hidden_places.GRID, hidden_places.GRID))
    return {name: found[name] for name in names if found[name] is not None}


def word_scores(scored, question, gradients, seed, chance):
    """Method -> scores of the words; none where the question has one word."""
    if len(hidden_words.find_words(question)) < 2:
        return {}
    some, one = hidden_words.leave_some_out, hidden_words.leave_one_out
    found = {"some left out": some(scored.of_questions, question, seed)[1]}
    found["one left out"] = one(scored.of_questions, question)[1]
    if len(gradients.tokens) == len(found["one left out"]):  # the tokenizer has the same words
        found["gradient × input"] = gradients.token_scores
    return {**found, "random": chance.random(len(found["one left out"]))}


def kept(path, measure):
    """What was measured before, or is now and is kept: an interrupted run goes on where it was."""
    if not path.is_file():
        rows = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(aside, path)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def all_rows(args):
    """(model's name, part that is random or None, seed) -> rows. Further models are asked half of the questions."""
    found = {}
    for folder in [*args.models, *([args.radiology] if args.radiology else [])]:
        pair = load(folder)
        shapes, first = folder != args.radiology, folder == args.models[0]
        for seed in range(args.seeds):
            if shapes:
                questions = asked(args.images, seed)[: args.images if first else args.images // 2]
            else:
                questions = validation_questions(folder, args.radiology_data, args.radiology_images, seed)
            path = args.rows / f"{folder.name}_{seed}.jsonl"
            measure = partial(measured, pair, questions, seed, ALL if first else FEW, shapes=shapes)
            found[folder.name, None, seed] = rows = kept(path, measure)
            if first:
                found |= of_randomised(pair, questions, rows, path, seed)
    return found


def of_randomised(pair, questions, rows, path, seed):
    """As `all_rows`, of the same answers by the model with random weights."""
    half, (model, processor) = questions[: len(questions) // 2], pair
    answers = [(row["answer"], row["type"]) for row in rows]
    pixels = processor(images=[path for path, _, _ in questions], return_tensors="pt")["pixel_values"]
    found = {}
    for part, changed in randomised(model, pixels, seed).items():
        aside = path.with_stem(f"{path.stem}_{part.split()[0]}")
        measure = partial(measured, (changed, processor), half, seed, FEW, answers)
        found[path.stem.rpartition("_")[0], part, seed] = kept(aside, measure)
    return found
