"""Explanations by gradients: what in the image spoke for an answer, and which words of the question mattered.

Four readings of one answer: Grad-CAM over the image grid, LayerCAM over a finer one, the fusion's attention to the
image grid, and gradient times input of the words. None of them is the reason itself; benchmarks/explanation.py measures
what they are worth, beside what hiding places and words shows.
"""

import contextlib
import difflib
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dualvqa.deployment.optimize import Int8Embedding, Int8Linear
from modeling_dualvqa.teaching_dualvqa import add_evidence
from processing import AnswerRules
from processing.image_processing_dualvqa import crop_of

SHOWN_EVIDENCE = 3
DETAIL = 4  # how much finer than the last feature map that of the detail map is


@dataclass
class GradientExplanation:
    """What spoke for an answer, in the image and in the question.

    Args:
        question, answer: what was asked, and the answer that is explained.
        score: probability of the answer, as the pipeline gives it.
        question_type: the answer's head, "binary" or "open_ended".
        image_map: (h, w) Grad-CAM in units of the logit, 0 where the image doesn't speak for the answer; see
            [`grad_cam`].
        attention_map: (h, w) attention of the question's tokens to each place of the grid, mean over the fusion's
            blocks, heads and tokens. Its sum is below 1, because the image's pooled vector, which is attended to as
            well, has no place and is left out. None for a fusion that reads pooled vectors only.
        tokens: the words and punctuation marks of the question as far as the model read them; what the tokenizer cut
            off is not among them.
        token_scores: gradient times input of each, in units of the logit: positive for the answer, negative against
            it; see [`gradient_times_input`].
        special_tokens, special_scores: likewise of what the tokenizer adds, such as [CLS] and [SEP].
        detail_map: (4h, 4w) or finer, LayerCAM of an earlier feature map; see [`layer_cam`]. It shows edges and colours
            where Grad-CAM shows places, and less of what the whole network made of them. None for a tower that doesn't
            become coarser, or keeps its feature maps to itself.
        evidence: examples of the model's memory that spoke for the answer, at most `SHOWN_EVIDENCE`, each a dict with
            `image`, `question`, `answer`, `similarity` and `weight`. None of a model without a memory or its texts.
        crop: `size` and `crop_size` of an image processor that shows the model the centre of an image alone: the maps
            are of that part, see `seen_part`. None where it shows all of it.
    """

    question: str
    answer: str
    score: float
    question_type: str
    image_map: np.ndarray
    attention_map: np.ndarray | None
    tokens: list
    token_scores: np.ndarray
    special_tokens: list
    special_scores: np.ndarray
    detail_map: np.ndarray | None = None
    evidence: list | None = None
    crop: dict | None = None


def explain_by_gradients(source, image, question, answer=None, question_type=None):
    """Explains one answer to one question about one image.

    The model is left as it was: its mode, its gradients and what requires them, its attention implementation.

    Args:
        source: a [`DualVQAPipeline`], or a tuple of model and processor.
        image: anything that the processor takes: path, URL, PIL image, array.
        answer: the answer to explain; the model's best one when left out.
        question_type: "binary" or "open_ended" chooses the head; when left out, it is the head that has the given
            answer, or the one that the model chooses.

    Returns:
        [`GradientExplanation`].

    Raises:
        ValueError: an answer that the vocabulary doesn't have, a question type that the model has no head for, not
            one question or not one image, an ensemble, a model that has no gradients (int8, compiled, ONNX), or a
            vision tower without a grid that the answer depends on.
    """
    if hasattr(source, "members"):
        raise ValueError("an ensemble has no map of its own; explain its members one by one")
    if not isinstance(source, (tuple, list)) and not hasattr(source, "model"):
        raise ValueError(f"gradients need a model in PyTorch, found a {type(source).__name__}, which has none")
    model, processor = source if isinstance(source, (tuple, list)) else (source.model, source.processor)
    check_gradients(model)
    processor.check_model(model)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"expected one question as text, found {question!r}")
    words, special = group_tokens(processor.tokenizer, question)
    with left_as_it_was(model), torch.inference_mode(False), torch.enable_grad():
        inputs = processor(images=image, text=[question], return_tensors="pt").to(model.device)
        if len(inputs["pixel_values"]) != 1:
            raise ValueError(f"expected one image, found {len(inputs['pixel_values'])}; explain them one by one")
        # All that is computed from the pixels has a gradient then, whatever of the model is frozen.
        inputs["pixel_values"].requires_grad_()
        outputs, seen = run_recorded(model, inputs)
        target, logit = find_target(processor, outputs, answer, question_type)
        if model.memory is not None and model.memory.texts is not None:
            add_evidence([[target]], outputs, model, processor, SHOWN_EVIDENCE)
        maps = [states for states in seen["maps"] if states.requires_grad]
        word_gradient, *gradients = torch.autograd.grad(logit, [seen["words"], *maps], allow_unused=True)
        tower = model.vision_encoder
        feature_map, gradient = choose_map(tower, maps, gradients, seen["patches"])
        detail = choose_detail(maps, gradients, feature_map.shape[1:])
    scores = as_array(gradient_times_input(seen["words"], word_gradient)[0])  # (T,)
    return GradientExplanation(
        question,
        **target,
        image_map=as_array(grad_cam(feature_map, gradient)),
        attention_map=attention_map(model, seen["attentions"], feature_map.shape[1:]),
        tokens=[word for word, _ in words],
        token_scores=np.array([scores[places].sum() for _, places in words]),
        special_tokens=[token for token, _ in special],
        special_scores=np.array([scores[places].sum() for _, places in special]),
        detail_map=detail and as_array(layer_cam(*detail)),
        crop=crop_of(processor.image_processor),
    )


def grad_cam(feature_map, gradient):
    """Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): (C, h, w) and the logit's gradient at it -> (h, w).

    The weight of a channel is the mean of its gradient over the map; ReLU keeps what speaks for the answer.
    """
    weights = gradient.mean(dim=(1, 2))  # (C,)
    return torch.einsum("c,chw->hw", weights, feature_map).relu()


def layer_cam(feature_map, gradient):
    """LayerCAM (Jiang et al. 2021, equations 5 to 7): (C, h, w) and the logit's gradient at it -> (h, w).

    Each place of a channel has its own weight, its positive gradient, where Grad-CAM takes the mean over the map: in an
    earlier map the same channel speaks for the answer in one place and against it in another.
    """
    return (gradient.relu() * feature_map).sum(dim=0).relu()


def gradient_times_input(embeddings, gradient):
    """(B, T, C) word embeddings and the logit's gradient at them -> (B, T), their product summed over the width.

    To first order, that is what the logit would lose if the embedding were zero (Simonyan et al. 2014; Shrikumar et
    al. 2016). The sign stays: it says whether the word speaks for the answer.
    """
    return (embeddings.float() * gradient.float()).sum(dim=-1)


def check_gradients(model):
    """
    Raises:
        ValueError: the model has none: it runs elsewhere than in torch, has 8-bit layers or compiled towers.
    """
    if not isinstance(model, nn.Module) or next(model.parameters(), None) is None:  # that of ONNX files has none
        raise ValueError(f"expected a DualVQA model in torch, found a {type(model).__name__}, which has no gradients")
    for part in model.modules():
        kind = "int8" if isinstance(part, (Int8Linear, Int8Embedding)) else "compiled"
        if kind == "int8" or part._compiled_call_impl is not None:
            raise ValueError(f"a model with {kind} parts has no gradients; explain the model that it was made from")


def group_tokens(tokenizer, question):
    """Which tokens make a word.

    Returns:
        Two lists of pairs, a text and the places of its tokens: the question's words and punctuation marks, and what
        the tokenizer adds.

    Raises:
        ValueError: the tokenizer can't say which word a token is of.
    """
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} doesn't know its tokens' words; take its fast form")
    encoded = tokenizer(question, truncation=True, return_offsets_mapping=True)
    words, special = {}, []
    for place, word in enumerate(encoded.word_ids()):
        if word is None:
            special.append((tokenizer.convert_ids_to_tokens(encoded["input_ids"][place]), [place]))
        else:
            words.setdefault(word, []).append(place)
    ends = encoded["offset_mapping"]
    return [(question[ends[places[0]][0] : ends[places[-1]][1]].strip(), places) for places in words.values()], special


@contextlib.contextmanager
def left_as_it_was(model):
    """Evaluation mode, and attention that gives its weights; afterwards all is as before, also after an error."""
    # Not model.eval(): it would freeze again what of a frozen tower was thawed by hand, such as an adapter.
    modes = [(part, part.training) for part in model.modules()]
    attention = model.config._attn_implementation
    try:
        for part, _ in modes:
            part.training = False
        model.config._attn_implementation = {"": "eager"}  # of the fusion alone; the towers' stay
        yield
    finally:
        model.config._attn_implementation = {"": attention}
        for part, mode in modes:
            part.training = mode


def run_recorded(model, inputs):
    """A forward pass, and what explanations need of it.

    Returns:
        The [`DualVQAOutput`], and a dict with `words`, their embeddings (1, T, C), where the question's graph begins;
        `maps`, the states of the vision tower, last ones first; `patches`, (h, w) of its first convolution's output;
        and `attentions`, each fusion block's weights (1, heads, T, 1 + S) over the image.
    """
    seen, tower = {"maps": []}, model.vision_encoder
    # timm's hidden states are copies that no answer depends on, and not all of its networks have any.
    hidden = not hasattr(getattr(tower, "model", None), "timm_model")

    def start_at_words(module, args, output):
        seen["words"] = output.detach().requires_grad_()
        return seen["words"]

    def ask_for_states(module, args, options):  # of this tower alone
        return args, {**options, "output_hidden_states": hidden}

    def keep_patches(module, args, output):
        seen.setdefault("patches", tuple(output.shape[-2:]))

    def keep_last(module, args, output):
        seen["maps"].append(output.last_hidden_state)

    def keep_states(module, args, output):
        seen["maps"].extend(reversed(output.hidden_states or ()))

    def keep_attentions(module, args, output):
        seen["attentions"] = output.attentions[: model.config.fusion_num_layers]  # behind them those of the way back

    watched = [(model.get_input_embeddings(), start_at_words), (tower, keep_states), (model.fusion, keep_attentions)]
    watched += [(part, keep_patches) for part in tower.modules() if isinstance(part, nn.Conv2d)]
    if hasattr(tower, "model"):  # one of transformers; its last states needn't be among the hidden ones
        watched.append((tower.model, keep_last))
    with contextlib.ExitStack() as hooks:
        hooks.callback(tower.register_forward_pre_hook(ask_for_states, with_kwargs=True).remove)
        for part, hook in watched:
            hooks.callback(part.register_forward_hook(hook).remove)
        outputs = model(**inputs, output_hidden_states=False, output_attentions=False, return_dict=True)
    return outputs, seen


def find_target(processor, outputs, answer=None, question_type=None):
    """What is explained: a dict with answer, score and question type, and the answer's logit.

    Raises:
        ValueError: no head has that answer, or the model has no head for that question type.
    """
    ranked = {name: tensor.detach() for name, tensor in processor.rank(outputs, top_k=sys.maxsize).items()}
    ranked.pop("unfamiliar", None)  # an answer is explained whether its input is familiar and its score high or not
    if answer is None:
        best, place = processor.decode(ranked, question_type, abstain=False)[0][0], 0
        return best, logit_of(outputs, ranked, best["question_type"], place)
    heads = [head for head in ("binary", "open_ended") if f"{head}_indices" in ranked]
    known, form = [], AnswerRules.of(processor).form
    for number, head in enumerate(heads if question_type is None else [question_type]):
        for place, entry in enumerate(processor.decode(ranked, head, abstain=False)[0]):
            known.append(entry["answer"])
            if form(entry["answer"]) == form(answer):
                if question_type is None and len(heads) == 2:
                    entry["score"] *= ranked["question_type_scores"][0, number].item()
                return entry, logit_of(outputs, ranked, head, place)
    forms = {form(name): name for name in known}
    close = [forms[match] for match in difflib.get_close_matches(form(answer), forms)]
    first = ", ".join(known[:10]) + ", ..." * (len(known) > 10)
    hint = f"did you mean {', '.join(close)}?" if close else f"it has {first}"
    kind = "" if question_type is None else f"{question_type} "
    raise ValueError(f"{answer!r} is none of the model's {len(known)} {kind}answers; {hint}")


def logit_of(outputs, ranked, head, place):
    """The logit of a head's answer that is the best but `place`."""
    return outputs[f"{head}_logits"][0, ranked[f"{head}_indices"][0, place]]


def choose_map(tower, maps, gradients, patches):
    """The last feature map through whose places the image reaches the answer, and the gradient there.

    Taken at the map itself, the gradient has both ways to the answer: through the pooled vector, and through the grid.
    A convolutional tower's last map is it. A transformer whose fusion reads only the pooled state gets nothing from
    its last layer's patches; what enters that layer is the map then.

    Args:
        maps: states of the tower, last ones first: (1, C, h, w), or (1, S, C) of patches and what stands before them.
        gradients: of the logit at each; None where it doesn't depend on it.
        patches: (h, w) of the tower's first convolution.

    Returns:
        Two tensors (C, h, w).

    Raises:
        ValueError: there is none.
    """
    for states, gradient in zip(maps, gradients):
        if gradient is None:
            continue
        grid = grid_of(states, patches)
        if grid is None:
            break
        gradient = as_grid(gradient, grid)
        if states.ndim == 4 or gradient.any():
            return as_grid(states, grid), gradient
    network = getattr(tower, "model", tower)
    name = f"{type(network).__name__} ({getattr(network.config, 'architecture', network.config.model_type)})"
    shape = tuple(maps[0].shape) if maps else None
    raise ValueError(
        f"expected a vision tower that gives a grid, and an answer that depends on it; found {name} with last states "
        f"of shape {shape}; a model with fusion_type='cross_attention' reads all that a tower gives"
    )


def choose_detail(maps, gradients, grid):
    """The last feature map that is `DETAIL` times as fine as a grid, and its gradient: (C, h, w) each, or None."""
    for states, gradient in zip(maps, gradients):
        if gradient is not None and states.ndim == 4:
            if all(fine >= DETAIL * coarse for fine, coarse in zip(states.shape[2:], grid)):
                return states[0].detach().float(), gradient[0].detach().float()
    return None


def grid_of(states, patches):
    """(h, w) of feature maps (1, C, h, w), or of patches (1, S, C); None where they are no grid.

    Patches are as many as the tower's first convolution makes, with others before them ([CLS], registers), or that
    halved as often as the tower merges them.
    """
    if states.ndim == 4:
        return tuple(states.shape[-2:])
    if states.ndim != 3 or patches is None:
        return None
    height, width = patches
    if height * width <= states.shape[1]:
        return height, width
    while height * width > states.shape[1]:
        height, width = (height + 1) // 2, (width + 1) // 2
    return (height, width) if height * width == states.shape[1] else None


def as_grid(states, grid):
    """(1, C, h, w), or (1, S, C) whose last states are the grid's -> (C, h, w)."""
    if states.ndim == 4:
        return states[0].detach().float()
    height, width = grid
    return states[0, -height * width :].detach().float().T.unflatten(1, grid)


def attention_map(model, attentions, grid):
    """Each block's weights (1, heads, T, 1 + S) -> (h, w), their mean; None where the fusion has no grid."""
    if not model.fusion.uses_sequences:
        return None
    height, width = grid
    weights = torch.cat(list(attentions), dim=1).float().mean(dim=(1, 2))[0]  # (1 + S,); one question has no padding
    return as_array(weights[-height * width :].unflatten(0, tuple(grid)))


def as_array(tensor):
    return tensor.detach().float().cpu().numpy()
