"""The memory of a trained model: its training questions as the model's own towers see them, fitted on held-out ones."""

import logging
import os

import numpy as np
import torch
from sklearn.model_selection import GroupKFold
from torch.utils.data import DataLoader

from modeling_dualvqa.memory_dualvqa import SAME_IMAGE, SAME_QUESTION, Memory, mix
from modeling_dualvqa.memory_examples_dualvqa import Examples, check_room, image_vectors, question_vectors
from processing import AnswerRules, AnswerVocabulary, StreamedRows, named_logits, question_type_of
from processing.answers import IGNORE_INDEX, as_list
from processing.rewordings import wording

from .memory_fitting import FEWEST, fit_parameters
from .predicting import predict

logger = logging.getLogger(__name__)

MOST_FITTED = 5000  # held-out questions that the parameters are fitted on; more hardly move them
BATCH = 64
MOST_ALIKE = 0.05  # of the training images may have another one's vector; duplicates that some data sets have


def check_memory(trainer):
    """
    Raises:
        ValueError: there are no training questions that a memory can be made of, or too many.
    """
    train, reason = trainer.parts().get("train"), None
    if not trainer.complete or train is None or isinstance(train, StreamedRows):
        reason = "it needs a training part that isn't streamed, and the model's processor"
    elif "answer" not in train.column_names:
        reason = "its questions need answers"
    elif trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        reason = "DeepSpeed and FSDP spread the model over processes; build it in one, with build_memory()"
    elif getattr(trainer.accelerator.unwrap_model(trainer.model), "peft_config", None):
        reason = "of a model with adapters these alone are saved, without it; merge them into the model first"
    if reason:
        raise ValueError(f"a memory keeps the training questions with their answers: {reason}")
    try:
        check_room(trainer.accelerator.unwrap_model(trainer.model), len(train), len(set(train["image_key"][:])))
    except ValueError as error:
        raise ValueError(f"{error}, by a smaller --train_fraction") from None


def build_memory(trainer, rows, parameters, save_texts=True):
    """Gives a trainer's model a memory of some rows.

    Args:
        trainer: a [`DualVQATrainer`] whose model is trained.
        rows: canonical, with answers. Those of a type that the model has no head for are left out.
        parameters: of `PARAMETERS`, those that are not to be as they stand there.
        save_texts: also keep image names, questions and answers, for evidence.
    """
    model, processor = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    model.forget_memory()
    vocabulary, words = AnswerVocabulary.of(processor), {}
    rules = vocabulary.rules
    answers = list(map(rules.consensus, rows["answer"][:]))
    types = [kind_of(answer, model.config.heads) for answer in answers]
    kept = [number for number, kind in enumerate(types) if kind is not None]
    if len(kept) < len(rows):
        logger.warning("the memory leaves out %d questions of a type that no head has", len(rows) - len(kept))
    if len(kept) < 2:
        raise ValueError(f"a memory needs two questions or more, found {len(kept)}")
    rows, answers, types = rows.select(kept), [answers[n] for n in kept], [types[n] for n in kept]
    indices = []
    for answer, kind, given in zip(answers, types, rows["answer"][:]):
        index = int(answer == "yes") if kind == 0 else vocabulary.encode(answer)
        if index == IGNORE_INDEX:  # too rare for the vocabulary, or of the validation part in a refit
            index = len(processor.answers) + words.setdefault(answer, (len(words), rules.as_written(given)))[0]
        indices.append(index)
    encoded = encode(trainer, rows)
    examples = Examples(
        encoded["questions"][encoded["question_index"]],
        encoded["images"],
        encoded["image_index"],
        torch.tensor(indices),
        torch.tensor(types),
        texts_of(rows, rules, trainer.data_args.image_dir) if save_texts else None,
    )
    model.eval()
    model.set_memory(Memory.of(model, examples, len(words), **parameters))
    model.memory.push_texts = trainer.args.push_memory_examples
    processor.memory_answers = [word for _, word in words.values()]
    alike, images = images_alike(model.memory.image_keys)
    if alike > MOST_ALIKE * images:
        logger.warning(
            "%d of the first %d images have nearly the vector of another one, for the vision tower tells them apart "
            "badly: the memory takes these for the same image, and copies answers between them. Train longer or from a "
            "pretrained tower, or leave the memory out",
            alike,
            images,
        )


def images_alike(keys, most=2000):
    """How many of the first `most` image vectors (I, C), of length 1, are another one's too; and how many these are."""
    keys = keys[:most].float()
    cosines = keys @ keys.T
    return int((cosines.fill_diagonal_(0) >= SAME_IMAGE).any(dim=1).sum()), len(keys)


def kind_of(answer, heads):
    """0 yes/no, 1 open-ended, None where there is no head for it. A single open-ended head also says yes and no."""
    kind = question_type_of(answer) if "binary" in heads else 1
    return kind if ("binary", "open_ended")[kind] in heads else None


def texts_of(rows, rules, image_dir=None):
    """Image name, question and answer of each row, see `image_names`."""
    found = zip(image_names(rows, image_dir), rows["question"][:], rows["answer"][:])
    return [
        {"image": name, "question": question, "answer": rules.as_written(answer)} for name, question, answer in found
    ]


def image_names(rows, image_dir=None):
    """The path of each row's image from `image_dir` on, as the data have it: who is shown it learns of no folders."""
    names = [(image.get("path") or "") if isinstance(image, dict) else "" for image in rows["image"][:]]
    return [name.removeprefix(os.path.join(image_dir, "")) for name in names] if image_dir else names


def remembered(trainer, rows):
    """(n,) which canonical questions the model's memory has about the same image in the same words.

    The towers tell, so no training part is needed. Of an ensemble the memory of any member counts. None where there is
    no memory, or one that DeepSpeed or FSDP have spread over processes.
    """
    model, collator = trainer.accelerator.unwrap_model(trainer.model), trainer.data_collator
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        return None
    members = getattr(model, "models", None)
    collators = [collator] if members is None else collator.collators
    found = None
    for member, own in zip([model] if members is None else members, collators):
        if getattr(member, "memory", None) is None:
            continue
        device = member.memory.question_keys.device
        encoded = {name: tensor.to(device) for name, tensor in encoded_by(member, own, own.processor, rows).items()}
        nearest = member.memory.search(**encoded)
        known = ((nearest.same > 0) & (nearest.question >= SAME_QUESTION)).any(dim=1).cpu()
        found = known if found is None else found | known
    return found


def encode(trainer, rows):
    """`encoded_by` a trainer's model."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    return encoded_by(model, trainer.data_collator, trainer.processing_class, rows)


@torch.inference_mode()
def encoded_by(model, collator, processor, rows):
    """Rows as the towers see them, as `Memory.search` takes them: each different image and question once.

    Embeddings of frozen towers that the collator keeps are used.

    Returns:
        dict of `questions` (V, C_text), `images` (U, C_vision), `question_index` and `image_index` (n,), on the CPU.
    """
    model.eval()
    keys, texts = rows["image_key"][:], rows["question"][:]
    firsts = {}
    for number, key in enumerate(keys):
        firsts.setdefault(key, number)
    once = rows.select(list(firsts.values()))
    loader = DataLoader(once, BATCH, collate_fn=collator, generator=torch.Generator())  # training's draws stay
    images = []
    for batch in loader:
        embeds = batch.get("image_embeds")
        embeds = model.encode_images(batch["pixel_values"].to(model.device)) if embeds is None else embeds
        images.append(image_vectors(embeds).cpu())
    different = sorted(set(texts), key=lambda text: (len(text), text))  # alike in length: little padding
    kept, questions = collator.embeddings, []
    for start in range(0, len(different), BATCH):
        chunk = different[start : start + BATCH]
        if kept is not None and kept.has_questions(chunk):
            found = kept.of_questions(chunk)
            embeds, mask = found["text_embeds"], found["attention_mask"]
        else:
            batch = processor(text=chunk, return_tensors="pt").to(model.device)
            embeds, mask = model.encode_questions(**batch), batch["attention_mask"]
        questions.append(question_vectors(embeds, mask).cpu())
    places, numbers = {key: n for n, key in enumerate(firsts)}, {text: n for n, text in enumerate(different)}
    return {
        "questions": torch.cat(questions),
        "images": torch.cat(images),
        "question_index": torch.tensor([numbers[text] for text in texts]),
        "image_index": torch.tensor([places[key] for key in keys]),
    }


def fit_memory(trainer, rows, known):
    """Fits the parameters of the model's memory on held-out questions; the memory stays otherwise as it is.

    A question that the memory has about the same image in the same words is left out: it would find itself.

    Args:
        trainer: its model has a memory, with no parameters fitted yet.
        rows: held out, canonical, with answers.
        known: the rows that the memory was made of.

    Returns:
        Figures, or None where there are too few questions: `rows` that the parameters were fitted on, `without` and
        `with`, the routed accuracies on these without and with the memory, and the parameters. Of each question the
        answer with the memory is that of parameters that were fitted on others' images; None where there are none.
    """
    model, processor = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    own = set(zip(known["image_key"][:], map(wording, known["question"][:])))
    pairs = zip(rows["image_key"][:], map(wording, rows["question"][:]))
    others = [number for number, pair in enumerate(pairs) if pair not in own]
    if len(others) < len(rows):
        logger.warning("%d held-out questions are in the memory word for word: not fitted on", len(rows) - len(others))
    if len(others) > MOST_FITTED:
        others = [others[n] for n in torch.linspace(0, len(others) - 1, MOST_FITTED).long().tolist()]
    if len(others) < FEWEST:
        logger.warning("the memory keeps its usual parameters: %d held-out questions, %d needed", len(others), FEWEST)
        return None
    rows = rows.select(others)
    memory, words = model.memory.cpu(), processor.memory_answers
    outputs = heads_alone(trainer, rows)
    logits = {name.removesuffix("_logits"): scores.float() for name, scores in outputs.items()}
    vocabulary = AnswerVocabulary.of(processor, memory=True)
    labels = vocabulary.labels(list(map(vocabulary.rules.consensus, rows["answer"][:])))
    held = {
        "logits": logits,
        "labels": {name.removesuffix("_labels"): torch.tensor(values) for name, values in labels.items()},
        "encoded": encode(trainer, rows),
    }
    right = {"without": correct(outputs, rows, plain(processor, []))}
    right["with"] = crossed(memory, held, rows, plain(processor, words))
    found = fit_parameters(memory, **held)
    memory.settings = {**memory.settings, **found}
    model.set_memory(memory)
    shares = {name: None if values is None else float(np.mean(values)) for name, values in right.items()}
    return {"rows": len(rows), **shares, **found}


def heads_alone(trainer, rows):
    """`<head>_logits` -> (n, N) for some rows of a model that has a memory, without it."""
    model, processor = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    memory, settings, words = model.memory, model.config.memory, processor.memory_answers
    model.forget_memory()
    processor.memory_answers = []
    try:
        outputs = named_logits(predict(trainer, rows), processor)
    finally:  # as they were: quantized weights aren't those that set_memory would compare
        model.memory, model.config.memory = memory, settings
        processor.memory_answers = words
    return {name: scores for name, scores in outputs.items() if not name.endswith("novelty")}


def plain(processor, memory_answers):
    """The same processor without calibration, with other answers of the memory alone."""
    other = processor.without_calibration()
    other.memory_answers = memory_answers
    return other


def crossed(memory, held, rows, processor):
    """(n,) how right each answer of heads and memory is, with parameters fitted on questions about other images.

    None where all are about one image.
    """
    images = rows["image_key"][:]
    if len(set(images)) < 2:
        return None
    right = np.empty(len(rows))
    settings = memory.settings
    try:
        for other, own in GroupKFold(2).split(images, groups=images):
            memory.settings = {**settings, **fit_parameters(memory, **chosen(held, other))}
            mine = chosen(held, own)
            mixed = mix(memory.settings, mine["logits"], memory.search(**mine["encoded"]), settings["new_answers"])
            outputs = {f"{name}_logits": scores for name, scores in mixed.log_probabilities.items()}
            right[own] = correct(outputs, rows.select(own), processor)
            memory.settings = settings
    finally:
        memory.settings = settings
    return right


def chosen(held, numbers):
    """The part of what `fit_parameters` takes that concerns some questions."""
    numbers = torch.as_tensor(numbers)
    encoded = dict(held["encoded"])
    encoded |= {name: encoded[name][numbers] for name in ("image_index", "question_index")}
    parts = {part: {name: values[numbers] for name, values in held[part].items()} for part in ("logits", "labels")}
    return {**parts, "encoded": encoded}


def correct(outputs, rows, processor):
    """(n,) how right each routed answer is, in [0, 1]."""
    said = processor.post_process_question_answering(outputs, abstain=False)
    score = AnswerRules.of(processor).score
    return np.array([score(best[0]["answer"], as_list(a)) for best, a in zip(said, rows["answer"][:])])
