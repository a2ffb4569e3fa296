"""Explanations of one answer: by hiding places and words, which works for every model, and by gradients."""

import contextlib
import copy
import warnings

import torch

import dualvqa_light.explanation
from dualvqa.deployment.folding import folded
from dualvqa_light import hidden_places
from dualvqa_light.explanation import Explanation
from modeling_dualvqa import DualVQAPipeline
from processing import AnswerRules

from .gradients import DETAIL, explain_by_gradients

GRADIENT_MAPS = {"grad_cam": "image_map", "layer_cam": "detail_map", "attention": "attention_map"}
LEFT_OUT = "maps of gradients can't be had and are left out: {}"
MAPS = (*hidden_places.METHODS, *GRADIENT_MAPS)

__all__ = ["MAPS", "Explanation", "explain"]


def explain(source, image, question, answer=None, question_type=None, maps=("occlusion",)):
    """Explains one answer to one question about one image: what would change it, and what it was remembered from.

    The model is left as it was.

    Args:
        source: a [`DualVQAPipeline`], also of ONNX files or an [`EnsemblePipeline`]; a [`LightPipeline`]; or a tuple of
            model and processor.
        image: anything that the pipeline takes: path, URL, PIL image, array.
        answer: the answer to explain; the model's best one when left out.
        question_type: "binary" or "open_ended" chooses the head; when left out, it is the head that has the given
            answer, or the one that the model chooses.
        maps: names of the maps to make. "occlusion", "occlusion_fine", "rise" and "combined" hide places, see
            `dualvqa_light.hidden_places`; "grad_cam", "layer_cam" and "attention" are of PyTorch models alone, see
            `explain_by_gradients`.

    Returns:
        [`Explanation`]. What can't be had, such as gradients of ONNX files, is left out with a warning.

    Raises:
        ValueError: an image or a question that can't be asked about, an answer, a type or a map that there isn't, or
            nothing but maps that can't be had.
    """
    maps = dualvqa_light.explanation.check_maps(maps, MAPS)
    if not maps:
        raise ValueError(f"expected maps to be some of {', '.join(MAPS)}; found none")
    with as_pipeline(source) as pipe:
        own = [name for name in maps if name not in GRADIENT_MAPS]
        answer = as_in_vocabulary(pipe, answer, question_type)
        found = dualvqa_light.explanation.explain(faster(pipe), image, question, answer, question_type, own)
        if len(own) < len(maps):
            try:
                add_gradient_maps(found, pipe, image, [name for name in maps if name in GRADIENT_MAPS])
            except ValueError as error:
                if not own:
                    raise
                warnings.warn(LEFT_OUT.format(error), stacklevel=2)
    found.maps = {name: found.maps[name] for name in maps if name in found.maps}
    return found


def add_gradient_maps(found, pipe, image, maps):
    """Adds maps of gradients to an [`Explanation`]; one that this model can't have is left out with a warning.

    Raises:
        ValueError: none of them can be had.
    """
    gradients = explain_by_gradients(pipe, image, found.question, found.answer, found.question_type)
    reasons = {
        "layer_cam": f"the vision tower gives no feature map {DETAIL} times as fine as its last one",
        "attention": f"the fusion {pipe.model.config.fusion_type!r} reads pooled vectors only, not places of the image",
    }
    made = {name: getattr(gradients, GRADIENT_MAPS[name]) for name in maps}
    missing = "; ".join(f"{name}: {reasons[name]}" for name, values in made.items() if values is None)
    found.crop = gradients.crop
    found.maps |= {name: values for name, values in made.items() if values is not None}
    if all(values is None for values in made.values()):
        raise ValueError(missing)
    if missing:
        warnings.warn(LEFT_OUT.format(missing), stacklevel=3)


@contextlib.contextmanager
def as_pipeline(source):
    """A pipeline as it is; a tuple of model and processor as one, which leaves the model's mode as it was."""
    if not isinstance(source, (tuple, list)):
        yield source
        return
    model, processor = source
    modes = [(part, part.training) for part in model.modules()]
    try:
        yield DualVQAPipeline(model, processor, device=model.device)
    finally:
        for part, mode in modes:  # not model.train(): parts of it may be frozen
            part.training = mode


def faster(pipe):
    """The same pipeline, whose vision tower has its batch norms folded where it runs on a CPU: many images follow."""
    if hasattr(pipe, "members"):
        other = copy.copy(pipe)
        other.members = [faster(member) for member in pipe.members]
        return other
    tower = getattr(getattr(pipe, "model", None), "vision_encoder", None)
    if tower is None or tower.training or pipe.device.type != "cpu":
        return pipe
    # What was freed is used again, in place of new memory that the system first fills with zeros: glibc does so up to
    # the largest size that it has seen freed, and no more than 32 MiB (mallopt(3), M_MMAP_THRESHOLD).
    torch.empty(2**25 - 2**13, dtype=torch.uint8)
    other, model = copy.copy(pipe), copy.copy(pipe.model)
    model._modules = {**model._modules, "vision_encoder": folded(tower)}
    # The pipeline looks at all of them with every batch, whether they have changed, and finding them takes its time.
    own = list(model.parameters()), list(model.buffers())
    model.parameters, model.buffers = (lambda *_, tensors=tensors: iter(tensors) for tensors in own)
    other.model = model
    return other


def as_in_vocabulary(pipe, answer, question_type):
    """An answer as the vocabulary writes it, found by its normal form; as it is where it isn't found."""
    if not isinstance(answer, str) or not hasattr(pipe, "processor"):
        return answer
    form, processor = AnswerRules.of(pipe.processor).form, pipe.processor
    heads = {"binary": processor.binary_answers, "open_ended": processor.all_answers}
    known = [word for head, words in heads.items() if question_type in (None, head) for word in words]
    return next((word for word in known if form(word) == form(answer)), answer)
