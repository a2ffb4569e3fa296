"""What the index of a very large memory finds and saves, for `memory_speed.py`; its states are made of real ones."""

import functools
import sys
from statistics import median

import torch
from measure import timed
from pages import ROOT

sys.path.insert(0, str(ROOT))
from modeling_dualvqa import memory_index_dualvqa
from modeling_dualvqa.memory_dualvqa import Memory, Neighbours
from modeling_dualvqa.memory_examples_dualvqa import Examples

ASKED, PER_IMAGE = 256, 7
HALF = 0.5  # of the difference of two states is added to a third


def made(vectors, count):
    """(count, C) other vectors that lie as these do: one of them, and half of the difference of two others."""
    first, second, third = (vectors[torch.randint(len(vectors), (count,))] for _ in range(3))
    return first + HALF * (second - third)


def search(model, count):
    """What a memory of so many made examples finds with an index and without, and how long each takes.

    Of the questions a quarter is a rewording of one in the memory, another quarter about an image in it, and the other
    half about new images.

    Args:
        model: one with a memory of real examples.
        count: of the examples that are made.
    """
    torch.manual_seed(0)
    of_questions, of_images = model.memory.question_keys, model.memory.image_keys
    images = made(of_images, count // PER_IMAGE)
    examples = Examples(
        questions=made(of_questions, count),
        images=images,
        image_index=torch.randint(len(images), (count,)),
        answers=torch.zeros(count, dtype=torch.long),
        types=torch.zeros(count, dtype=torch.long),
    )
    memory = Memory.of(model, examples)
    known, numbers = torch.randint(count, (ASKED,)), torch.arange(ASKED)
    questions = torch.where(
        (numbers % 4 == 0)[:, None],
        examples.questions[known] + 0.1 * made(of_questions, ASKED),
        made(of_questions, ASKED),
    )
    new = made(of_images, ASKED)
    asked = torch.where((numbers % 2 == 0)[:, None], images[examples.image_index[known]], new)
    del examples, images
    found, seconds, before = {}, {}, memory_index_dualvqa.INDEXED
    for way, limit in (("all", count), ("index", 0)):
        memory_index_dualvqa.INDEXED = limit
        built = timed(functools.partial(memory.search, questions[:1], asked[:1]))  # makes the index
        pieces = [memory.search(*pair) for pair in zip(questions.split(32), asked.split(32))]
        found[way] = Neighbours(*map(torch.cat, zip(*pieces)))
        for size in (1, 32):
            rows = [slice(start, start + size) for start in range(0, ASKED, max(16, size))]
            calls = [functools.partial(memory.search, questions[row], asked[row]) for row in rows]
            times = list(map(timed, calls))
            seconds[way, size] = median(times) / size
        print(f"{count:,} examples, {way}: {seconds}", flush=True)
    memory_index_dualvqa.INDEXED = before
    true = found["all"]
    there = (true.indices[:, :, None] == found["index"].indices[:, None]).any(dim=2)  # (ASKED, k)
    parameters = memory.settings
    similarities = true.question + parameters["image_weight"] * true.image + parameters["same_image_weight"] * true.same
    weights = (similarities / parameters["temperature"]).softmax(dim=1)
    return {
        "build": built,
        "seconds": seconds,
        "neighbours": there.float().mean().item(),
        "most similar": there[:, 0].float().mean().item(),
        "weight": (weights * there).sum(dim=1).mean().item(),
        "images": len(memory.image_keys),
    }
