"""A saved folder behind HTTP, as Hugging Face's Inference Endpoints call it: the class of the folder's handler.py."""

import os
from collections.abc import Mapping
from pathlib import Path

HANDLER = '''"""What Hugging Face's Inference Endpoints call; handler_dualvqa.py beside it says how."""

from pathlib import Path

from transformers.dynamic_module_utils import get_class_from_dynamic_module

HERE = str(Path(__file__).resolve().parent)
EndpointHandler = get_class_from_dynamic_module("handler_dualvqa.EndpointHandler", HERE)
'''
PARAMETERS = ("top_k", "question_type", "abstain", "coverage", "group", "evidence", "truncation")
ALLOW_HOSTS = "DUALVQA_ALLOW_HOSTS"  # an environment variable: an endpoint can be told nothing else
EXPECTED = 'expected {"inputs": {"image": ..., "question": ...}, "parameters": {...}}'


class EndpointHandler:
    """
    ```python
    handler = EndpointHandler("path/to/this/folder")
    handler({"inputs": {"image": "<base64>", "question": "is it red?"}, "parameters": {"top_k": 3}})
    # [{"answer": "yes", "score": 0.98, "question_type": "binary"}, ...]
    ```

    Args:
        path: the saved folder; or a pipeline that is there already.
        image_sources: what the pipeline may open, see [`ImageSources`]. When left out the images that requests bring,
            and URLs of the hosts that the environment variable DUALVQA_ALLOW_HOSTS lists, separated by commas; `*` for
            any of the open internet.
    """

    def __init__(self, path="", image_sources=None):
        if callable(path):
            self.pipe = path
            return
        import torch
        from transformers import pipeline

        sources = allowed(os.environ.get(ALLOW_HOSTS, "")) if image_sources is None else image_sources
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.pipe = pipeline(
            "visual-question-answering", model=path, trust_remote_code=True, image_sources=sources, device=device
        )

    def __call__(self, data):
        """
        Args:
            data: a dict `inputs` and `parameters`. `inputs` is a dict with `image` (base64 text, a data URL, a URL
                where those are allowed; bytes and PIL images too) and `question`, a text or a list of some; or a list
                of such dicts. `parameters` may have the pipeline's `top_k`, `question_type`, `abstain`, `coverage`,
                `group`, `evidence` and `truncation`.

        Returns:
            What the pipeline gives: a list of dicts `answer`, `score`, `question_type`, and with the parameter
            `evidence` so many of the memory's examples that spoke for the answer; for a list of questions a list of
            these; for a list of inputs a list of either, in which one that can't be answered is a dict `error`.

        Raises:
            ValueError: something else was found, or evidence was asked for where no texts of a memory were kept; of a
                list of inputs only where it is none.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"{EXPECTED}, found a {type(data).__name__}")
        options, inputs = checked(data.get("parameters")), data.get("inputs")
        if isinstance(inputs, (list, tuple)):
            return self.answer_each(list(map(row_of, inputs)), options)
        if not isinstance(inputs, Mapping):  # as huggingface_hub's client sends it: the question is beside the image
            inputs = {"image": data.get("image", inputs), "question": data.get("question")}
        return self.pipe(row_of(inputs), **options)

    def answer_each(self, rows, options):
        """The answers to each row, together where all of them can be answered."""
        try:
            return self.pipe(rows, batch_size=8, **options) if rows else []
        except ValueError as error:
            if len(rows) == 1:
                return [{"error": str(error)}]
            middle = len(rows) // 2
            return [*self.answer_each(rows[:middle], options), *self.answer_each(rows[middle:], options)]


def row_of(found):
    """A dict with image and question, and nothing else."""
    if not isinstance(found, Mapping) or not {"image", "question"} <= set(found):
        names = sorted(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"{EXPECTED}, found {names} as inputs")
    return {"image": found["image"], "question": found["question"]}


def checked(parameters):
    """The options of a call.

    Raises:
        ValueError: one that isn't, such as `num_workers`.
    """
    if not isinstance(parameters, (Mapping, type(None))):
        raise ValueError(f"{EXPECTED}, found a {type(parameters).__name__} as parameters")
    unknown = set(parameters or ()) - set(PARAMETERS)
    if unknown:
        raise ValueError(f"parameters may have {', '.join(PARAMETERS)}; found {sorted(map(str, unknown))[0]!r:.100}")
    return {name: value for name, value in (parameters or {}).items() if value is not None}


def allowed(hosts):
    """The image sources of a server whose images may come from some hosts besides."""
    names = [name.strip() for name in hosts.split(",") if name.strip()]
    return {"folders": [], "hosts": None if names == ["*"] else names}


def write_handler(folder):
    """Writes the handler.py of a saved folder."""
    Path(folder, "handler.py").write_text(HANDLER, encoding="utf-8", newline="\n")
