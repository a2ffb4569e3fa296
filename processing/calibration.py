"""Temperatures that make scores true, and how true scores are: both from logits of questions with known answers."""

import numpy as np
import torch
from sklearn.model_selection import GroupKFold

from .answers import AnswerVocabulary, answer_score, consensus
from .processing_dualvqa import BINARY_ANSWERS, QUESTION_TYPES
from .reliability import brier_score, expected_calibration_error, reliability_bins

FEWEST_ROWS = 50  # below, a temperature is known to a factor of one and a half at best
FOLDS = 5


def fit_temperature(logits, labels):
    """The temperature T that makes softmax(logits / T) most likely (Guo et al. 2017, section 4.2).

    Of an answer that is not among the N nothing more is known than that the best of them is wrong: its likelihood is
    1 - max softmax(logits / T). Without these questions a head would be sure where its vocabulary lacks the answer.

    Minimised over log T by L-BFGS from T = 1. Where all answers are right, their likelihood alone would grow without
    end as T falls to 0, and every score would be 1: a standard normal prior on log T, of the weight of one question,
    keeps it finite and moves it by less than its own error elsewhere.

    Args:
        logits: (n, N).
        labels: (n,) of 0..N-1, or negative for an answer that is not among them.
    """
    logits, labels = torch.as_tensor(logits).double(), torch.as_tensor(labels)
    known = labels >= 0
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def objective():
        optimizer.zero_grad()
        log_p = (logits / log_temperature.exp()).log_softmax(dim=-1)
        wrong = -log_p[~known].max(dim=-1).values.expm1()  # 1 - max p
        losses = -log_p[known].gather(1, labels[known, None]).sum() - wrong.clamp(min=1e-12).log().sum()
        loss = (losses + log_temperature.square() / 2) / len(labels)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    return log_temperature.exp().item()


def answer_problems(heads, labels, images, names):
    """What keeps each head at temperature 1: too few questions, or answers that are all the same.

    Args:
        heads: those that the model has, with "question_type" for a router.
        labels: head -> (n,) labels, -100 where there is none.
        images: (n,) keys.
        names: head -> its answers in words.

    Returns:
        head -> what was found and what is needed, for the heads that have a problem.
    """
    problems = {}
    for head in heads:
        known = np.flatnonzero(np.asarray(labels[head]) >= 0)
        found = {int(labels[head][row]) for row in known}
        pictures = len({images[row] for row in known})
        if len(known) < FEWEST_ROWS or pictures < FOLDS:
            problems[head] = (
                f"{len(known)} questions about {pictures} images have an answer that it knows, and {FEWEST_ROWS} about "
                f"{FOLDS} are needed"
            )
        elif len(found) < 2:
            problems[head] = f"all {len(known)} questions have the answer {names[head][found.pop()]!r}; two are needed"
    return problems


class LabelledLogits:
    """A model's logits of questions whose answers are known.

    Args:
        processor: the model's; of its calibration nothing is used.
        outputs: `<head>_logits` -> (n, N), as the model names them.
        references: for each question a string, or a list of strings where several people answered.
        images: (n,) key of each question's image, for `problems` and `cross_fitted`.
    """

    def __init__(self, processor, outputs, references, images=None):
        self.processor = processor.without_calibration()
        self.outputs = {name: torch.as_tensor(logits) for name, logits in outputs.items() if name.endswith("_logits")}
        self.heads = [name.removesuffix("_logits") for name in self.outputs]
        self.references = [[answer] if isinstance(answer, str) else list(answer) for answer in references]
        self.images = images
        labels = AnswerVocabulary(processor.answers).labels([consensus(people) for people in self.references])
        self.labels = {name.removesuffix("_labels"): torch.tensor(values) for name, values in labels.items()}

    def problems(self):
        """head -> why it can't be calibrated; see `answer_problems`."""
        return answer_problems(self.heads, self.labels, self.images, answer_names(self.processor))

    def temperatures(self, heads, rows=slice(None)):
        """head -> temperature fitted on some rows. A head needs two different answers there, or keeps temperature 1."""
        found = {}
        for head in heads:
            labels, own = self.labels[head][rows], self.rows_of(head)[rows]
            if len(labels[labels >= 0].unique()) > 1:
                found[head] = fit_temperature(self.outputs[f"{head}_logits"][rows][own], labels[own])
        return found

    def rows_of(self, head):
        """(n,) which questions are the head's: those of its type, also with an answer that its vocabulary lacks."""
        rows = self.labels[head] >= 0  # a single head answers the questions of both types
        if head in QUESTION_TYPES:
            rows = rows | (self.labels["question_type"] == QUESTION_TYPES.index(head))
        return rows

    def ranked(self, temperatures, rows=slice(None)):
        """All answers of each head as `processor.rank` gives them, at these temperatures."""
        processor = self.processor.without_calibration()
        processor.calibration = {"temperatures": temperatures}
        most = max(logits.shape[-1] for logits in self.outputs.values())
        return processor.rank({name: logits[rows] for name, logits in self.outputs.items()}, top_k=most)

    def cross_fitted(self, heads):
        """`ranked` with each question's temperatures fitted on questions about other images, in five parts of them."""
        ranked = self.ranked({})
        for others, rows in GroupKFold(FOLDS).split(self.references, groups=self.images):
            for name, values in self.ranked(self.temperatures(heads, others), rows).items():
                ranked[name][rows] = values
        return ranked

    def routed(self, ranked):
        """What a user gets: (n,) scores of the best answers, and how right these are, in [0, 1]."""
        first = {name: values if name == "question_type_scores" else values[:, :1] for name, values in ranked.items()}
        best = [items[0] for items in self.processor.decode(first)]
        return np.array([item["score"] for item in best]), self.right([item["answer"] for item in best])

    def right(self, answers):
        return np.array([answer_score(answer, people) for answer, people in zip(answers, self.references)])

    def reliability(self, ranked):
        """How far the scores of each head can be trusted, and those that a user gets, `routed`.

        Those of a head are over all questions of its type, of the router over all. An answer that the vocabulary lacks
        counts as wrong, as everywhere.

        Returns:
            head -> a dict of `ece` (see `expected_calibration_error`), `bins` (see `reliability_bins`) and, but for
            `routed`, `brier`; none for a head whose type has no question.
        """
        found = {}
        names = answer_names(self.processor)
        for head in self.heads:
            labels, rows = self.labels[head], self.rows_of(head)
            if not rows.any():
                continue
            if head == "question_type":
                probabilities = ranked["question_type_scores"]
                right = (probabilities.argmax(dim=-1) == labels).double().numpy()
            else:
                scores, indices = ranked[f"{head}_scores"], ranked[f"{head}_indices"]
                probabilities = torch.zeros_like(scores).scatter(1, indices, scores)  # (n, N)
                right = self.right([names[head][index] for index in indices[:, 0].tolist()])
            sure = probabilities.max(dim=-1).values.numpy()
            chosen = rows.numpy()
            brier = brier_score(probabilities[rows].numpy(), labels[rows].numpy())
            found[head] = {**trust(sure[chosen], right[chosen]), "brier": brier}
        return {**found, "routed": trust(*self.routed(ranked))}

    def errors(self, ranked):
        """The errors of `reliability` as one dict: `<head>_ece`, `<head>_brier` and `routed_ece`."""
        found = self.reliability(ranked)
        return {
            f"{head}_{error}": values[error]
            for head, values in found.items()
            for error in ("ece", "brier")
            if error in values
        }


def trust(scores, right):
    return {"ece": expected_calibration_error(scores, right), "bins": reliability_bins(scores, right)}


def answer_names(processor):
    """head -> the answers, or question types, that its logits stand for."""
    return {"binary": BINARY_ANSWERS, "open_ended": processor.answers, "question_type": QUESTION_TYPES}


def before_and_after(before, after):
    """The errors of two states of calibration as one dict."""
    pairs = {name: (before[name], after[name]) for name in before}
    return {f"{name}_{when}": value for name, both in pairs.items() for when, value in zip(("before", "after"), both)}
