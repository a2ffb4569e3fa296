"""The pipeline on exported files alone: called as `DualVQAPipeline` is, and giving the same answers."""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import islice

import numpy as np

from .cache import EmbeddingCache
from .decoding import Decoder
from .evidence import Evidence, check_evidence
from .folder import MANIFEST, open_sessions, read_manifest
from .image_loading_dualvqa import CONTENT, TEXT, embedded, load_image
from .image_sources_dualvqa import PRESETS, ImageSources
from .manifest_checks import check_fields, check_graphs
from .preprocessing import to_pixels
from .questions import Questions

CUT = (None, True, "longest_first", "only_first")
TRUNCATIONS = (*CUT, False, "do_not_truncate")
KEY_DATASET = "KeyDataset"  # transformers' column of a data set, which can't be imported here
PADDINGS = (None, True, False, "longest", "max_length", "do_not_pad")


@dataclass(frozen=True)
class Options:
    """Options of a call; see [`LightPipeline`]."""

    top_k: int = 1
    question_type: object = None
    abstain: bool | None = None
    coverage: float | None = None
    group: str | None = None
    truncation: object = None
    timeout: float | None = None
    batch_size: int = 1
    num_workers: int = 0
    padding: object = None
    evidence: int | None = None

    def __post_init__(self):
        for name, known in (("truncation", TRUNCATIONS), ("padding", PADDINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}; found {getattr(self, name)!r}")
        if isinstance(self.group, (list, tuple)):
            raise ValueError(
                "group must be that of all questions; to ask about several, give rows, each a dict with image, "
                "question and group"
            )
        for name, least in (("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, found {value!r}")

    @classmethod
    def of(cls, given):
        """
        Raises:
            TypeError: an option that there isn't.
        """
        known = [spec.name for spec in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise TypeError(f"unknown options: {', '.join(unknown)}; there are {', '.join(known)}")
        return cls(**{name: value for name, value in given.items() if value is not None})


class LightPipeline:
    """Answers questions about images, from what `dualvqa export` wrote, without torch.

    ```python
    pipe(image="photo.png", question="is it red?", top_k=3)
    pipe({"image": "photo.png", "question": ["is it red?", "what color is it?"]})
    ```

    Each different image and each different question of a batch is encoded once, and not at all when it is known from
    before. Threads may share a pipeline.

    Args:
        folder: the exported folder.
        providers: onnxruntime's, in order of preference.
        threads: how many a computation takes; onnxruntime chooses when left out.
        embedding_cache_mib: how many MiB of embeddings are kept for each of images and questions; 0 keeps none.
        image_sources: which images are opened: "any", "objects" for bytes and image objects alone, or a dict of
            `ImageSources`' fields.

    Raises:
        ValueError: no exported folder of this format, a file that is missing or was changed, or nothing in it that says
            how images and questions are read.
    """

    def __init__(
        self, folder, providers=("CPUExecutionProvider",), threads=None, embedding_cache_mib=64, image_sources="any"
    ):
        if not embedding_cache_mib >= 0:
            raise ValueError(f"embedding_cache_mib must not be negative, found {embedding_cache_mib}")
        self.settings = read_settings(folder)
        self.questions = Questions(folder, self.settings["question"])
        self.decoder = Decoder(self.settings["answers"], self.settings["calibration"])
        texts = self.settings.get("evidence")
        self.sources = ImageSources.of(PRESETS["any"] if image_sources is None else image_sources)
        self.sessions = open_sessions(folder, providers, threads)
        self.evidence = Evidence(folder, texts) if texts else None
        check_graphs(folder, self.settings, self.sessions)
        self.image_cache = EmbeddingCache(int(embedding_cache_mib * 2**20))
        self.question_cache = EmbeddingCache(int(embedding_cache_mib * 2**20))

    def __call__(self, image=None, question=None, **options):
        """
        Args:
            image: one image and `question` one question, or one of them or both a list: every question is asked about
                every image, image by image. Two columns of a data set go row by row. Without `question` dicts with
                `image` and `question`, and `group` where it is another than that of the call: one, a list, or a
                generator of them. An image may be a path, a URL, bytes,
                base64 text, a PIL image or an array.
            question: see above. In a dict too it may be a list.
            top_k: how many answers to give, best first; 1 when left out.
            question_type: "binary" or "open_ended" chooses the head; the model does when left out.
            abstain: False answers every question, True leaves those below the stored threshold unanswered; when left
                out they are where there is a threshold.
            coverage: as many answers as it takes for the right one to be among them in this share of cases, such as
                0.9, in place of `top_k`.
            group: of the questions, for a model whose promises were made by a column.
            evidence: how many of the memory's examples that spoke for an answer are given with it; none when left out.
                Their texts must have been exported.
            batch_size: how many images are encoded together, with all their questions; 1 when left out.
            num_workers: threads that open the images of the next batch while one is computed; none when left out.
            padding: taken for the sake of calls of the PyTorch pipeline. Questions of a batch are padded to the
                longest, which changes no answer.
            truncation: False refuses questions that the text tower can't read whole; they are cut when left out.
            timeout: seconds that an image's download may take.

        Returns:
            For each question a list of dicts `answer`, `score` (a probability) and `question_type`, and where that is
            so `best_guess` beside an `answer` of None, and `unfamiliar`, which of both is ({"image": True, "question":
            False}); with `evidence` a list of dicts `image`, `question`, `answer`, `similarity` and `weight`, the
            example's share in the memory's vote. One question gives one such list; a list in a list; a generator a
            generator.
        """
        options = Options.of(options)
        if question is None:
            if isinstance(image, (list, Mapping)):
                answers = list(self.stream(image if isinstance(image, list) else [image], options))
                return answers if isinstance(image, list) else answers[0]
            if isinstance(image, (str, bytes)) or hasattr(image, "ndim") or not isinstance(image, Iterable):
                raise ValueError(f"expected a dict with image and question, found {type(image).__name__}")
            return self.stream(image, options)
        if is_column(image) and is_column(question):
            if len(image) != len(question):
                raise ValueError(f"expected as many images as questions, found {len(image)} and {len(question)}")
            pairs = ({"image": image[row], "question": question[row]} for row in range(len(image)))
            return self.stream(pairs, options)
        streamed = is_column(image) or type(question).__name__ == KEY_DATASET
        question = [question[row] for row in range(len(question))] if is_column(question) else question
        if streamed:
            images = image if is_column(image) or isinstance(image, (list, tuple)) else [image]
            return self.stream(({"image": images[row], "question": question} for row in range(len(images))), options)
        several = isinstance(image, (list, tuple)), isinstance(question, (list, tuple))
        rows = [{"image": one, "question": question} for one in (image if several[0] else [image])]
        answers = list(self.stream(rows, options))
        if several[1]:
            answers = [best for of_one_image in answers for best in of_one_image]
        return answers if any(several) else answers[0]

    def stream(self, rows, options):
        """The answers to one row after another, computed batch by batch."""
        batches = in_batches(rows, options.batch_size)
        if not options.num_workers:
            for batch in batches:
                yield from self.answer([self.read(row, options) for row in batch], options)
            return
        waiting = deque()
        with ThreadPoolExecutor(options.num_workers, "dualvqa-read") as pool:
            for batch in batches:
                waiting.append([pool.submit(self.read, row, options) for row in batch])
                if len(waiting) > 1:
                    yield from self.answer([item.result() for item in waiting.popleft()], options)
            for items in waiting:
                yield from self.answer([item.result() for item in items], options)

    def read(self, row, options):
        """A dict with image and question -> its questions, and its image as the embedding from before or as pixels."""
        if not isinstance(row, Mapping) or not {"image", "question"} <= set(row):
            found = sorted(row) if isinstance(row, Mapping) else type(row).__name__
            raise ValueError(f"expected a dict with image and question, found {found}")
        if row["image"] is None:
            raise ValueError(f"expected an image for the question {row['question']!r:.100}, found None")
        several = isinstance(row["question"], (list, tuple))
        questions = list(row["question"]) if several else [row["question"]]
        if not questions:
            raise ValueError("expected a question as text or a list of some, found an empty list")
        for question in questions:
            self.questions.check(question, cut=options.truncation in CUT)
        own = {"questions": questions, "several": several, "groups": groups_of(row, questions)}
        return {**own, **self.prepare(row["image"], options.timeout)}

    def prepare(self, image, timeout=None):
        """An image as its key and its pixels (1, 3, H, W), or in their place the embedding from before."""
        if isinstance(image, (list, tuple)) or getattr(image, "ndim", 3) > 3:
            found = f"a {type(image).__name__} of {len(image)}"
            raise ValueError(f"expected one image, found {found}; give each image a row of its own")
        sources = self.sources if timeout is None else replace(self.sources, seconds=timeout)
        source = embedded(image) if isinstance(image, Mapping) else image
        if not isinstance(source, (*TEXT, *CONTENT)):
            pixels = to_pixels(load_image(source, sources), self.settings["image"])
            return {"key": hashlib.sha256(pixels).hexdigest(), "pixels": pixels}
        content = sources.read(source)
        key = hashlib.sha256(content).digest()
        known = self.image_cache.get(key)
        if known is not None:
            return {"key": key, "embedding": known}
        try:
            return {"key": key, "pixels": to_pixels(load_image(content, sources), self.settings["image"])}
        except ValueError as error:
            _, found, reason = str(error).partition(" bytes: ")
            if not found or not isinstance(source, TEXT):
                raise
            # What was decoded are the file's bytes; a person knows it by its name.
            raise ValueError(f"expected a readable image at {os.fspath(source)[:200]}: {reason}") from error

    def answer(self, items, options):
        """The answers to each of some items of `read`, a list of lists where the row had several questions."""
        if options.evidence is not None:
            check_evidence(self.evidence, options.evidence)
        outputs = self.outputs(items)
        chosen = {name: getattr(options, name) for name in ("question_type", "abstain", "coverage")}
        groups = [options.group if group is None else group for item in items for group in item["groups"]]
        best = self.decoder(outputs, options.top_k, group=groups, **chosen)
        if options.evidence is not None:
            self.evidence.add(best, outputs, self.settings["answers"], options.evidence)
        best = iter(best)
        answers = [list(islice(best, len(item["questions"]))) for item in items]
        return [found if item["several"] else found[0] for item, found in zip(items, answers)]

    def outputs(self, items):
        """Name -> array of what the model makes of some items of `read`, a row for each of their questions."""
        keys, places = different([item["key"] for item in items])
        first = dict(zip(reversed([item["key"] for item in items]), reversed(items)))
        questions, question_index = different([question for item in items for question in item["questions"]])
        image_index = np.repeat(places, [len(item["questions"]) for item in items])
        text_embeds, mask = self.embed_questions(self.questions.encode(questions))
        return self.run(
            "heads",
            image_embeds=self.embed_images(keys, [first[key] for key in keys]),
            text_embeds=text_embeds,
            attention_mask=mask,
            image_index=image_index.astype(np.int64),
            question_index=np.array(question_index, np.int64),
        )

    def embed_images(self, keys, items):
        """(U, 1 + S, C_vision) of different images, computed or known."""
        embeds = [item.get("embedding") for item in items]
        embeds = [self.image_cache.get(key) if known is None else known for key, known in zip(keys, embeds)]
        new = [place for place, known in enumerate(embeds) if known is None]
        if new:
            pixels = np.concatenate([items[place]["pixels"] for place in new])
            for place, embedding in zip(new, self.run("vision", pixel_values=pixels)["image_embeds"], strict=True):
                embeds[place] = embedding
                self.image_cache.put(keys[place], embedding)
        return np.stack(embeds)

    def embed_questions(self, ids):
        """(V, T, C_text) of different questions, computed or known, and the mask (V, T) of their padding."""
        embeds = [self.question_cache.get(one) for one in ids]
        new = [place for place, known in enumerate(embeds) if known is None]
        if new:
            input_ids, mask = self.questions.pad([ids[place] for place in new])
            computed = self.run("text", input_ids=input_ids, attention_mask=mask)["text_embeds"]
            for place, embedding, real in zip(new, computed, mask.astype(bool), strict=True):
                embeds[place] = embedding[real] if len(embedding) == len(real) else embedding  # pooled has no padding
                self.question_cache.put(ids[place], embeds[place])
        lengths = np.array([len(embedding) for embedding in embeds])
        padded = np.zeros((len(embeds), lengths.max(), *embeds[0].shape[1:]), np.float32)
        for row, embedding in zip(padded, embeds):
            row[: len(embedding)] = embedding
        return padded, (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)

    def run(self, part, **inputs):
        """The outputs of one part by name. Inputs that it doesn't take are left out."""
        session = self.sessions[part]
        found = session.run(None, {item.name: inputs[item.name] for item in session.get_inputs()})
        return {item.name: array for item, array in zip(session.get_outputs(), found)}


def read_settings(folder):
    """The manifest of an exported folder that says how images and questions are read.

    Raises:
        ValueError: see `read_manifest`; or it says nothing of them, or what can't be.
    """
    manifest = read_manifest(folder)
    for name in ("image", "question", "answers"):
        if not isinstance(manifest.get(name), Mapping):
            raise ValueError(
                f"{MANIFEST} of {folder} doesn't say how the {name} is read: the model was exported without its "
                f"processor, or with one that can't be described, as the export said then; answer with "
                f"dualvqa.load_onnx_pipeline"
            )
    check_fields(folder, manifest)
    return {"calibration": None, **manifest}


def groups_of(row, questions):
    """The group of each question of a row, None where it has none."""
    group = row.get("group")
    groups = list(group) if isinstance(group, (list, tuple)) else [group] * len(questions)
    if len(groups) != len(questions):
        raise ValueError(f"expected one group, or as many as questions, {len(questions)}; found {len(groups)}")
    return groups


def is_column(value):
    """Whether something is a column of a data set, of datasets or of transformers, whose rows are read when needed."""
    if isinstance(value, Sequence):
        return not isinstance(value, (list, tuple, *TEXT, *CONTENT))
    return type(value).__name__ == KEY_DATASET


def in_batches(rows, size):
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def different(keys):
    """The different keys in the order of their first places, and for each key which of these it is."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return list(numbers), [numbers[key] for key in keys]
