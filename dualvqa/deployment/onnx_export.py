"""A saved model -> a folder with ONNX files and all that answering with them needs: dualvqa export"""

import copy
import json
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from dualvqa.training.building import load_model
from dualvqa_light.folder import FORMAT, MANIFEST, file_hash, import_onnxruntime
from modeling_dualvqa.memory_index_dualvqa import INDEXED
from processing.image_processing_dualvqa import made_size

from .description import describe
from .older_code import tell_other_code
from .onnx_weights import make_smaller
from .optimize import optimize_for_inference

logger = logging.getLogger(__name__)

QUANTIZATIONS = (None, "float16", "int8")
LARGEST_FILE = 2**31 - 2**26  # bytes: a protobuf, less what else is in it
LONGEST = 512  # tokens of a text tower whose positions are relative, as T5's


class VisionPart(nn.Module):
    """pixel_values (U, 3, H, W) -> image_embeds (U, 1 + S, C_vision)."""

    inputs, outputs = {"pixel_values": ("images",)}, ("image_embeds",)

    def __init__(self, model, heads):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.encode_images(pixel_values)


class TextPart(nn.Module):
    """input_ids, attention_mask (V, T) -> text_embeds (V, T, C_text)."""

    inputs = {"input_ids": ("questions", "tokens"), "attention_mask": ("questions", "tokens")}
    outputs = ("text_embeds",)

    def __init__(self, model, heads):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model.encode_questions(input_ids, attention_mask)


class PooledHeadsPart(nn.Module):
    """Embeddings of U images and V questions and the (B,) rows that ask them -> the logits of the heads.

    Of a model with familiarity the novelties (B,) too, and of one with a memory `MEMORY` (B, k).
    """

    inputs = {"image_embeds": ("images",), "text_embeds": ("questions",)}
    inputs |= {"image_index": ("rows",), "question_index": ("rows",)}

    def __init__(self, model, heads):
        super().__init__()
        self.model = model
        names = [*heads, "question_type"] if len(heads) == 2 else heads
        self.outputs = tuple(f"{name}_logits" for name in names)
        if model.familiarity is not None:
            towers = isinstance(model.config.familiarity, dict)
            self.outputs += ("image_novelty", "question_novelty") if towers else ("novelty",)
        if model.memory is not None:
            self.outputs += MEMORY

    def forward(self, image_embeds, text_embeds, image_index, question_index):
        return self.chosen(self.model.answer(image_embeds, text_embeds, None, image_index, question_index))

    def chosen(self, output):
        return tuple(output[name] for name in self.outputs)


class SequenceHeadsPart(PooledHeadsPart):
    """The same for a fusion that reads sequences, with the (V, T) mask of the questions' padding."""

    inputs = {"image_embeds": ("images",), "text_embeds": ("questions", "tokens")}
    inputs |= {"attention_mask": ("questions", "tokens"), "image_index": ("rows",), "question_index": ("rows",)}

    def forward(self, image_embeds, text_embeds, attention_mask, image_index, question_index):
        return self.chosen(self.model.answer(image_embeds, text_embeds, attention_mask, image_index, question_index))


class WholePart(PooledHeadsPart):
    """Pixels and token ids -> the logits of the heads."""

    inputs = {**TextPart.inputs, **VisionPart.inputs, "image_index": ("rows",), "question_index": ("rows",)}

    def forward(self, input_ids, attention_mask, pixel_values, image_index, question_index):
        return self.chosen(self.model(input_ids, attention_mask, pixel_values, image_index, question_index))


def heads_part(model, heads):
    return (SequenceHeadsPart if model.fusion.uses_sequences else PooledHeadsPart)(model, heads)


PARTS = {"vision": VisionPart, "text": TextPart, "heads": heads_part, "model": WholePart}
MEMORY = ("memory_indices", "memory_similarities", "memory_weights")
SEPARATE = ("vision", "text", "heads")


def export_onnx(model, output_dir, processor=None, parts=SEPARATE, heads=None, quantization=None):
    """Writes a model as ONNX files, with any number of images, questions, tokens and rows.

    Args:
        model: a [`DualVQAForQuestionAnswering`], or a saved folder, which has the processor too.
        output_dir: folder for `<part>.onnx`, configuration, processor and `onnx.json`, which says what is there and how
            images and questions are read.
        processor: saved beside the files when given; a pipeline needs it.
        parts: which of "vision", "text", "heads" and "model", the three in one file.
        heads: which of the model's heads, all when left out. With one of them there is no router.
        quantization: "float16" for weights that are stored in half the bytes and computed with in float32; "int8" for
            8-bit weights of matrix products and word embeddings, activations quantised as they come, and float16 for
            the others.

    Raises:
        ValueError: a part, head or quantisation that doesn't exist.
        ImportError: onnx, onnxscript or onnxruntime is not installed.
    """
    if isinstance(model, (str, Path)):
        tell_other_code(model)
        model, processor = load_model(model)
    known_heads = list(model.config.heads)
    heads = list(known_heads if heads is None else heads)
    for given, known, name in (
        (parts, PARTS, "parts"),
        (heads, known_heads, "heads"),
        ([quantization], QUANTIZATIONS, "quantization"),
    ):
        if not given or not set(given) <= set(known):
            raise ValueError(f"{name} must be of {', '.join(map(str, known))}; found {', '.join(map(str, given))}")
    heads = [head for head in known_heads if head in heads]
    check_packages()
    if model.memory is not None:
        check_memory(model.memory)
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    model = optimize_for_inference(model.float().cpu())
    files = {}
    for name in parts:
        logger.info("exporting %s", name)
        path = output_dir / f"{name}.onnx"
        export_part(PARTS[name](model, heads), path, image_size(model, processor))
        if quantization is not None:
            make_smaller(path, quantization)
        files |= {file.name: file_hash(file) for file in sorted(output_dir.glob(f"{path.name}*"))}  # also its data
    model.config.heads, described = heads, {}
    model.config.save_pretrained(output_dir)
    if processor is not None:
        if len(heads) == 1 and len(known_heads) == 2 and processor.calibration:
            # Its threshold was chosen on scores that have the router's probability in them.
            processor = copy.copy(processor)
            processor.calibration = {k: v for k, v in processor.calibration.items() if k != "abstention"}
        processor.save_pretrained(output_dir)
        described = describe(processor)
        if described["question"]:
            name = described["question"]["tokenizer"]
            files[name] = file_hash(output_dir / name)
    manifest = {"format": FORMAT, "quantization": quantization, "torch": torch.__version__, "heads": heads}
    manifest |= {"files": files, **described}
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (output_dir / MANIFEST).write_text(text + "\n", encoding="utf-8")
    logger.info("written: %s", ", ".join(name for name in files if ".onnx" in name))


def check_memory(memory):
    """The files have no index of a memory, and all of its keys.

    Raises:
        ValueError: more keys than an ONNX file can hold.
    """
    size = sum(buffer.nbytes for buffer in memory.buffers())
    if size > LARGEST_FILE:
        raise ValueError(
            f"the memory of {len(memory):,} examples takes {size:,} bytes, and an ONNX file can have {LARGEST_FILE:,}: "
            f"export a model with a smaller one, or answer with the folder itself"
        )
    if len(memory) > INDEXED:
        logger.warning(
            "an exported model compares each question with all %s examples of its memory: up to %.0f ms on one core",
            f"{len(memory):,}",
            len(memory) / 4000,
        )


def check_packages():
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        import_onnxruntime()
    except ImportError as error:
        raise ImportError(f"ONNX files need the extra 'onnx': pip install dualvqa[onnx] ({error})") from error


def image_size(model, processor):
    """(height, width) of the images that the processor makes; without one, the vision tower's."""
    if processor is not None:
        return made_size(processor.image_processor)
    size = getattr(model.config.vision_config, "image_size", None) or 224
    return (size, size) if isinstance(size, int) else size


def export_part(part, path, size):
    """Writes one part; its named axes are dynamic, images are of `size`."""
    inputs = sample_inputs(part, size)
    # Of 2 and more: a size of 1 would be taken for a constant, and two equal ones for the same.
    dims = {axis: torch.export.Dim(axis, min=1, max=2**20) for axes in part.inputs.values() for axis in axes}
    if "tokens" in dims:
        longest = getattr(part.model.config.text_config, "max_position_embeddings", None) or LONGEST
        dims["tokens"] = torch.export.Dim("tokens", min=2, max=longest)
    shapes = {name: {place: dims[axis] for place, axis in enumerate(axes)} for name, axes in part.inputs.items()}
    with torch.no_grad(), warnings.catch_warnings():
        # Two axes that are as long, such as rows of image_index and question_index, have one name.
        warnings.filterwarnings("ignore", message=".*it shares the same shape constraints", category=UserWarning)
        torch.onnx.export(
            part.eval(),
            (),
            str(path),
            kwargs=inputs,
            input_names=list(inputs),
            output_names=list(part.outputs),
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def sample_inputs(part, size):
    """Inputs of a part: 3 images of `size`, 5 questions of 6 tokens, the last one padded, in 7 rows."""
    model = part.model
    mask = torch.ones(5, 6, dtype=torch.long)
    mask[-1, -2:] = 0
    found = {
        "pixel_values": torch.randn(3, 3, *size),
        "input_ids": torch.ones(5, 6, dtype=torch.long),
        "attention_mask": mask,
        "image_index": torch.tensor([0, 0, 1, 1, 2, 2, 0]),
        "question_index": torch.tensor([0, 1, 2, 3, 4, 0, 1]),
    }
    if "image_embeds" in part.inputs:
        with torch.no_grad():
            found["image_embeds"] = model.encode_images(found["pixel_values"])
            found["text_embeds"] = model.encode_questions(found["input_ids"], mask)
    return {name: found[name] for name in part.inputs}
