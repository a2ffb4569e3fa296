"""Answers from the ONNX files of `onnx_export`, through the pipeline of the PyTorch model."""

from types import SimpleNamespace

import torch
from torch import nn

from dualvqa_light.evidence import Evidence
from dualvqa_light.folder import open_sessions, read_manifest
from modeling_dualvqa import DualVQAConfig, DualVQAOutput, DualVQAPipeline
from processing import DualVQAProcessor


class ExportedMemory(Evidence):
    """What the pipeline and an explanation need of a memory: its examples. Their keys are in the ONNX files."""

    def buffers(self):
        return ()


class OnnxModel(nn.Module):
    """What the pipeline and a caller need of a model, computed by onnxruntime.

    Args:
        config: [`DualVQAConfig`].
        sessions: part -> `onnxruntime.InferenceSession`.
        memory: [`ExportedMemory`] where the texts of its examples were exported. The memory itself is inside the files:
            it answers, and can't be taught.
    """

    def __init__(self, config, sessions, memory=None):
        super().__init__()
        self.config, self.sessions, self.memory = config, sessions, memory
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
        sessions, texts = open_sessions(folder, providers, threads), read_manifest(folder).get("evidence")
        return cls(DualVQAConfig.from_pretrained(folder), sessions, ExportedMemory(folder, texts) if texts else None)

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
        """[`DualVQAOutput`] with the logits and the novelties; see the model's own `answer`."""
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
        """[`DualVQAOutput`] with the logits and the novelties; see the model's own `forward`."""
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


def load_onnx_pipeline(folder, providers=("CPUExecutionProvider",), threads=None, **kwargs):
    """A [`DualVQAPipeline`] on the files of a folder; see `OnnxModel.from_pretrained` for the arguments."""
    model = OnnxModel.from_pretrained(folder, providers, threads)
    return DualVQAPipeline(model, DualVQAProcessor.from_pretrained(folder), **kwargs)
