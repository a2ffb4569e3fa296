"""The visual-question-answering pipeline. It carries data from one step to the next and decides nothing itself."""

import types
from collections.abc import Iterable, Mapping

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Pipeline
from transformers.pipelines.pt_utils import KeyDataset, PipelineDataset, PipelineIterator

SEQUENCES = (list, tuple, KeyDataset)


class DualVQAPipeline(Pipeline):
    """Answers questions about images.

    ```python
    pipe(image="picture.png", question="is it red?", top_k=3)
    pipe({"image": "picture.png", "question": ["is it red?", "what color is it?"]})
    ```

    An image may be a path, a URL, a PIL image or an array. Several questions about one image encode it once.

    Raises:
        ValueError: model and processor don't belong together, or there is no processor.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, model, processor=None, **kwargs):
        if processor is None:
            raise ValueError("a model instance needs its processor: pipeline(..., model=model, processor=processor)")
        processor.check_model(model)
        super().__init__(model.eval(), processor=processor, **kwargs)  # an instance may come fresh from training

    def _sanitize_parameters(self, top_k=None, question_type=None):
        given = {"top_k": top_k, "question_type": question_type}
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
            batch_size: how many images are encoded together, with all their questions.

        Returns:
            For each question a list of dicts `answer`, `score` (a probability) and `question_type`. One question gives
            one such list; a list in a list; generators and data sets an iterator, which computes when it is asked.
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
        encoded = self.processor(images=inputs["image"], text=questions, return_tensors="pt")
        return {"questions": questions, "pixel_values": encoded["pixel_values"], "several": several}

    def collate(self, items):
        """Images with their questions -> one batch of the model, each image once."""
        questions = [question for item in items for question in item["questions"]]
        counts = torch.tensor([len(item["questions"]) for item in items])
        return {
            **self.processor(text=questions, return_tensors="pt"),
            "pixel_values": torch.cat([item["pixel_values"] for item in items]),
            "image_index": torch.arange(len(items)).repeat_interleave(counts),
            "several": [item["several"] for item in items],
        }

    def _forward(self, model_inputs):
        several = model_inputs.pop("several")
        outputs = self.model(**model_inputs, return_dict=True)
        logits = {name: scores for name, scores in outputs.items() if name.endswith("_logits")}
        return {**logits, "image_index": model_inputs["image_index"], "several": several}

    def postprocess(self, model_outputs, top_k=1, question_type=None):
        """For each image of the batch its question's answers, or a list of them where it had a list of questions."""
        answers = self.processor.post_process_question_answering(model_outputs, top_k, question_type)
        by_image = [[] for _ in model_outputs["several"]]
        for place, best in zip(model_outputs["image_index"].tolist(), answers):
            by_image[place].append(best)
        return [best if several else best[0] for best, several in zip(by_image, model_outputs["several"])]

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
