"""What answers: a saved folder with PyTorch, or an exported one with the light runtime, read ahead by threads."""

import dataclasses
import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dualvqa_light.folder import MANIFEST, file_hash
from dualvqa_light.steps import Steps

from .groups import RowGroups
from .questions import by_image

READ_AHEAD = 2  # batches whose images are read while one is answered


@dataclass
class Answers:
    """A model that answers.

    Attributes:
        pipe: a `DualVQAPipeline` or a `LightPipeline`.
        digest: of all that decides its answers.
        columns: image, question, answer -> the column that it was trained with, None where it isn't known.
        options: of every call.
        groups: `RowGroups`, of which group each row is.
    """

    pipe: object
    digest: str
    columns: dict | None
    options: dict

    def __post_init__(self):
        decoder = self.pipe.decoder if hasattr(self.pipe, "decoder") else self.pipe.processor
        self.groups = RowGroups(decoder.calibration, ["abstention" if self.options.get("coverage") is None else "sets"])

    def read(self, questions):
        """What `answer` takes, of [`Question`]s about one image."""
        texts, groups = [question.question for question in questions], list(map(self.groups.of, questions))
        return Steps(self.pipe).read({"image": questions[0].image, "question": texts, "group": groups}, self.options)

    def answer(self, items):
        return Steps(self.pipe).answer(items, self.options)


def open_answers(model, sources, device=None, options=None):
    """[`Answers`] of a saved folder, an id on the Hub or a `DualVQAPipeline`, or of an exported folder.

    Args:
        sources: `ImageSources` of the images.
        device: of PyTorch, such as "cuda:1"; a GPU if there is one when left out.
        options: of every call of the pipeline; None leaves one out.
    """
    options = {name: value for name, value in (options or {}).items() if value is not None}
    exported = isinstance(model, (str, os.PathLike)) and os.path.isfile(os.path.join(model, MANIFEST))
    return (open_light if exported else open_torch)(model, sources, device, options)


def open_light(folder, sources, device, options):
    from dualvqa_light.pipeline import LightPipeline

    if device not in (None, "cpu"):
        raise ValueError(f"{folder} is an exported model, which answers on the CPU; found the device {device!r}")
    pipe = LightPipeline(folder, image_sources=dataclasses.asdict(sources), embedding_cache_mib=0)
    return Answers(pipe, file_hash(os.path.join(folder, MANIFEST)), None, options)


def open_torch(model, sources, device, options):
    import torch

    from dualvqa.training.building import load_model
    from dualvqa.training.embeddings import fingerprint
    from modeling_dualvqa import DualVQAPipeline

    found, processor = (model.model, model.processor) if hasattr(model, "processor") else load_model(model)
    words = sorted(processor.tokenizer.get_vocab().items())
    digest = fingerprint(found, str(found.config.to_dict()), str(processor.to_dict()), str(words))
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    pipe = DualVQAPipeline(found, processor, image_sources=sources, device=device, embedding_cache_mib=0)
    return Answers(pipe, digest, (found.config.model_card or {}).get("columns"), options)


def answered(answers, questions, batch_size, workers):
    """(question, answers or None, problem or None) of each of some questions in their order, batch by batch.

    Nothing is carried from one batch to the next: what is in a batch alone decides its numbers to the last bit.

    Args:
        answers: of `open_answers`.
        questions: [`Question`]s.
        batch_size: how many are answered together.
        workers: threads that read images.
    """
    with ThreadPoolExecutor(workers) as pool:
        for parts in read_ahead(pool, answers, batches(questions, batch_size)):
            items = [item for _, item, _ in parts if item is not None]
            found = iter(answers.answer(items) if items else ())
            rows = []
            for group, item, problem in parts:
                best = next(found) if item is not None else [None] * len(group)
                rows += [(question, own, problem) for question, own in zip(group, best, strict=True)]
            yield rows


def batches(questions, size):
    questions = iter(questions)
    while batch := list(itertools.islice(questions, size)):
        yield batch


def read_ahead(pool, answers, batches):
    """The parts of each batch, see `read_group`, while the images of the next ones are read."""
    waiting = deque()
    for batch in batches:
        waiting.append([pool.submit(read_group, answers, group) for group in by_image(batch)])
        if len(waiting) > READ_AHEAD:
            yield made(waiting.popleft())
    yield from map(made, waiting)


def made(futures):
    return [part for future in futures for part in future.result()]


def read_group(answers, group):
    """[(questions, item or None, problem or None)] of questions about one image; a bad one spoils none beside it."""
    first = group[0]
    if first.problem is not None:
        return [(group, None, f"{first.place}: {first.problem}")]
    try:
        return [(group, answers.read(group), None)]
    except ValueError as error:
        if len(group) > 1:
            return [part for question in group for part in read_group(answers, [question])]
        return [(group, None, f"{first.place}: {error}")]
