"""The visual-question-answering pipeline. It carries data from one step to the next and decides nothing itself."""

import types
from collections.abc import Iterable, Mapping

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, get_worker_info
from transformers import Pipeline
from transformers.pipelines.pt_utils import KeyDataset, PipelineDataset, PipelineIterator

from .embedding_cache_dualvqa import EmbeddingCache, file_digest, tensor_digest, weights_version

SEQUENCES = (list, tuple, KeyDataset)


class DualVQAPipeline(Pipeline):
    """Answers questions about images.

    ```python
    pipe(image="picture.png", question="is it red?", top_k=3)
    pipe({"image": "picture.png", "question": ["is it red?", "what color is it?"]})
    ```

    An image may be a path, a URL, a PIL image or an array. Each different image and each different question of a batch
    is encoded once, and not at all when it is known from before: the embeddings used last are kept by content.

    Args:
        embedding_cache_mib: how many MiB of embeddings are kept for each of images and questions; 0 keeps none.
        image_sources: which images are opened for this pipeline: "any", "objects" for bytes and image objects alone, or
            a dict of `ImageSources`' fields; what the image processor has when left out.

    Raises:
        ValueError: model and processor don't belong together, or there is no processor.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, model, processor=None, embedding_cache_mib=64, image_sources=None, **kwargs):
        if processor is None:
            raise ValueError("a model instance needs its processor: pipeline(..., model=model, processor=processor)")
        processor.check_model(model)
        if embedding_cache_mib < 0:
            raise ValueError(f"embedding_cache_mib must not be negative, found {embedding_cache_mib}")
        if image_sources is not None:
            processor = processor.with_image_sources(image_sources)
        super().__init__(model.eval(), processor=processor, **kwargs)  # an instance may come fresh from training
        self.images = EmbeddingCache(int(embedding_cache_mib * 2**20))
        self.questions = EmbeddingCache(int(embedding_cache_mib * 2**20))

    def _sanitize_parameters(self, top_k=None, question_type=None, abstain=None):
        given = {"top_k": top_k, "question_type": question_type, "abstain": abstain}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def __call__(self, image=None, question=None, **kwargs):
        """
        Args:
            image: one image and `question` one question, or one of them or both a list: every question is asked about
                every image, image by image. Two columns of a data set (`KeyDataset`) go row by row. Without `question`
                dicts with `image` and `question`: one, a list, a generator or a data set of them.
            question: see above. In a dict too it may be a list.
            top_k: how many answers to give, best first; 1 when left out.
            question_type: "binary" or "open_ended" chooses the head; the model does when left out.
            abstain: False answers every question, True leaves those below the stored threshold unanswered; when left
                out they are where there is a threshold.
            batch_size: how many images are encoded together, with all their questions.

        Returns:
            For each question a list of dicts `answer`, `score` (a probability) and `question_type`; see the processor's
            `post_process_question_answering`. One question gives one such list; a list in a list; generators and data
            sets an iterator, which computes when it is asked.
        """
        if question is None:
            # What neither transformers nor torch knows as a stream: a datasets.Dataset, an iterator of one's own.
            known = (Mapping, list, types.GeneratorType, Dataset, str)
            inputs = (row for row in image) if isinstance(image, Iterable) and not isinstance(image, known) else image
            return super().__call__(inputs, **kwargs)
        columns = isinstance(image, KeyDataset) or isinstance(question, KeyDataset)
        if isinstance(image, KeyDataset) and isinstance(question, KeyDataset):
            if len(image) != len(question):
                raise ValueError(f"expected as many images as questions, found {len(image)} and {len(question)}")
            return super().__call__(({"image": i, "question": q} for i, q in zip(image, question)), **kwargs)
        images = image if isinstance(image, SEQUENCES) else [image]
        questions = list(question) if isinstance(question, SEQUENCES) else question
        rows = ({"image": image, "question": questions} for image in images)
        if columns:
            return super().__call__(rows, **kwargs)
        answers = super().__call__(list(rows), **kwargs)
        if isinstance(questions, list):
            answers = [best for of_one_image in answers for best in of_one_image]
        return answers if isinstance(image, SEQUENCES) or isinstance(questions, list) else answers[0]

    def preprocess(self, inputs):
        if not isinstance(inputs, Mapping) or not {"image", "question"} <= set(inputs):
            found = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(f"expected a dict with image and question, found {found}")
        if inputs["image"] is None:
            raise ValueError(f"expected an image for the question {inputs['question']!r}, found None")
        questions = inputs["question"]
        several = isinstance(questions, SEQUENCES)
        questions = list(questions) if several else [questions]
        for question in questions or [""]:
            if not isinstance(question, str) or not question.strip():
                raise ValueError(f"expected a question as text, found {question!r}")
        return {"questions": questions, "several": several, **self.prepare(inputs["image"])}

    def prepare(self, image):
        """An image as its key and its pixels, or in their place the embedding from before."""
        key = file_digest(image) if self.images.max_bytes else None
        if key is not None:
            key = (key, str(self.processor.image_processor), weights_version(self.model))
            # A worker's copy of the cache knows only what was there when the worker started.
            known = self.images.get(key) if get_worker_info() is None else None
            if known is not None:
                return {"key": key, "image_embeds": known}
        pixel_values = self.processor(images=image, return_tensors="pt")["pixel_values"]
        if key is None and self.images.max_bytes:
            key = (tensor_digest(pixel_values), weights_version(self.model))
        return {"key": key, "pixel_values": pixel_values}

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
        kept = {name: value for name, value in outputs.items() if name.endswith("_logits") or name == "novelty"}
        return {**kept, "item_index": model_inputs["item_index"], "several": model_inputs["several"]}

    def embed_images(self, images):
        """(U, 1 + S, C_vision) of the images of a batch, computed or known."""
        embeds = [image.get("image_embeds") for image in images]
        embeds = [self.images.get(image["key"]) if e is None else e for image, e in zip(images, embeds)]
        new = [place for place, embedding in enumerate(embeds) if embedding is None]
        if new:
            computed = self.model.encode_images(torch.cat([images[place]["pixel_values"] for place in new]))
            for place, embedding in zip(new, computed):
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
            for place, embedding, real in zip(new, computed, mask[new][:, columns]):
                embeds[place] = embedding[real] if len(embedding) == len(real) else embedding  # pooled has no padding
                self.questions.put(keys[place], embeds[place])
        lengths = torch.tensor([len(embedding) for embedding in embeds], device=input_ids.device)
        attention_mask = (torch.arange(int(lengths.max()), device=input_ids.device) < lengths[:, None]).long()
        return pad_sequence(embeds, batch_first=True), attention_mask

    def postprocess(self, model_outputs, top_k=1, question_type=None, abstain=None):
        """For each image of the batch its question's answers, or a list of them where it had a list of questions."""
        answers = self.processor.post_process_question_answering(model_outputs, top_k, question_type, abstain)
        by_item = [[] for _ in model_outputs["several"]]
        for place, best in zip(model_outputs["item_index"].tolist(), answers):
            by_item[place].append(best)
        return [best if several else best[0] for best, several in zip(by_item, model_outputs["several"])]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        kind = PipelineDataset if hasattr(inputs, "__len__") else PipelineIterator
        items = kind(inputs, self.preprocess, preprocess_params)
        for batch in DataLoader(items, batch_size, num_workers=num_workers, collate_fn=self.collate):
            yield from self.postprocess(self.forward(batch, **forward_params), **postprocess_params)

    def run_single(self, inputs, *params):
        return next(self.get_iterator([inputs], 0, 1, *params))

    def save_pretrained(self, save_directory, **kwargs):
        """Leaves the complete folder: model, processor, code and card."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id, **kwargs):
        """Pushes model and processor; see theirs."""
        self.model.push_to_hub(repo_id, **kwargs)
        return self.processor.push_to_hub(repo_id, **kwargs)


def different(keys):
    """The different keys in the order of their first places, and for each key which of these it is."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return list(numbers), [numbers[key] for key in keys]
