"""How sure a pipeline is of one answer, when another image is shown or another question asked."""

import copy
import difflib
import sys
import warnings

import numpy as np

from .cache import EmbeddingCache
from .image_loading_dualvqa import embedded, load_image
from .preprocessing import RESAMPLING, resized_to
from .steps import Steps

QUESTION_TYPES = ("binary", "open_ended")
# On a CPU, pixels of the images that are encoded together: four of 224 x 224. What a convolution makes of more fits
# neither its caches nor the memory that PyTorch keeps, and EfficientNet-Lite0 takes up to three times as long an image.
PIXELS_AT_ONCE = 4 * 224 * 224


class ScoredAnswer:
    """
    A score is the log-odds of the answer, log p - log(1 - p), where p is the probability that the pipeline gives: they
    go on where p can't, since a pipeline is often quite sure.

    Args:
        pipe: a [`LightPipeline`], or one of transformers with its methods: on PyTorch, on ONNX files, an ensemble.
        image, question: what the pipeline takes, one of each.
        answer: one of the vocabulary, as it is written there; the pipeline's own when left out.
        question_type: the head; the pipeline chooses when left out, and how sure it is of it counts in the score.
        batch_size: how many images or questions are encoded together, at most, and fewer large images on a CPU; half of
            it as often as they are too large for the memory.

    Attributes:
        image: an RGB PIL image, no larger than what the model sees of it.
        answer, question_type, score: what is scored, and its probability.
        chosen: the head that answers the question, another than `question_type` where the given answer isn't one of it.

    Raises:
        ValueError: an image or a question that can't be asked about, or an answer or a type that there isn't.
    """

    def __init__(self, pipe, image, question, answer=None, question_type=None, batch_size=128):
        if not isinstance(question, str):
            raise ValueError(f"expected one question as text, found {question!r:.100}")
        self.pipe, self.question, self.batch_size = uncached(pipe), question, batch_size
        self.steps = Steps(self.pipe)
        whole = self.load(image)
        outputs = self.outputs([self.steps.read({"image": whole, "question": question}, {})])
        vocabularies = self.vocabularies()
        heads = [name for name in QUESTION_TYPES if f"{name}_logits" in outputs]
        if question_type is not None and question_type not in heads:
            raise ValueError(f"question_type must be one of {', '.join(heads)}, or None; found {question_type!r}")
        self.routed = question_type is None and len(heads) == 2
        own = heads[int(outputs["question_type_logits"][0].argmax()) if self.routed else 0]
        self.chosen = chosen = question_type or own
        if answer is None:
            self.question_type, self.index = chosen, int(outputs[f"{chosen}_logits"][0].argmax())
        else:
            asked = [chosen] if question_type else sorted(heads, key=lambda name: name != chosen)
            self.question_type, self.index = find_answer({name: vocabularies[name] for name in asked}, answer)
        self.answer = vocabularies[self.question_type][self.index]
        self.score = float(1 / (1 + np.exp(-self.log_odds(outputs)[0])))
        self.image = self.shrunk(whole)

    def of_images(self, images):
        """(n,): the question is asked about other RGB PIL images, all of one size."""
        width, height = self.image.size
        most = max(1, PIXELS_AT_ONCE // (width * height)) if self.on_cpu() else len(images)
        return self.in_batches(
            images, lambda images: [self.item(one, [self.question]) for one in self.prepared(images)], most
        )

    def of_questions(self, questions):
        """(n,): other questions are asked about the image."""
        (prepared,) = self.prepared([self.image])
        return self.in_batches(questions, lambda questions: [self.item(prepared, questions)])

    def part_read(self):
        """(start, end) of the part of the question that the model reads before it cuts a long one."""
        offsets = [place for pipe in self.members() for place in self.offsets(pipe)]
        read = [(start, end) for start, end in offsets if end > start]
        return min(start for start, _ in read), max(end for _, end in read)

    def offsets(self, pipe):
        """(start, end) in the question of each of its tokens; all of it where the tokenizer can't tell."""
        if self.steps.light:
            return pipe.questions.offsets(self.question)
        if not pipe.processor.tokenizer.is_fast:
            return [(0, len(self.question))]
        encoded = pipe.processor(text=self.question, return_offsets_mapping=True)
        return np.reshape(encoded["offset_mapping"], (-1, 2)).tolist()

    def on_cpu(self):
        return self.steps.light or all(one.device.type == "cpu" for one in self.members())

    def in_batches(self, values, items_of, most=sys.maxsize):
        """
        Raises:
            MemoryError: one image alone is too much.
        """
        found, start = [], 0
        while start < len(values):
            batch = values[start : start + min(self.batch_size, most)]
            try:
                found.append(self.log_odds(self.outputs(items_of(batch))))
            except (MemoryError, RuntimeError) as error:  # PyTorch and onnxruntime have errors of their own
                if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
                    raise
                if len(batch) == 1:
                    raise MemoryError(f"one image alone is too much for the memory: {error}") from error
                self.batch_size = len(batch) // 2
                warnings.warn(f"too little memory: now {self.batch_size} images at once ({error})", stacklevel=2)
            else:
                start += len(batch)
        return np.concatenate(found)

    def item(self, prepared, questions):
        """What the pipeline makes of a row with several questions."""
        return {**prepared, "questions": list(questions), "several": True, "groups": [None] * len(questions)}

    def prepared(self, images):
        """What the pipeline makes of images of one size."""
        return [self.pipe.prepare(image) for image in images] if self.steps.light else prepare(self.pipe, images)

    def outputs(self, items):
        """Name -> array (n, ...), a row for each question of some items."""
        if self.steps.light:
            return self.pipe.outputs(items)
        found = self.pipe.forward(self.pipe.collate(items))
        return {name: found[name].float().cpu().numpy() for name in found if name.endswith("_logits")}

    def load(self, image):
        if self.steps.light:
            return load_image(embedded(image) if isinstance(image, dict) else image, self.pipe.sources)
        return self.pipe.processor.image_processor.load(image)

    def vocabularies(self):
        """Head -> its answers, in the order of its logits."""
        if self.steps.light:
            return self.pipe.decoder.answers
        return {"binary": self.pipe.processor.binary_answers, "open_ended": self.pipe.processor.all_answers}

    def log_odds(self, outputs):
        """(n,). From the logits: of a score near 1 nothing would be left of 1 - p."""
        shares = self.log_shares(outputs, self.question_type)  # (n, N)
        yes, no = shares[:, self.index], log_sum(np.delete(shares, self.index, axis=1))
        if self.routed:
            router, place = self.log_shares(outputs, "question_type"), QUESTION_TYPES.index(self.question_type)
            yes, no = yes + router[:, place], np.logaddexp(no + router[:, place], router[:, 1 - place])
        return yes - no

    def log_shares(self, outputs, name):
        """(n, N) logarithms of the probabilities that a head or the router gives."""
        calibration = (self.pipe.decoder if self.steps.light else self.pipe.processor).calibration or {}
        logits = outputs[f"{name}_logits"].astype(np.float64) / calibration.get("temperatures", {}).get(name, 1.0)
        if not np.isfinite(logits).all():
            raise ValueError(
                f"found {name} logits that aren't finite: damaged weights, or too large values of an input"
            )
        return logits - log_sum(logits)[:, None]

    def shrunk(self, image):
        """The image no larger than a model sees it: masked copies need no resizing then, which would take most time."""
        sizes = [resized_to(image.size, wanted) for wanted in map(self.wanted_size, self.members()) if wanted]
        if len(sizes) < len(self.members()):
            return image  # one that takes any size
        size = tuple(map(max, zip(*sizes)))
        smaller = size != image.size and all(new <= old for new, old in zip(size, image.size))
        return image.resize(size, RESAMPLING["bilinear"]) if smaller else image

    def members(self):
        return getattr(self.pipe, "members", [self.pipe])

    def wanted_size(self, pipe):
        """A dict as `resized_to` takes it, or None where images aren't resized."""
        if self.steps.light:
            return pipe.settings["image"]["resize"]
        image_processor = pipe.processor.image_processor
        return {k: v for k, v in dict(image_processor.size).items() if v} if image_processor.do_resize else None


def find_answer(vocabularies, answer):
    """The head that has an answer, and its place there.

    Upper and lower case are the same, and so are spaces and a full stop around it, where no answer is written so.

    Raises:
        ValueError: none of them has it, or it is no text.
    """
    if not isinstance(answer, str):
        raise ValueError(f"expected an answer as text, one of the model's, found {answer!r:.100}")
    for form in (str.casefold, bare):
        for head, answers in vocabularies.items():
            if form(answer) in (forms := [form(known) for known in answers]):
                return head, forms.index(form(answer))
    known = [known for answers in vocabularies.values() for known in answers]
    spelled = {word.casefold(): word for word in known}
    close = [spelled[word] for word in difflib.get_close_matches(answer.casefold(), spelled)]
    hint = (
        f"did you mean {', '.join(close)}?"
        if close
        else f"it has {', '.join(known[:10])}" + ", ..." * (len(known) > 10)
    )
    kind = f" {next(iter(vocabularies))}" if len(vocabularies) == 1 else ""
    raise ValueError(f"{answer!r} is none of the model's {len(known)}{kind} answers; {hint}")


def bare(answer):
    return answer.casefold().strip().removesuffix(".").rstrip()


def prepare(pipe, images):
    """As the pipeline's own `prepare`, of all images in one call, which takes a tenth of the time."""
    if hasattr(pipe, "members"):
        return [{"members": list(own)} for own in zip(*(prepare(member, images) for member in pipe.members))]
    pixel_values = pipe.processor(images=images, return_tensors="pt")["pixel_values"]
    return [{"key": None, "pixel_values": pixel_values[number : number + 1]} for number in range(len(images))]


def log_sum(values):
    return np.logaddexp.reduce(values, axis=-1)


def uncached(pipe):
    """The same pipeline with no memory for images: masked ones would drive out those that are asked about."""
    other = copy.copy(pipe)
    if hasattr(pipe, "members"):
        other.members = [uncached(member) for member in pipe.members]
    elif hasattr(pipe, "image_cache"):
        other.image_cache = EmbeddingCache(0)
    else:
        other.images = type(pipe.images)(0)
    return other
