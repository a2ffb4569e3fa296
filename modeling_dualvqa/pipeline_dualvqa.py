"""The visual-question-answering pipeline. It carries data from one step to the next and decides nothing itself."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from transformers import Pipeline
from transformers.pipelines.pt_utils import KeyDataset, PipelineDataset, PipelineIterator
from transformers.utils import logging

from .embedding_cache_dualvqa import EmbeddingCache, tensor_digest, weights_version
from .teaching_dualvqa import PipelineMemory, add_evidence, check_evidence

logger = logging.get_logger(__name__)

PUSH_OPTIONS = ("push_to_hub", "repo_id", "commit_message", "commit_description", "private", "token", "revision")
PUSH_OPTIONS += ("create_pr", "tags")
ONE = (str, bytes, bytearray, memoryview)  # an image or a question, though Python calls it a sequence
PADDINGS = (None, True, False, "longest", "max_length", "do_not_pad")
TRUNCATIONS = (None, True, False, "longest_first", "only_first", "do_not_truncate")


@dataclasses.dataclass
class Rows(Dataset):
    """Rows by number, so that workers can share them.

    Args:
        images: images, or whole rows where there is no `question`.
        question: what is asked about each image, or with `paired` about the image of the same number.
    """

    images: object
    question: object = None
    paired: bool = False

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        image = self.images[number]
        if self.question is None:
            return image
        return {"image": image, "question": self.question[number] if self.paired else self.question}


class DualVQAPipeline(Pipeline):
    """Answers questions about images.

    ```python
    pipe(image="image.png", question="is it red?", top_k=3)
    pipe({"image": "image.png", "question": ["is it red?", "what color is it?"]})
    ```

    An image may be a path, a URL, a PIL image or an array. Each different image and each different question of a batch
    is encoded once, and not at all when it is known from before: the embeddings used last are kept by content.

    Args:
        embedding_cache_mib: how many MiB of embeddings are kept for each of images and questions; 0 keeps none.
        image_sources: which images are opened for this pipeline: "any", "objects" for bytes and image objects alone, or
            a dict of `ImageSources`' fields; what the image processor has when left out.

    Raises:
        ValueError: model and processor don't belong together, there is no processor, or what one of them holds can't be
            worked with, such as weights that aren't finite.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, model, processor=None, embedding_cache_mib=64, image_sources=None, **kwargs):
        if processor is None:
            raise ValueError("a model instance needs its processor: pipeline(..., model=model, processor=processor)")
        processor.check_model(model)
        if not embedding_cache_mib >= 0:
            raise ValueError(f"embedding_cache_mib must not be negative, found {embedding_cache_mib}")
        if image_sources is not None:
            processor = processor.with_image_sources(image_sources)
        super().__init__(model.eval(), processor=processor, **kwargs)  # an instance may come fresh from training
        self.images = EmbeddingCache(int(embedding_cache_mib * 2**20))
        self.questions = EmbeddingCache(int(embedding_cache_mib * 2**20))

    def _sanitize_parameters(self, padding=None, truncation=None, timeout=None, **given):
        if padding not in PADDINGS or truncation not in TRUNCATIONS:
            raise ValueError(
                f"padding must be one of {PADDINGS} and truncation one of {TRUNCATIONS}; found {padding!r} and "
                f"{truncation!r}"
            )
        if given.get("evidence") is not None:
            check_evidence(self.model, given["evidence"])
        if isinstance(given.get("group"), (list, tuple)):
            raise ValueError(
                "group must be that of all questions; to ask about several, give rows, each a dict with image, "
                "question and group"
            )
        unknown = set(given) - {"top_k", "question_type", "abstain", "coverage", "group", "evidence"}
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}; see DualVQAPipeline.__call__")
        before = {"timeout": timeout, "truncation": truncation}
        return tuple(
            {name: value for name, value in options.items() if value is not None} for options in (before, {}, given)
        )

    @property
    def memory(self):
        """What the model's memory holds and can be taught: see `PipelineMemory`."""
        return PipelineMemory(self)

    def __call__(self, image=None, question=None, **kwargs):
        """
        Args:
            image: one image and `question` one question, or one of them or both a list: every question is asked about
                every image, image by image. Two columns of a data set (`KeyDataset`, or `dataset["image"]` of
                datasets) go row by row. Without `question` dicts with `image` and `question`, and `group` where it is
                another than that of the call: one, a list, a generator or a data set of them.
            question: see above. In a dict too it may be a list.
            top_k: how many answers to give, best first; 1 when left out.
            question_type: "binary" or "open_ended" chooses the head; the model does when left out.
            abstain: False answers every question, True leaves those below the stored threshold unanswered; when left
                out they are where there is a threshold.
            coverage: as many answers as it takes for the right one to be among them in this share of cases, such as
                0.9, in place of `top_k`.
            group: of the questions, for a model whose promises were made by a column.
            evidence: how many of the memory's examples that spoke for an answer are given with it; none when left out.
            batch_size: how many images are encoded together, with all their questions.
            num_workers: processes that open images. Rows from a generator or another stream are read in this process.
            truncation: False refuses questions that the text tower can't read whole; they are cut when left out.
            padding: taken for the sake of older code. Questions of a batch are padded to the longest, which changes no
                answer.
            timeout: seconds that an image's download may take.

        Returns:
            For each question a list of dicts `answer`, `score` (a probability) and `question_type`; see the processor's
            `post_process_question_answering`. With `evidence` also a list of dicts `image`, `question`, `answer`,
            `similarity` and `weight`, the example's share in the memory's vote. One question gives one such list; a
            list in a list; generators and data sets an iterator, which computes when it is asked.
        """
        if question is None:
            return [] if isinstance(image, list) and not image else super().__call__(as_stream(image), **kwargs)
        if is_column(image) and is_column(question):
            if len(image) != len(question):
                raise ValueError(f"expected as many images as questions, found {len(image)} and {len(question)}")
            return super().__call__(Rows(image, question, paired=True), **kwargs)
        images = image if is_several(image) else [image]
        questions = list(question) if is_several(question) else question
        rows = Rows(images, questions)
        if is_column(image) or isinstance(question, KeyDataset):
            return super().__call__(rows, **kwargs)
        answers = list(super().__call__(rows, **kwargs))
        if isinstance(questions, list):
            answers = [best for of_one_image in answers for best in of_one_image]
        return answers if is_several(image) or isinstance(questions, list) else answers[0]

    def preprocess(self, inputs, timeout=None, truncation=True):
        if not isinstance(inputs, Mapping) or not {"image", "question"} <= set(inputs):
            found = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(f"expected a dict with image and question, found {found}")
        if inputs["image"] is None:
            raise ValueError(f"expected an image for the question {inputs['question']!r:.100}, found None")
        questions = inputs["question"]
        several = is_several(questions)
        questions = list(questions) if several else [questions]
        if not questions:
            raise ValueError("expected a question as text or a list of some, found an empty list")
        for question in questions:
            self.processor.check_question(question, cut=truncation in (True, "longest_first", "only_first"))
        own = {"questions": questions, "several": several, "groups": groups_of(inputs, questions)}
        return {**own, **self.prepare(inputs["image"], timeout)}

    def prepare(self, image, timeout=None):
        """An image as its key and its pixels (1, 3, H, W), or in their place the embedding from before."""
        if is_several(image) or getattr(image, "ndim", 3) > 3:
            found = f"a {type(image).__name__} of {len(image)}"
            raise ValueError(f"expected one image, found {found}; give each image a row of its own")
        content, key = self.read(image, timeout), None
        if content is not None and self.images.max_bytes:
            digest = hashlib.sha256(content).hexdigest()
            key = (digest, str(self.processor.image_processor), weights_version(self.model))
            # A worker's copy of the cache knows only what was there when the worker started.
            known = self.images.get(key) if get_worker_info() is None else None
            if known is not None:
                return {"key": key, "image_embeds": known}
        try:
            found = self.processor(images=image if content is None else content, return_tensors="pt")
        except ValueError as error:
            if not isinstance(image, (str, os.PathLike)):
                raise
            # What was decoded are the file's bytes; a person knows it by its name.
            said, _, reason = str(error).partition(" bytes: ")
            path = os.fspath(image)[:200]
            named = f"expected a readable image at {path}: {reason}" if reason else f"{said} (read from {path})"
            raise ValueError(named) from error
        pixel_values = found["pixel_values"]
        if len(pixel_values) != 1:
            raise ValueError(f"expected one image, found {len(pixel_values)} in one {type(image).__name__}")
        if key is None and self.images.max_bytes:
            key = (tensor_digest(pixel_values), weights_version(self.model))
        return {"key": key, "pixel_values": pixel_values}

    def read(self, image, timeout=None):
        """The bytes of an image that is a file or a URL, so that what is hashed is what is decoded; None of others.

        Raises:
            ValueError: they can't or may not be read, or not in `timeout` seconds.
        """
        image_processor = self.processor.image_processor
        if not hasattr(image_processor, "sources"):  # one of another kind opens images itself
            return None
        if timeout is not None:
            sources = dataclasses.replace(image_processor.sources, seconds=timeout)
            image_processor = self.processor.with_image_sources(sources).image_processor
        return image_processor.read(image)

    def collate(self, items):
        """Images with their questions -> one batch, each image and question once."""
        keys = [number if item["key"] is None else item["key"] for number, item in enumerate(items)]
        images, places = different(keys)
        counts = torch.tensor([len(item["questions"]) for item in items])
        item_index = torch.arange(len(items)).repeat_interleave(counts)
        questions, question_index = different([question for item in items for question in item["questions"]])
        first_items = dict(zip(reversed(keys), reversed(items)))
        return {
            **self.processor(text=questions, return_tensors="pt"),
            "images": [first_items[key] for key in images],
            "image_index": torch.tensor(places)[item_index],
            "question_index": torch.tensor(question_index),
            "item_index": item_index,
            "several": [item["several"] for item in items],
            "groups": [group for item in items for group in item["groups"]],
        }

    def _forward(self, model_inputs):
        text_embeds, attention_mask = self.embed_questions(model_inputs["input_ids"], model_inputs["attention_mask"])
        outputs = self.model.answer(
            self.embed_images(model_inputs["images"]),
            text_embeds,
            attention_mask,
            model_inputs["image_index"],
            model_inputs["question_index"],
            return_dict=True,
        )
        kept = {name: value for name, value in outputs.items() if wanted(name)}
        return {**kept, **{name: model_inputs[name] for name in ("item_index", "several", "groups")}}

    def embed_images(self, images):
        """(U, 1 + S, C_vision) of the images of a batch, computed or known."""
        embeds = [image.get("image_embeds") for image in images]
        embeds = [self.images.get(image["key"]) if e is None else e for image, e in zip(images, embeds)]
        new = [place for place, embedding in enumerate(embeds) if embedding is None]
        if new:
            computed = self.model.encode_images(torch.cat([images[place]["pixel_values"] for place in new]))
            for place, embedding in zip(new, checked(computed, len(new)), strict=True):
                embeds[place] = embedding
                self.images.put(images[place]["key"], embedding)
        return torch.stack(embeds)

    def embed_questions(self, input_ids, attention_mask):
        """(V, T, C_text) of the questions of a batch, computed or known, and the mask of their padding."""
        mask, version = attention_mask.bool(), weights_version(self.model)
        keys = [(tuple(ids[real].tolist()), version) for ids, real in zip(input_ids, mask)]
        embeds = [self.questions.get(key) for key in keys]
        new = [place for place, embedding in enumerate(embeds) if embedding is None]
        if new:
            columns = mask[new].any(dim=0)  # what is computed may be shorter than what is known
            computed = self.model.encode_questions(input_ids[new][:, columns], attention_mask[new][:, columns])
            for place, embedding, real in zip(new, checked(computed, len(new)), mask[new][:, columns], strict=True):
                embeds[place] = embedding[real] if len(embedding) == len(real) else embedding  # pooled has no padding
                self.questions.put(keys[place], embeds[place])
        lengths = torch.tensor([len(embedding) for embedding in embeds], device=input_ids.device)
        attention_mask = (torch.arange(int(lengths.max()), device=input_ids.device) < lengths[:, None]).long()
        return pad_sequence(embeds, batch_first=True), attention_mask

    def postprocess(self, model_outputs, top_k=1, evidence=None, group=None, **options):
        """For each image of the batch its question's answers, or a list of them where it had a list of questions."""
        groups = [group if own is None else own for own in model_outputs["groups"]]
        answers = self.processor.post_process_question_answering(model_outputs, top_k, group=groups, **options)
        if evidence is not None:
            add_evidence(answers, model_outputs, self.model, self.processor, evidence)
        by_item = [[] for _ in model_outputs["several"]]
        for place, best in zip(model_outputs["item_index"].tolist(), answers):
            by_item[place].append(best)
        return [best if several else best[0] for best, several in zip(by_item, model_outputs["several"])]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        by_number = hasattr(inputs, "__len__") and not isinstance(inputs, IterableDataset)
        if num_workers and not by_number:  # each worker would read all of them
            logger.warning("rows that come one after another can't be shared: num_workers=%d counts as 0", num_workers)
            num_workers = 0
        items = (PipelineDataset if by_number else PipelineIterator)(inputs, self.preprocess, preprocess_params)
        for batch in DataLoader(items, batch_size, num_workers=num_workers, collate_fn=self.collate):
            yield from self.postprocess(self.forward(batch, **forward_params), **postprocess_params)

    def run_single(self, inputs, *params):
        return next(self.get_iterator([inputs], 0, 1, *params))

    def save_pretrained(self, save_directory, **kwargs):
        """Leaves the complete folder: model, processor, code and card; see the model's `save_pretrained`."""
        pushed = {name: kwargs.pop(name) for name in PUSH_OPTIONS if name in kwargs}
        self.model.save_pretrained(save_directory, **kwargs)
        if hasattr(self.model, "forget_memory") and self.model.memory is None:  # of other weights: the model dropped it
            self.processor.memory_answers = []
        self.processor.save_pretrained(save_directory)
        if pushed.pop("push_to_hub", False):
            self.push_to_hub(pushed.pop("repo_id", os.path.basename(os.path.abspath(save_directory))), **pushed)

    def push_to_hub(self, repo_id, tags=None, commit_message="Upload model and processor", **kwargs):
        """Pushes model and processor in one commit, or with `create_pr` as one pull request; see transformers."""
        tags = [*(self.model.model_tags or ()), *([tags] if isinstance(tags, str) else tags or ())]
        return super().push_to_hub(repo_id, tags=tags or None, commit_message=commit_message, **kwargs)

    def _upload_modified_files(self, *args, **kwargs):
        return self.model._upload_modified_files(*args, **kwargs)


def groups_of(row, questions):
    """The group of each question of a row, None where it has none."""
    group = row.get("group")
    groups = list(group) if isinstance(group, (list, tuple)) else [group] * len(questions)
    if len(groups) != len(questions):
        raise ValueError(f"expected one group, or as many as questions, {len(questions)}; found {len(groups)}")
    return groups


def is_column(value):
    """Whether something is a column of a data set, whose rows are read when they are needed."""
    return isinstance(value, KeyDataset) or (isinstance(value, Sequence) and not isinstance(value, (list, tuple, *ONE)))


def is_several(value):
    """Whether something is a list or a column of images or questions, and not one of them."""
    return isinstance(value, (list, tuple)) or is_column(value)


def wanted(name):
    """Whether an output of the model serves an answer."""
    return name.endswith(("_logits", "novelty")) or name.startswith("memory_")


def checked(embeds, count):
    """Embeddings that may be kept: one for each input.

    Raises:
        ValueError: another number of them, which would give inputs the embeddings of others.
    """
    if len(embeds) != count:
        raise ValueError(f"expected {count} embeddings for {count} inputs, found {len(embeds)}")
    return embeds


def as_stream(inputs):
    """Rows in a form that transformers streams: by number where they have one, else one after another.

    One row, a list of them, and what is no collection of rows come back as they are. Arrays and tables are none, though
    they can be iterated over.
    """
    if isinstance(inputs, KeyDataset):
        return Rows(inputs)
    if isinstance(inputs, (Mapping, list, str, bytes)) or hasattr(inputs, "ndim") or not isinstance(inputs, Iterable):
        return inputs
    if isinstance(inputs, IterableDataset) or not hasattr(inputs, "__getitem__") or not hasattr(inputs, "__len__"):
        return (row for row in inputs)
    return Rows(inputs)


def different(keys):
    """The different keys in the order of their first places, and for each key which of these it is."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return list(numbers), [numbers[key] for key in keys]
