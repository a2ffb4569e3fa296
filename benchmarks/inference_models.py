"""What the benchmark of answering times: ours in every form and rivals, weights at random, and their inputs."""

import functools
import sys
import tempfile
from typing import NamedTuple

import torch
from pages import ROOT
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    CLIPConfig,
    CLIPModel,
    ViltConfig,
    ViltForQuestionAnswering,
)

sys.path.insert(0, str(ROOT))
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering

TOKENS = 12
BASE = {"model_type": "bert"}


@functools.cache
def dual(fusion="cross_attention", vision=None, text=None):
    """A model of this package; DualVQAConfig's towers where none are given."""
    torch.manual_seed(0)
    config = DualVQAConfig(fusion_type=fusion, vision_config=dict(vision or ()), text_config=text and dict(text))
    return DualVQAForQuestionAnswering(config).eval()


def rival(vision):
    """A builder of `dual` with another vision tower and BERT-base, the fusion as ours."""
    return lambda: dual(vision=tuple(vision.items()), text=tuple(BASE.items()))


def optimized(fusion="cross_attention", **options):
    def build():
        from dualvqa.deployment.optimize import optimize_for_inference

        return optimize_for_inference(dual(fusion), **options)

    return build


def onnx(fusion="cross_attention", **options):
    def build():
        from dualvqa.deployment.onnx_export import export_onnx
        from dualvqa.deployment.onnx_pipeline import OnnxModel

        with tempfile.TemporaryDirectory() as folder:
            export_onnx(dual(fusion), folder, **options)
            return OnnxModel.from_pretrained(folder)

    return build


def vilt():
    return ViltForQuestionAnswering(ViltConfig(image_size=384, num_labels=3129)).eval()  # VQA v2's answers


def blip():
    model = BlipForQuestionAnswering(BlipConfig()).eval()
    # Random weights never end an answer: three tokens, say two word pieces and the end, are asked for.
    return functools.partial(model.generate, max_new_tokens=3, min_new_tokens=3)


def clip():
    return CLIPModel(CLIPConfig()).eval()


class Row(NamedTuple):
    """`build()` gives what is called with `pixel_values`, `input_ids` and `attention_mask`."""

    build: callable
    size: int = 224
    exact: bool = True


ROWS = {
    "ours": Row(dual),
    "ours folded": Row(optimized()),
    "ours compiled": Row(optimized(compile=True)),
    "ours int8": Row(optimized(quantization="int8"), exact=False),
    "ours ONNX": Row(onnx()),
    "ours ONNX int8": Row(onnx(quantization="int8"), exact=False),
    "ours, attention": Row(lambda: dual("attention")),
    "ours, attention, folded": Row(optimized("attention")),
    "ours, attention, int8": Row(optimized("attention", quantization="int8"), exact=False),
    "ours, attention, ONNX int8": Row(onnx("attention", quantization="int8"), exact=False),
    "ResNet-34 + BERT-base": Row(rival({"architecture": "resnet34"})),
    "ResNet-50 + BERT-base": Row(rival({"architecture": "resnet50"})),
    "ViT-B/16 + BERT-base": Row(rival({"model_type": "vit"})),
    "ViLT, 384 px": Row(vilt, 384),
    "BLIP VQA, 384 px": Row(blip, 384),
    "CLIP ViT-B/32": Row(clip),
}
TOGETHER = ("ours", "ours folded", "ours int8", "ours ONNX", "ours ONNX int8")  # asked several questions
# What the cost of ours grows with, and sizes of it.
CURVES = {
    "questions about one image": (1, 2, 5, 10, 20, 40),
    "images, one question each": (1, 2, 4, 8, 16, 32),
    "tokens per question, 8 images": (8, 16, 32, 64),
    "answers in the vocabulary, 8 images": (10, 100, 1000, 10_000),
}


@functools.cache
def inputs(size, images, questions=1, tokens=TOKENS):
    """Different images, and `questions` different questions about each."""
    generator = torch.Generator().manual_seed(images)
    ids = torch.randint(1000, 30_000, (images * questions, tokens), generator=generator)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(images, 3, size, size, generator=generator),
    }
    if questions > 1:
        batch["image_index"] = torch.arange(images).repeat_interleave(questions)
    return batch


def build_rows(names):
    """name -> what is called; rows whose packages aren't installed are left out, and why."""
    models, left_out = {}, {}
    for name in names:
        torch.manual_seed(0)
        try:
            models[name] = ROWS[name].build()
        except ImportError as error:
            left_out[name] = str(error)
        print(f"{name}: {left_out.get(name, 'built')}", flush=True)
    return models, left_out
