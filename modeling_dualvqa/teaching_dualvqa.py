"""Teaching without training: what goes into a model's memory and out of it again, and what spoke for an answer."""

import functools
import os
import threading
import unicodedata

import torch
from transformers.utils import logging

from .memory_dualvqa import SAME_IMAGE, SAME_QUESTION, Memory
from .memory_examples_dualvqa import Examples, image_vectors, question_vectors
from .memory_texts_dualvqa import FILE

logger = logging.get_logger(__name__)

PER_EXAMPLE = ("question_keys", "image_index", "answer_index", "question_type", "taught")
BATCH = 32

teaching = threading.RLock()  # of the module, not of a pipeline: pipelines are copied and pickled, a lock can't be


def one_at_a_time(method):
    """A change of a memory begins with what the one before it has left, from whichever thread it comes."""

    @functools.wraps(method)
    def alone(*args, **kwargs):
        with teaching:
            return method(*args, **kwargs)

    return alone


class PipelineMemory:
    """The memory of a pipeline's model: `pipe.memory`.

    ```python
    pipe.memory.add(["scan_17.png"], ["is there a fracture?"], ["hairline fracture"])
    pipe.save_pretrained("taught")
    ```

    Args:
        pipe: a [`DualVQAPipeline`] of a PyTorch model.
    """

    def __init__(self, pipe):
        self.pipe = pipe

    def __len__(self):
        memory = self.pipe.model.memory
        return 0 if memory is None else len(memory)

    @one_at_a_time
    def build(self, images, questions, answers, names=None):
        """Gives the model a memory of these examples, in place of the one that it may have.

        Args:
            images, questions, answers: lists of equal length, or one of each. Images as the pipeline takes them.
            names: of the images, kept as evidence; a path's own when left out.

        Raises:
            ValueError: the lists differ in length, an answer is missing, fewer than two examples, more than there is
                room for, or a model that can't be taught.
        """
        model, rows = self.model(), Given(images, questions, answers, names)
        if len(rows.questions) < 2:
            raise ValueError(
                f"a memory needs two examples or more to know what is common to all, found {len(rows.questions)}; the "
                f"questions that the model was trained on are best"
            )
        examples, words = self.encode(rows, [])
        self.set(Memory.of(model, examples, len(words)), words)

    @one_at_a_time
    def add(self, images, questions, answers, names=None):
        """Teaches answers: they count from the next question on, also those that the vocabulary lacks.

        Asked exactly this about this image, the model gives the taught answer; a training example of the same question
        and image is hidden as long, and an earlier taught one gives way, also one of the same call: where their answers
        differ, a warning says so. `remove` undoes it.

        Args:
            images, questions, answers, names: see `build`.

        Returns:
            How many were taught: each question about an image once.

        Raises:
            ValueError: the model has no memory; or see `build`.
        """
        memory, rows = self.existing(), Given(images, questions, answers, names)
        examples, words = self.encode(rows, self.pipe.processor.memory_answers, memory.texts is not None)
        memory, words, latest = taught(memory, examples, words)
        said = torch.stack([examples.types, examples.answers])
        contrary = (said != said[:, latest]).any(dim=0).nonzero()[:, 0].tolist()
        if contrary:
            first, last = contrary[0], int(latest[contrary[0]])
            logger.warning(
                f"{len(contrary)} of {len(rows.questions)} lessons are contradicted by a later one about the same "
                f"question and image, which counts: first {rows.questions[first]!r:.100}, with the answers "
                f"{rows.answers[first]!r:.100} and {rows.answers[last]!r:.100}"
            )
        self.set(memory, words)
        return len(set(latest.tolist()))

    @one_at_a_time
    def remove(self, images, questions):
        """Takes taught answers out again: what is left is as if they had never been taught.

        Raises:
            ValueError: the model has no memory, or one of these questions about this image was never taught.
        """
        memory, rows = self.existing(), Given(images, questions)
        vectors = self.vectors(rows)
        keys, image = rounded(memory.unit("question", vectors[0])), rounded(memory.unit("image", vectors[1]))
        # All that is the same image, not the nearest alone: that may be one which was taught after it.
        same = (image @ memory.image_keys.T >= SAME_IMAGE)[vectors[2]]  # (n, I)
        found = (keys @ memory.question_keys.T >= SAME_QUESTION) & same[:, memory.image_index] & memory.taught
        unknown = (~found.any(dim=1)).nonzero()[:, 0].tolist()
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(rows.questions)} questions were never taught, first "
                f"{rows.questions[unknown[0]]!r:.100}; examples of training stay, teach another answer in their place"
            )
        self.set(*without(memory, found.any(dim=0), self.pipe.processor.memory_answers))

    @one_at_a_time
    def forget(self):
        """Takes the whole memory away; the heads answer alone."""
        self.model().forget_memory()
        self.pipe.processor.memory_answers = []

    def model(self):
        model = self.pipe.model
        if not hasattr(model, "set_memory"):
            raise ValueError(
                f"an exported model ({type(model).__name__}) can't be taught: teach the folder that it was made of, "
                f"and export it again"
            )
        return model

    def existing(self):
        memory = self.model().memory
        if memory is None:
            raise ValueError(
                "this model has no memory that could be taught: give it one of the questions that it was trained on, "
                "with pipe.memory.build(images, questions, answers), or train it with --memory"
            )
        return memory

    def set(self, memory, words):
        self.pipe.model.set_memory(memory)
        self.pipe.processor.memory_answers = words

    def encode(self, rows, memory_answers, with_texts=True):
        """[`Examples`] of rows, and the `memory_answers` with the words among them that nobody knew."""
        processor, heads = self.pipe.processor, self.pipe.model.config.heads
        words, known, binary = list(memory_answers), {}, meanings(processor)
        everything = [*processor.answers, *memory_answers]
        for form in (str, plain):  # of two words that differ in capitals alone, the one that is written like the answer
            for index, word in enumerate(everything):
                known.setdefault((form, form(word)), index)
        types, answers = [], []
        for answer in rows.answers:
            if "binary" in heads and plain(answer) in binary:
                types.append(0)
                answers.append(binary[plain(answer)])
                continue
            written = " ".join(answer.split())
            index = known.get((str, written), known.get((plain, plain(answer))))
            if index is None:
                index = known[plain, plain(answer)] = len(processor.answers) + len(words)
                words.append(written)
            types.append(1)
            answers.append(index)
        questions, images, image_index = self.vectors(rows)
        texts = [
            {"image": name, "question": question, "answer": answer}
            for name, question, answer in zip(rows.names, rows.questions, rows.answers)
        ]
        labels = (torch.tensor(values) for values in (answers, types))
        return Examples(questions, images, image_index.cpu(), *labels, texts if with_texts else None), words

    def vectors(self, rows):
        """(M, C_text) and (I, C_vision) vectors of rows, and the (M,) image of each."""
        pipe, found, images = self.pipe, [], {}
        for start in range(0, len(rows.questions), BATCH):
            chunk = slice(start, start + BATCH)
            pairs = zip(rows.images[chunk], rows.questions[chunk])
            items = [pipe.preprocess({"image": image, "question": question}) for image, question in pairs]
            with pipe.device_placement(), torch.no_grad():
                batch = pipe._ensure_tensor_on_device(pipe.collate(items), device=pipe.device)
                texts, mask = pipe.embed_questions(batch["input_ids"], batch["attention_mask"])
                questions = question_vectors(texts, mask)[batch["question_index"]]
                of_images = image_vectors(pipe.embed_images(batch["images"]))
            for place, question in zip(batch["image_index"].tolist(), questions):
                vector = of_images[place]
                number, _ = images.setdefault(vector.cpu().numpy().tobytes(), (len(images), vector))
                found.append((question, number))
        index = torch.tensor([number for _, number in found], device=pipe.device)
        vectors = torch.stack([q for q, _ in found]), torch.stack([vector for _, vector in images.values()])
        return *vectors, index


class Given:
    """Lists of images, questions, answers and names of one length.

    Raises:
        ValueError: they differ in length, are empty, or a question or an answer is no text.
    """

    def __init__(self, images, questions, answers=None, names=None):
        one = isinstance(questions, str)
        if not one and isinstance(answers, str):
            raise ValueError(f"expected a list of answers, one for each question, found the text {answers!r:.100}")
        self.questions, self.images = ([questions], [images]) if one else (list(questions), list(images))
        self.answers = None if answers is None else [answers] if one else list(answers)
        names = [names] if one and names is not None else names
        self.names = [name_of(image) for image in self.images] if names is None else list(names)
        lists = {"images": self.images, "answers": self.answers, "names": self.names}
        for name, values in lists.items():
            if values is not None and len(values) != len(self.questions):
                raise ValueError(f"expected {len(self.questions)} {name}, one for each question, found {len(values)}")
        if not self.questions:
            raise ValueError("expected questions about images, found none")
        for number, question in enumerate(self.questions):
            if not isinstance(question, str):
                raise ValueError(f"expected a text as question {number}, found {question!r:.100}")
        for number, answer in enumerate(self.answers or ()):
            if not isinstance(answer, str) or not plain(answer):
                raise ValueError(f"expected a text as answer to question {number}, found {answer!r:.100}")


def name_of(image):
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else ""


def plain(answer):
    """The form by which answers are compared here: without capitals, further white space and a full stop at the end.

    Other signs are a part of what is meant: A+ is not A-, nor is >5 cm 5 cm.
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", answer).casefold())
    return " ".join(text.split()).removesuffix(".").rstrip()


def rounded(vectors):
    """As they are saved."""
    return vectors.half().float()


def matches(memory, keys, places):
    """(n, M) which examples have the same question, and the image of that number."""
    return (keys @ memory.question_keys.T >= SAME_QUESTION) & (places[:, None] == memory.image_index)


def taught(memory, examples, words):
    """The memory with these examples as taught ones, the `memory_answers` that it then needs, and (n,) of each example
    the number of the last one with its question and image, which counts.

    Args:
        memory: a [`Memory`]; it stays as it is.
        examples: [`Examples`] that the same model encoded.
        words: `memory_answers` with those of the examples.
    """
    keys, images = rounded(memory.unit("question", examples.questions)), rounded(memory.unit("image", examples.images))
    image_keys, places = memory.image_keys, []
    for image in images:
        best, place = (image_keys @ image).max(dim=0)
        if best < SAME_IMAGE:
            place, image_keys = len(image_keys), torch.cat([image_keys, image[None]])
        places.append(int(place))
    image_index = torch.tensor(places, device=keys.device)[examples.image_index.to(keys.device)]
    earlier = (matches(memory, keys, image_index) & memory.taught).any(dim=0)
    again = (keys @ keys.T >= SAME_QUESTION) & (image_index[:, None] == image_index)
    numbers = torch.arange(len(keys), device=keys.device)
    latest = torch.where(again, numbers, numbers[:, None]).amax(dim=1)
    last = latest == numbers
    new = {
        "question_keys": keys,
        "image_index": image_index,
        "answer_index": examples.answers.to(keys.device),
        "question_type": examples.types.to(keys.device),
        "taught": torch.ones(len(keys), dtype=torch.bool, device=keys.device),
    }
    fields = {name: torch.cat([getattr(memory, name)[~earlier], new[name][last]]) for name in PER_EXAMPLE}
    texts = None
    if memory.texts is not None:
        texts = [*kept(memory.texts, ~earlier), *kept(examples.texts, last)]
    return *rebuilt(memory, {**fields, "image_keys": image_keys}, words, texts), latest.cpu()


def without(memory, gone, words):
    """The memory without some examples, and those of its `memory_answers` that are left; `memory` stays as it is."""
    fields = {name: getattr(memory, name)[~gone] for name in PER_EXAMPLE}
    texts = None if memory.texts is None else kept(memory.texts, ~gone)
    return rebuilt(memory, {**fields, "image_keys": memory.image_keys}, words, texts)


def kept(items, choice):
    return [item for item, stays in zip(items, choice.tolist()) if stays]


def rebuilt(memory, fields, words, texts):
    """A memory of these examples with the parameters and means of another, and its `memory_answers`.

    Images and words that no example has are left out.
    """
    images, fields["image_index"] = fields["image_index"].unique(return_inverse=True)
    fields["image_keys"] = fields["image_keys"][images]
    known = memory.settings["answers"]
    new = (fields["question_type"] == 1) & (fields["answer_index"] >= known)
    used, places = fields["answer_index"][new].unique(return_inverse=True)
    fields["answer_index"][new] = known + places
    words = [words[index - known] for index in used.tolist()]
    sizes = {"examples": len(fields["question_keys"]), "images": len(images), "new_answers": len(words)}
    settings = {name: value for name, value in memory.settings.items() if name != "texts"}  # they are others now
    other = Memory({**settings, **sizes})
    for name, buffer in other.named_buffers():
        if name != "hidden":  # found below
            buffer.copy_(fields[name] if name in fields else getattr(memory, name))
    other.texts, other.push_texts = texts, memory.push_texts
    for number in other.taught.nonzero()[:, 0].tolist():
        about = (other.image_index == other.image_index[number]).nonzero()[:, 0]
        same = other.question_keys[about] @ other.question_keys[number] >= SAME_QUESTION
        other.hidden[about[same & ~other.taught[about]]] = True
    return other.to(memory.question_keys.device), words


def meanings(processor):
    """Each word that means yes or no, in plain writing -> its index in the yes/no head."""
    rules, found = processor.answer_rules or {}, {}
    for index, word in enumerate(("no", "yes")):
        found |= {plain(own): index for own in (word, *rules.get(f"{word}_answers", ()))}
    return found


def add_evidence(answers, outputs, model, processor, count):
    """Gives each answer `evidence`: the examples that spoke for it, the most similar first, at most `count`.

    Args:
        answers: for each question what `post_process_question_answering` gives.
        outputs: `memory_indices`, `memory_weights` and `memory_similarities` of the model.
        model, processor: the pipeline's.
        count: a whole number from 1.
    """
    memory = model.memory
    words = {
        "binary": {word: index for index, word in enumerate(processor.binary_answers)},
        "open_ended": {word: index for index, word in enumerate(processor.all_answers)},
    }
    columns = (outputs[f"memory_{name}"].tolist() for name in ("indices", "similarities", "weights"))
    for best, neighbours in zip(answers, zip(*columns)):
        spoke = [
            (int(memory.question_type[index]), int(memory.answer_index[index]), index, similarity, weight)
            for index, similarity, weight in zip(*neighbours)
            if weight > 0
        ]
        for item in best:
            kind = list(words).index(item["question_type"])
            said = kind, words[item["question_type"]][item.get("best_guess", item["answer"])]
            item["evidence"] = [
                {**memory.texts[index], "similarity": similarity, "weight": weight}
                for *means, index, similarity, weight in spoke
                if tuple(means) == said
            ][:count]


def check_evidence(model, count):
    """
    Raises:
        ValueError: `count` is no whole number from 1, or the model has no memory with texts.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"evidence must be a whole number from 1, how many examples to show; found {count!r:.100}")
    memory = getattr(model, "memory", None)
    if memory is None or memory.texts is None:
        found, todo = "no memory", "give it one with texts"
        if memory is not None:
            found, todo = "a memory without texts", f"put its own {FILE} back, or give it another memory"
        raise ValueError(
            f"evidence={count} asks for the examples that spoke for an answer, and this model has {found}: {todo}, by "
            f"training with --memory, or from Python without training"
        )
