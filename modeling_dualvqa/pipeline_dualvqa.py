"""The visual-question-answering pipeline. It carries data from one step to the next and decides nothing itself."""

from transformers import Pipeline


class DualVQAPipeline(Pipeline):
    """Answers a question about an image: `pipe(image=..., question=...)`, or dicts with these two keys.

    Images may be paths, URLs, PIL images or arrays. `top_k` says how many answers come back, best first, as dicts with
    `answer`, `score` and `question_type`; `question_type` ("binary" or "open_ended") chooses the head.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def _sanitize_parameters(self, top_k=None, question_type=None):
        given = {"top_k": top_k, "question_type": question_type}
        return {}, {}, {name: value for name, value in given.items() if value is not None}

    def __call__(self, image=None, question=None, **kwargs):
        """
        Args:
            image: one image; or dicts with `image` and `question`, one, a list or a generator of them.
            question: the question about it.

        Returns:
            A list of answers for one question; a list of such lists for several.
        """
        inputs = image if question is None else {"image": image, "question": question}
        return super().__call__(inputs, **kwargs)

    def preprocess(self, inputs):
        if not isinstance(inputs, dict) or not {"image", "question"} <= set(inputs):
            found = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise ValueError(f"expected a dict with image and question, found {found}")
        if not str(inputs["question"]).strip():
            raise ValueError("the question is empty")
        batch = self.processor(images=inputs["image"], text=str(inputs["question"]), return_tensors="pt")
        return batch.to(self.dtype)

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, top_k=1, question_type=None):
        return self.processor.post_process_question_answering(model_outputs, top_k, question_type)[0]
