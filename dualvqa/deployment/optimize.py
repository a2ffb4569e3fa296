"""A model made ready to answer on a CPU: batch norms folded, int8 linear layers, compiled towers."""

import copy
import warnings

import torch
from torch import nn

from .folding import fold_batch_norms

QUANTIZATIONS = ("int8",)


def optimize_for_inference(model, quantization=None, compile=False):
    """A copy of a model that only answers, faster.

    Batch norms of the vision tower are folded into the convolutions before them and its weights laid out channels
    last, which changes results by rounding alone.

    Args:
        model: a [`DualVQAForQuestionAnswering`]; it is left as it is.
        quantization: "int8" for 8-bit weights: linear layers of towers and fusion with activations quantised as they
            come (one scale per tensor), word embeddings with one scale per row. Heads keep their precision. CPU only.
        compile: compile the towers with torch.compile. The first answers, and the first of another image size or number
            of images, wait for the compiler.

    Returns:
        The model in evaluation mode, without gradients. It can't be trained or saved.

    Raises:
        ValueError: a quantisation that doesn't exist or that this hardware can't do, or no compiler.
    """
    check_quantization(quantization, model.device)
    if compile:
        check_compiler()
    model = copy.deepcopy(model).eval().requires_grad_(False)
    fold_batch_norms(model.vision_encoder)
    model.vision_encoder.to(memory_format=torch.channels_last)
    if quantization == "int8":
        for part in (model.vision_encoder, model.text_encoder, model.text_projection, model.visual_projection):
            quantize_int8(part)
        model.text_projection, model.visual_projection = map(
            int8_twin, (model.text_projection, model.visual_projection)
        )
        quantize_int8(model.fusion)
    if compile:
        # A tower of convolutions can't be compiled for any size, and the text tower should be for any length.
        model.vision_encoder.compile(dynamic=False, options={"freezing": True})
        model.text_encoder.compile(dynamic=True)
    return model


def check_quantization(quantization, device):
    """
    Raises:
        ValueError: it doesn't exist, or this hardware can't do it.
    """
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be None or one of {', '.join(QUANTIZATIONS)}; found {quantization!r}")
    if device.type != "cpu":
        raise ValueError(
            f"int8 quantisation runs on a CPU, the model is on {device}; move it there, or use dtype= there"
        )
    engines = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
    if not engines:
        raise ValueError(
            "int8 quantisation needs one of torch's engines (x86, onednn, qnnpack), and this build has none"
        )


def check_compiler():
    """
    Raises:
        ValueError: torch.compile finds no C++ compiler.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ValueError(
            "torch.compile needs a C++ compiler and finds none; install g++ or clang, or leave it"
        ) from error


def quantize_int8(module):
    """Replaces the linear layers and word embeddings inside a module."""
    for name, child in module.named_children():
        twin = int8_twin(child)
        if twin is child:
            quantize_int8(child)
        else:
            setattr(module, name, twin)


def int8_twin(layer):
    """The 8-bit form of a linear layer or a word embedding; any other layer itself."""
    if type(layer) is nn.Linear:
        return Int8Linear(layer)
    # Tables of a few rows, of positions and token types, are no larger than their scales are worth.
    if type(layer) is nn.Embedding and layer.num_embeddings > 1000:
        return Int8Embedding(layer)
    return layer


def row_scales(weight):
    """One scale per row of (rows, C), so that its largest weight becomes 127."""
    return weight.abs().amax(dim=1).clamp(min=1e-8) / 127


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, one scale per output, and activations quantised as they come."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # torch is going to remove them one day. What it has in their place takes two to three times as long for one
            # question: see CONTRIBUTING.md.
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor, torch.quantize_per_channel")
            quantized = torch.quantize_per_channel(weight, row_scales(weight).double(), zeros, 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias)
        # Without VNNI instructions, sums of two 8-bit products can overflow: 7 bits for activations then.
        self.reduce_range = torch.backends.quantized.engine in ("x86", "fbgemm") and not torch.cpu._is_vnni_supported()

    def forward(self, states):
        return torch.ops.quantized.linear_dynamic(states.float(), self.packed, self.reduce_range).to(states.dtype)


class Int8Embedding(nn.Module):
    """An embedding with 8-bit rows and one scale for each."""

    def __init__(self, embedding):
        super().__init__()
        self.num_embeddings, self.embedding_dim = embedding.num_embeddings, embedding.embedding_dim
        weight = embedding.weight.detach()
        scales = row_scales(weight.float())
        self.register_buffer("scales", scales[:, None].to(weight.dtype))
        self.register_buffer("rows", (weight.float() / scales[:, None]).round().to(torch.int8))

    def forward(self, ids):
        return self.rows[ids].to(self.scales.dtype) * self.scales[ids]
