"""A memory of answered questions: those that are most like a new one vote beside the model's heads.

k-nearest-neighbour interpolation, as Khandelwal et al. 2020 (kNN-LM, equation 3) mix a language model with the words
that followed similar contexts. Here the keys are the model's own states of questions and images, the values answers.
"""

from typing import NamedTuple

import torch
from torch import nn

from .memory_examples_dualvqa import (
    PARAMETERS,
    TYPES,
    Examples,
    check_size,
    check_weights,
    check_widths,
    checked_settings,
    image_vectors,
    narrowed,
    principal_components,
    question_vectors,
    weights_digest,
)
from .memory_index_dualvqa import MemoryIndex, faiss_for

SAME_IMAGE = 0.99  # cosine from which two image vectors are of the same image
SAME_QUESTION = 0.999
TAUGHT_SHARE = 0.95  # the least share of an answer that was taught for exactly this question and image
NOWHERE = -100.0  # cosine of what is not to be found
SCORES = 2**25  # similarities that are in memory at a time


class Neighbours(NamedTuple):
    """The k examples that are most like each of B questions, the most similar first; each field is (B, k).

    Args:
        indices: numbers of the examples.
        question, image: cosines of centred vectors; `question` is `NOWHERE` where there is no further example.
        same: 1.0 where the example is about the same image.
        answers: index of its answer, see `Examples`.
        types: 0 yes/no, 1 open-ended, -1 where there is no further example.
        taught: 1.0 where it was taught, for this image and in these words.
    """

    indices: torch.Tensor
    question: torch.Tensor
    image: torch.Tensor
    same: torch.Tensor
    answers: torch.Tensor
    types: torch.Tensor
    taught: torch.Tensor


class Mixture(NamedTuple):
    """What heads and memory say together.

    Args:
        log_probabilities: head, or "question_type" for the router -> (B, N); for "open_ended" (B, N + E).
        similarities, weights: (B, k) of the neighbours; the weights of a question sum to 1.
        share: (B,) the memory's share in the choice of the question's type, as in [0, 1].
    """

    log_probabilities: dict
    similarities: torch.Tensor
    weights: torch.Tensor
    share: torch.Tensor


class Memory(nn.Module):
    """Answered questions by what the towers make of them; its buffers are saved with the weights, in half precision.

    They stay in float32 whatever the model's precision: a product of keys in bfloat16 is off by more than what tells a
    rewording from another question.

    Args:
        settings: `config.memory`: the sizes, the parameters, the digest of the weights that made the keys, and that of
            the texts, with which it is saved.

    Raises:
        ValueError: a setting is missing or out of range, or there is too much to be kept.
    """

    def __init__(self, settings):
        super().__init__()
        self.settings = settings = checked_settings(settings)
        examples, images = settings["examples"], settings["images"]
        check_size(settings)
        for name, tower, count in (("question", "text", examples), ("image", "vision", images)):
            width, key_width = settings[f"{tower}_width"], settings[f"{name}_key_width"]
            basis = None if key_width == width else torch.zeros(width, key_width, dtype=torch.float32)
            self.register_buffer(f"{name}_keys", torch.zeros(count, key_width, dtype=torch.float32))
            self.register_buffer(f"{name}_mean", torch.zeros(width, dtype=torch.float32))
            self.register_buffer(f"{name}_basis", basis)
        self.register_buffer("image_index", torch.zeros(examples, dtype=torch.long))
        self.register_buffer("answer_index", torch.zeros(examples, dtype=torch.long))
        self.register_buffer("question_type", torch.zeros(examples, dtype=torch.long))
        self.register_buffer("taught", torch.zeros(examples, dtype=torch.bool))
        self.register_buffer("hidden", torch.zeros(examples, dtype=torch.bool))  # corrected by a taught one
        self.index = None  # of many examples, a `MemoryIndex` when it was needed
        self.texts = None  # see `Examples`
        self.push_texts = False  # whether they go to the Hub with the weights

    @classmethod
    def of(cls, model, examples, new_answers=0, **parameters):
        """A memory of examples that this model's towers encoded, for `model.set_memory`.

        Args:
            model: a [`DualVQAForQuestionAnswering`] in evaluation mode.
            examples: [`Examples`].
            new_answers: E, how many `memory_answers` the processor has.
            **parameters: of `PARAMETERS`, those that are not to be as they stand there.

        Raises:
            ValueError: see `Examples.check` and `Memory`; vectors of another width than the model's.
        """
        examples.check(model.config.heads)
        widths = {"question_key_width": examples.questions.shape[1], "image_key_width": examples.images.shape[1]}
        widths = narrowed(widths, len(examples.questions))
        settings = {
            "examples": len(examples.questions),
            "images": len(examples.images),
            "text_width": examples.questions.shape[1],
            "vision_width": examples.images.shape[1],
            **widths,
            "answers": model.config.num_answers,
            "new_answers": new_answers,
            "weights": weights_digest(model),
            **PARAMETERS,
            **parameters,
        }
        check_widths(settings, model)
        memory = cls(settings)
        answers = model.config.num_answers + new_answers
        if int((examples.answers * examples.types).max()) >= answers:
            raise ValueError(f"an example's answer is outside of the {answers} that model and memory know")
        # Rounded as they are saved, so that a folder answers as the model did that wrote it.
        for name, vectors in (("question", examples.questions), ("image", examples.images)):
            mean, basis, keys = (getattr(memory, f"{name}_{part}") for part in ("mean", "basis", "keys"))
            mean.copy_(vectors.float().mean(dim=0).half())
            if basis is not None:
                basis.copy_(principal_components(vectors.float() - mean, basis.shape[1]).half())
            keys.copy_(memory.unit(name, vectors).half())
        memory.image_index.copy_(examples.image_index)
        memory.answer_index.copy_(examples.answers)
        memory.question_type.copy_(examples.types)
        memory.texts = None if examples.texts is None else list(examples.texts)
        return memory.to(model.device)

    def unit(self, name, vectors):
        """Vectors of a "question" or an "image" as keys: centred, in the memory's directions, of length 1."""
        mean, basis = getattr(self, f"{name}_mean"), getattr(self, f"{name}_basis")
        centred = vectors.to(mean.device).float() - mean
        return nn.functional.normalize(centred if basis is None else centred @ basis, dim=-1)

    def __len__(self):
        return len(self.question_keys)

    def search(self, questions, images, image_index=None, question_index=None, exclude=None):
        """The most similar examples, by comparison with all of them.

        Of very many the comparison is with those alone that an index proposes, where faiss is installed: see
        `memory_index_dualvqa`. It may miss some that are not about the same image.

        Args:
            questions: (V, C_text) as `question_vectors` gives them.
            images: (U, C_vision) as `image_vectors` gives them.
            image_index, question_index: (B,) as in the model's `forward`.
            exclude: (B, M) True for examples that aren't to be found, such as a question itself.

        Returns:
            [`Neighbours`] (B, k), k at most the number of examples.
        """
        question, image = self.unit("question", questions), self.unit("image", images)
        if not torch.compiler.is_compiling() and exclude is None and (faiss := faiss_for(self)):
            return self.search_index(faiss, question, image, image_index, question_index)
        if torch.compiler.is_compiling():
            question, image = question @ self.question_keys.T, image @ self.image_keys.T  # (V, M), (U, I)
            return self.nearest(rows_of(question, question_index), rows_of(image, image_index), exclude)
        count = len(question if question_index is None else question_index)
        pieces = [
            self.nearest(
                products(question, self.question_keys, question_index, rows),
                products(image, self.image_keys, image_index, rows),
                None if exclude is None else exclude[rows],
            )
            for rows in torch.arange(count, device=question.device).split(max(1, SCORES // len(self)))
        ]
        return pieces[0] if len(pieces) == 1 else Neighbours(*map(torch.cat, zip(*pieces)))

    def search_index(self, faiss, question, image, image_index, question_index):
        """`search` for (V, K) and (U, K) unit vectors, among what the index proposes."""
        if self.index is None:
            self.index = MemoryIndex(faiss, self)
        cosines = image @ self.image_keys.T  # (U, I)
        question, image, cosines = (
            rows_of(question, question_index),
            rows_of(image, image_index),
            rows_of(cosines, image_index),
        )
        same = [(row >= SAME_IMAGE).nonzero()[:, 0] for row in cosines]
        pieces = []
        for row, chosen in enumerate(self.index.candidates(question, image, same, self.settings)):
            found = self.question_keys[chosen] @ question[row], cosines[row, self.image_index[chosen]]
            pieces.append(self.nearest(found[0][None], found[1][None], chosen=chosen))
        return Neighbours(*map(torch.cat, zip(*pieces)))

    def nearest(self, question, image, exclude=None, chosen=None):
        """[`Neighbours`] from the cosines (B, M) and (B, I); or (1, C) both of the examples (C,) that are `chosen`."""
        settings, hidden, image_index = self.settings, self.hidden, self.image_index
        if chosen is not None:
            hidden, image_index = hidden[chosen], torch.arange(len(chosen))
        same = (image >= SAME_IMAGE).to(image.dtype)  # (B, I)
        of_image = settings["image_weight"] * image + settings["same_image_weight"] * same
        scores = question + of_image.index_select(1, image_index)  # (B, M)
        if torch.compiler.is_compiling() or exclude is not None or bool(hidden.any()):
            absent = hidden if exclude is None else hidden | exclude.to(hidden.device)
            scores = scores.masked_fill(absent, NOWHERE)
        best, indices = scores.topk(min(settings["neighbours"], len(self)), dim=1)  # (B, k)
        there, images = best > NOWHERE / 2, image_index[indices]
        question, image, same = question.gather(1, indices), image.gather(1, images), same.gather(1, images)
        indices = indices if chosen is None else chosen[indices]
        taught = self.taught[indices] & there & (same > 0) & (question >= SAME_QUESTION)
        return Neighbours(
            indices,
            question.masked_fill(~there, NOWHERE),
            image,
            same,
            self.answer_index[indices],
            self.question_type[indices].masked_fill(~there, -1),
            taught.to(question.dtype),
        )

    def forward(self, logits, text_states, image_states, attention_mask=None, image_index=None, question_index=None):
        """Logits of heads and memory together, the [`Neighbours`] and the [`Mixture`].

        A question's logits keep the log-sum-exp of the heads': it says how familiar the question is to them.

        Args:
            logits: head, or "question_type" -> (B, N), or None.
            text_states, image_states: as in `DualVQAOutput`.
            attention_mask, image_index, question_index: as in the model's `forward`.
        """
        questions, images = question_vectors(text_states, attention_mask), image_vectors(image_states)
        found = self.search(questions, images, image_index, question_index)
        mixture = mix(self.settings, logits, found, self.settings["new_answers"])
        mixed = {name: None for name in logits}
        for name, scores in mixture.log_probabilities.items():
            level = logits[name].float().logsumexp(dim=-1, keepdim=True)
            mixed[name] = (scores + level).to(logits[name].dtype)
        return mixed, found, mixture

    def __getstate__(self):
        """For copies and pickles, without the index."""
        return {**self.__dict__, "index": None}

    def _load_from_state_dict(self, *args, **kwargs):
        self.index = None  # of other keys
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, function, recurse=True):
        """As in torch, but for the precision: see the class."""
        for name, buffer in self.named_buffers():
            moved = function(buffer if buffer.is_meta else buffer.new_empty(0))
            self._buffers[name] = moved.to(buffer.dtype) if buffer.is_meta else buffer.to(moved.device)
        return self


def rows_of(vectors, index):
    """The rows of `vectors` (V, K) that an index (B,) names."""
    return vectors if index is None else vectors.index_select(0, index)


def products(vectors, keys, index, rows):
    """(B, M) products of vectors (V, K) with all keys (M, K) for some rows of an index, each different one once."""
    different, places = (rows if index is None else index[rows]).unique(return_inverse=True)
    return (vectors[different] @ keys.T).index_select(0, places)


def mix(parameters, logits, found, new_answers=0):
    """What heads and memory say together; it can be differentiated in the parameters.

    similarity = question cosine + image_weight * image cosine + same_image_weight * [same image]. The vote gives each
    answer of a type the softmax weights, at `temperature`, of the neighbours that have it, and each type those of its
    neighbours. The memory's share is sigmoid(share_bias + share_slope * the highest similarity), for a head among
    neighbours of its type; of a type without any the head stands alone. Where exactly this was taught, what was taught
    alone votes, with a share of at least `TAUGHT_SHARE`.

    Args:
        parameters: dict with the names of `PARAMETERS`, numbers or scalar tensors.
        logits: head, or "question_type" -> (B, N), or None.
        found: [`Neighbours`].
        new_answers: E, answers that only the memory knows, behind those of the open-ended head.

    Returns:
        [`Mixture`].
    """
    similarities = (
        found.question + parameters["image_weight"] * found.image + parameters["same_image_weight"] * found.same
    )  # (B, k)
    weights = (similarities / parameters["temperature"]).softmax(dim=1)
    taught = found.taught.sum(dim=1, keepdim=True)  # (B, 1)
    weights = torch.where(taught > 0, found.taught / taught.clamp(min=1), weights)

    def share_of(members):
        """(B, 1) the memory's share, by the best of some neighbours; 0 where these have no weight."""
        best = similarities.masked_fill(~members, NOWHERE).amax(dim=1, keepdim=True).clamp(min=-10)
        share = torch.sigmoid(parameters["share_bias"] + parameters["share_slope"] * best)
        share = torch.where(taught > 0, share.clamp(min=TAUGHT_SHARE), share)
        return share * ((weights * members).sum(dim=1, keepdim=True) > 0)

    everyone = found.types >= 0
    mixed, share = {}, share_of(everyone)
    votes = {name: weights * (found.types == kind) for kind, name in enumerate(TYPES)}  # (B, k)
    for kind, name in enumerate(TYPES):
        if logits.get(name) is None:
            continue
        members = found.types == kind
        head = (at_least_float32(logits[name]) / parameters["head_temperature"]).softmax(dim=-1)  # (B, N)
        if name == "open_ended" and new_answers:
            head = nn.functional.pad(head, (0, new_answers))  # (B, N + E)
        vote = votes[name] / votes[name].sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        vote = torch.zeros_like(head).scatter_add(1, found.answers * members, vote)
        mixed[name] = interpolated(share_of(members), head, vote)
    if logits.get("question_type") is not None:
        router = at_least_float32(logits["question_type"]).softmax(dim=-1)  # (B, 2)
        vote = torch.stack([votes[name].sum(dim=1) for name in TYPES], dim=1)
        mixed["question_type"] = interpolated(share, router, vote)
    return Mixture(mixed, similarities, weights * everyone, share[:, 0])


def at_least_float32(tensor):
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def interpolated(share, head, vote):
    """log((1 - share) head + share vote), finite (Khandelwal et al. 2020, equation 3)."""
    return ((1 - share) * head + share * vote).clamp(min=torch.finfo(head.dtype).tiny).log()


__all__ = ["Examples", "Memory", "Mixture", "Neighbours", "check_weights", "image_vectors", "mix", "question_vectors"]
