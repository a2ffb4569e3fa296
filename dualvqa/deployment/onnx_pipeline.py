"""Answers from the ONNX files of `onnx_export`, through the pipeline of the PyTorch model."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from modeling_dualvqa import DualVQAConfig, DualVQAOutput, DualVQAPipeline
from processing import DualVQAProcessor

from .onnx_export import FORMAT, MANIFEST, file_hash

# onnxruntime's fusion of an addition with the layer norm behind it takes eight times as long on CPUs as the two.
SLOWER = ["SkipLayerNormFusion"]


class OnnxModel(nn.Module):
    """What the pipeline and a caller need of a model, computed by onnxruntime.

    Args:
        config: [`DualVQAConfig`].
        sessions: part -> `onnxruntime.InferenceSession`.
    """

    memory = None  # that of the exported model is inside the files: it can be asked, and not be taught

    def __init__(self, config, sessions):
        super().__init__()
        self.config, self.sessions = config, sessions
        self.device, self.dtype = torch.device("cpu"), torch.float32

    @classmethod
    def from_pretrained(cls, folder, providers=("CPUExecutionProvider",), threads=None):
        """
        Args:
            folder: what `export_onnx` wrote.
            providers: onnxruntime's, in order of preference.
            threads: how many a computation takes; onnxruntime chooses when left out.

        Raises:
            ValueError: the folder has no ONNX files of this format, or one of them is missing or was changed.
            ImportError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"ONNX files need the extra 'onnx': pip install dualvqa[onnx] ({error})") from error
        options = onnxruntime.SessionOptions()
        # Each part has threads of its own, which would wait for work in a busy loop while the next part computes.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        sessions = {}
        for name in checked_files(folder):
            if name.endswith(".onnx"):
                sessions[name.removesuffix(".onnx")] = onnxruntime.InferenceSession(
                    os.path.join(folder, name), options, providers=providers, disabled_optimizers=SLOWER
                )
        return cls(DualVQAConfig.from_pretrained(folder), sessions)

    def run(self, part, **inputs):
        """The outputs of one part by name, as tensors. Inputs that it doesn't take are left out."""
        if part not in self.sessions:
            raise ValueError(f"this folder has {', '.join(self.sessions)}, and not {part}; export that part too")
        session = self.sessions[part]
        taken = [item.name for item in session.get_inputs()]
        found = session.run(None, {name: inputs[name].numpy() for name in taken})
        return {item.name: torch.from_numpy(array) for item, array in zip(session.get_outputs(), found)}

    def encode_images(self, pixel_values):
        return self.run("vision", pixel_values=pixel_values.float())["image_embeds"]

    def encode_questions(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.run("text", input_ids=input_ids, attention_mask=mask)["text_embeds"]

    def answer(self, image_embeds, text_embeds, attention_mask=None, image_index=None, question_index=None, **kwargs):
        """[`DualVQAOutput`] with the logits and the novelty; see the model's own `answer`."""
        if attention_mask is None:
            attention_mask = torch.ones(text_embeds.shape[:2], dtype=torch.long)
        image_index, question_index = rows_of(image_embeds, text_embeds, image_index, question_index)
        return DualVQAOutput(
            **self.run(
                "heads",
                image_embeds=image_embeds,
                text_embeds=text_embeds,
                attention_mask=attention_mask,
                image_index=image_index,
                question_index=question_index,
            )
        )

    def forward(
        self, input_ids, attention_mask=None, pixel_values=None, image_index=None, question_index=None, **kwargs
    ):
        """[`DualVQAOutput`] with the logits and the novelty; see the model's own `forward`."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if "model" not in self.sessions:
            texts = self.encode_questions(input_ids, mask)
            return self.answer(self.encode_images(pixel_values), texts, mask, image_index, question_index)
        image_index, question_index = rows_of(pixel_values, input_ids, image_index, question_index)
        inputs = {"input_ids": input_ids, "attention_mask": mask, "pixel_values": pixel_values.float()}
        return DualVQAOutput(**self.run("model", **inputs, image_index=image_index, question_index=question_index))

    def get_input_embeddings(self):
        return SimpleNamespace(num_embeddings=self.config.text_config.vocab_size)

    def can_generate(self):
        return False


def rows_of(images, questions, image_index, question_index):
    """Both indices; where one is left out, row after row."""
    image_index = torch.arange(len(images)) if image_index is None else image_index
    question_index = torch.arange(len(questions)) if question_index is None else question_index
    if len(image_index) != len(question_index):
        raise ValueError(f"{len(question_index)} questions and {len(image_index)} images: give image_index (B,)")
    return image_index, question_index


def read_manifest(folder):
    """
    Raises:
        ValueError: there is none, or it is of another format.
    """
    path = Path(folder, MANIFEST)
    if not path.is_file():
        raise ValueError(f"{folder} has no {MANIFEST}: expected a folder that dualvqa.deployment.onnx_export wrote")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, files = manifest["format"], manifest["files"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the model again") from error
    if found != FORMAT:
        raise ValueError(
            f"{folder} has ONNX files of format {found}, this version reads format {FORMAT}; export the model again "
            f"with this version"
        )
    if not isinstance(files, dict):
        raise ValueError(f"{path} is damaged (files is a {type(files).__name__}); export the model again")
    return manifest


def checked_files(folder):
    """The names of the files of an exported model, each with the content that it was written with.

    Raises:
        ValueError: see `read_manifest`; or a file is missing, lies elsewhere, or has another content.
    """
    files = read_manifest(folder)["files"]
    if not any(name.endswith(".onnx") for name in files):
        raise ValueError(f"{Path(folder, MANIFEST)} is damaged: it names no ONNX file; export the model again")
    for name, digest in files.items():
        path = os.path.join(folder, name)
        if os.path.basename(name) != name:
            raise ValueError(
                f"{Path(folder, MANIFEST)} is damaged: {name!r} is no file of the folder itself; export the model again"
            )
        if not os.path.isfile(path):
            raise ValueError(f"{path} is missing; export the model again")
        if file_hash(path) != digest:
            raise ValueError(
                f"{path} is not the file that was exported: its SHA-256 differs from that in {MANIFEST}. It was "
                f"damaged or replaced; copy the folder again, or export the model again"
            )
    return list(files)


def load_onnx_pipeline(folder, providers=("CPUExecutionProvider",), threads=None, **kwargs):
    """A [`DualVQAPipeline`] on the files of a folder; see `OnnxModel.from_pretrained` for the arguments."""
    model = OnnxModel.from_pretrained(folder, providers, threads)
    return DualVQAPipeline(model, DualVQAProcessor.from_pretrained(folder), **kwargs)
