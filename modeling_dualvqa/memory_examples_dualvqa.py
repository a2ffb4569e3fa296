"""What a memory is made of: encoded examples, sizes and parameters, and what must hold of them."""

import dataclasses
import hashlib
import itertools
import math
from pathlib import Path

import torch

from .fusion_dualvqa import masked_mean

TYPES = ("binary", "open_ended")
# Of the exact copy of an example the similarity is 1 + image_weight + same_image_weight. So set, a rewording about the
# same image has most of the say, and the same question about another image little. `dualvqa` fits all but `neighbours`.
PARAMETERS = {
    "temperature": 0.1,
    "head_temperature": 1.0,
    "image_weight": 0.3,
    "same_image_weight": 0.5,
    "share_bias": -4.7,
    "share_slope": 3.5,
    "neighbours": 30,
}
WIDTHS = ("text_width", "vision_width", "question_key_width", "image_key_width")
SIZES = ("examples", "images", *WIDTHS, "answers", "new_answers")
ABOVE = dict.fromkeys(("examples", "images", *WIDTHS), 0) | {"answers": -1, "new_answers": -1}
ABOVE |= dict.fromkeys(("temperature", "head_temperature", "neighbours"), 0)
# From so many on, keys are the leading principal components of the vectors: the search takes a third of the time.
MANY, NARROW = 20_000, {"question_key_width": 256, "image_key_width": 128}


@dataclasses.dataclass
class Examples:
    """Encoded questions with their answers, of which `Memory.of` makes a memory.

    Args:
        questions: (M, C_text) as `question_vectors` gives them.
        images: (I, C_vision) as `image_vectors` gives them, of the different images.
        image_index: (M,) which image each question is about.
        answers: (M,) 0 no, 1 yes; of open-ended questions the index in the processor's `answers` followed by its
            `memory_answers`, words that no head knows.
        types: (M,) 0 yes/no, 1 open-ended.
        texts: None, or for each example a dict with `image` (a name), `question` and `answer`, kept as evidence.
    """

    questions: torch.Tensor
    images: torch.Tensor
    image_index: torch.Tensor
    answers: torch.Tensor
    types: torch.Tensor
    texts: list | None = None

    def check(self, heads=TYPES):
        """
        Raises:
            ValueError: no example at all, fields of unlike length, an image that isn't there, an example without an
                answer, or of a type that the model has no head for.
        """
        count = len(self.questions)
        lengths = [len(self.image_index), len(self.answers), len(self.types)]
        lengths += [] if self.texts is None else [len(self.texts)]
        if not count or any(length != count for length in lengths):
            raise ValueError(f"expected an image, answer and type for each of {count} questions, found {lengths}")
        if int(self.image_index.min()) < 0 or int(self.image_index.max()) >= len(self.images):
            raise ValueError(f"an example's image_index is outside of the {len(self.images)} images")
        missing = (self.answers < 0).nonzero()[:, 0].tolist()
        if missing:
            raise ValueError(
                f"{len(missing)} of {count} examples have no answer, first number {missing[0]}: a memory is of "
                f"questions with answers; leave the others out"
            )
        for kind, name in enumerate(TYPES):
            if name not in heads and bool((self.types == kind).any()):
                raise ValueError(f"examples of type {name}, and the model has only {', '.join(heads)}; leave them out")


def question_vectors(text_embeds, attention_mask=None):
    """(V, C_text) mean states of questions from `text_embeds` (V, T, C_text), or the pooled ones (V, 1, C_text)."""
    if text_embeds.shape[1] == 1:
        return text_embeds[:, 0].float()
    return masked_mean(text_embeds.float(), attention_mask)


def image_vectors(image_embeds):
    """(U, C_vision) pooled states of images from `image_embeds` (U, 1 + S, C_vision)."""
    return image_embeds[:, 0].float()


def principal_components(vectors, width):
    """(C, width) the directions of centred vectors (M, C) in which these differ most."""
    return torch.linalg.eigh((vectors.T @ vectors).double()).eigenvectors[:, -width:].to(vectors.dtype)


def weights_digest(model, as_saved=False):
    """A digest of some values of every tensor that the towers and heads compute with; None of a float16 model.

    It is the same in bfloat16: a memory made in one precision serves the model in the other. float16 rounds otherwise.

    Args:
        model: a [`DualVQAForQuestionAnswering`].
        as_saved: of a float16 model that which its folder has, loaded in another precision.
    """
    samples = []
    for name, tensor in sorted(itertools.chain(model.named_parameters(), model.named_buffers())):
        own = name.startswith(("memory.", "familiarity.", "auxiliary_heads.")) or not tensor.is_floating_point()
        if own or not tensor.numel():
            continue
        if (tensor.dtype == torch.float16 and not as_saved) or tensor.is_meta:
            return None
        places = torch.linspace(0, tensor.numel() - 1, 16, dtype=torch.float64).long()
        samples.append(tensor.detach().reshape(-1)[places.to(tensor.device)].bfloat16().float())
    values = torch.cat([sample.cpu() for sample in samples])
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


def check_weights(memory, model):
    """
    Raises:
        ValueError: the memory's keys are of other widths than the model's vectors, or of other weights.
    """
    check_widths(memory.settings, model)
    if not same_weights(memory, model):
        raise ValueError(
            f"the memory is of other weights (digest {memory.settings['weights']}) than the model's "
            f"({weights_digest(model)}): its keys are states of the model that made them, and mean nothing to another. "
            f"Make it anew from the training questions"
        )


def same_weights(memory, model):
    """Whether the model has the weights that made the memory, as far as can be told."""
    found, expected = memory.settings["weights"], weights_digest(model)
    return not found or not expected or found == expected


def check_widths(settings, model):
    expected = {"text_width": model.text_encoder.hidden_size, "vision_width": model.vision_encoder.hidden_size}
    for name, width in expected.items():
        if settings[name] != width:
            raise ValueError(
                f"the memory is of another model: its keys have {name} {settings[name]}, this model's vectors {width}"
            )


def checked_settings(settings):
    """
    Raises:
        ValueError: a size or parameter is missing, or isn't a number in its range.
    """
    for name in (*SIZES, *PARAMETERS):
        value, whole = settings.get(name), name in (*SIZES, "neighbours")
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value <= ABOVE.get(name, -math.inf):
            kind = "a whole number" if whole else "a finite number"
            limit = f" above {ABOVE[name]}" if name in ABOVE else ""
            raise ValueError(f"the memory's {name} must be {kind}{limit}, found {value!r:.100}")
    unknown = sorted(set(settings) - {*SIZES, *PARAMETERS, "weights", "texts"})
    if unknown:
        raise ValueError(f"a memory has no {unknown[0]!r}; it has {', '.join([*SIZES, *PARAMETERS])}")
    return dict(settings)


def check_room(model, examples, images):
    """Refuses a memory of so many examples before these are encoded.

    Raises:
        ValueError: see `check_size`.
    """
    widths = {"question_key_width": model.text_encoder.hidden_size, "image_key_width": model.vision_encoder.hidden_size}
    check_size({"examples": examples, "images": images, **narrowed(widths, examples)})


def narrowed(widths, examples):
    """The widths of keys by those of vectors."""
    return widths if examples <= MANY else {name: min(width, NARROW[name]) for name, width in widths.items()}


def check_size(settings):
    """
    Raises:
        ValueError: more bytes than are free.
    """
    examples = settings["examples"]
    keys = examples * settings["question_key_width"] + settings["images"] * settings["image_key_width"]
    size, free = 4 * keys + 26 * examples, free_bytes()
    if size > free:
        room = int(free / size * examples)
        raise ValueError(
            f"a memory of {examples:,} examples about {settings['images']:,} images takes {size:,} bytes; there is "
            f"room for {free:,} bytes. Give it fewer examples, such as {room // 2:,} rows drawn at random"
        )


def free_bytes():
    """Bytes that this machine can still give; infinite where it doesn't say."""
    try:
        (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable")]
        return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return math.inf


def in_half_precision(state_dict, prefix):
    """The same tensors, those with that prefix (or one of several) in float16 where they are of another float type."""
    halves = {name: t.half() for name, t in state_dict.items() if name.startswith(prefix) and t.is_floating_point()}
    return {**state_dict, **halves}
