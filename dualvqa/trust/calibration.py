"""Temperatures that make scores true, and how true scores are: both from logits of questions with known answers."""

import numpy as np
import torch
from sklearn.model_selection import GroupKFold

from processing.answers import AnswerVocabulary, as_list
from processing.outputs import joined, output_chunks, row_chunks
from processing.processing_dualvqa import QUESTION_TYPES

from .reliability import brier_scores, expected_calibration_error, reliability_bins

FEWEST_ROWS = 50  # below, a temperature is known to a factor of one and a half at best
FOLDS = 5


def fit_temperature(logits, labels, rows=None):
    """The temperature T that makes softmax(logits / T) most likely (Guo et al. 2017, section 4.2).

    Of an answer that is not among the N nothing more is known than that the best of them is wrong: its likelihood is
    1 - max softmax(logits / T). Without these questions a head would be sure where its vocabulary lacks the answer.

    Minimised over log T by L-BFGS from T = 1. Where all answers are right, their likelihood alone would grow without
    end as T falls to 0, and every score would be 1: a standard normal prior on log T, of the weight of one question,
    keeps it finite and moves it by less than its own error elsewhere.

    Args:
        logits: (n, N).
        labels: (n,) of 0..N-1, or negative for an answer that is not among them.
        rows: the questions that count, all when left out.
    """
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    rows = torch.arange(len(labels)) if rows is None else torch.as_tensor(rows)
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    @torch.no_grad()
    def objective():
        loss, slope = temperature_loss(logits, labels, rows, log_temperature.exp())
        log_temperature.grad = (slope + log_temperature) / len(rows)
        return (loss + log_temperature.square() / 2) / len(rows)

    optimizer.step(objective)
    return log_temperature.exp().item()


def temperature_loss(logits, labels, rows, temperature):
    """Negative log-likelihood of some rows at a temperature T, and its derivative by log T; a few rows at a time.

    With s = logits / T, p = softmax(s) and the mean E[s] under p: a known answer y costs logsumexp(s) - s_y, whose
    derivative is s_y - E[s]; one that is not among them costs -log(1 - max p), whose derivative is
    max p (E[s] - max s) / (1 - max p).
    """
    loss = slope = torch.zeros((), dtype=torch.float64)
    for chunk in row_chunks(rows, logits.shape[-1]):
        scaled = logits[chunk].double().div_(temperature)  # (r, N)
        scaled -= scaled.max(dim=-1, keepdim=True).values
        weights = scaled.exp()
        norm = weights.sum(dim=-1)  # 1 / max p
        mean = weights.mul_(scaled).sum(dim=-1) / norm
        known = labels[chunk] >= 0
        true = scaled.gather(1, labels[chunk, None].clamp(min=0))[:, 0]
        wrong = 1 - 1 / norm
        unsure = ~known & (wrong > 1e-12)
        loss = loss + (norm.log() - true)[known].sum() - wrong.clamp(min=1e-12)[~known].log().sum()
        slope = slope + (true - mean)[known].sum() + (mean / norm / wrong)[unsure].sum()
    return loss, slope


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
        different = len({images[row] for row in known})
        if len(known) < FEWEST_ROWS or different < FOLDS:
            problems[head] = (
                f"{len(known)} questions about {different} images have an answer that it knows, and {FEWEST_ROWS} "
                f"about {FOLDS} are needed"
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
        self.references = list(map(as_list, references))
        self.images = images
        vocabulary = AnswerVocabulary.of(processor, memory=True)
        self.rules = vocabulary.rules
        labels = vocabulary.labels([self.rules.consensus(people) for people in self.references])
        self.labels = {name.removesuffix("_labels"): torch.tensor(values) for name, values in labels.items()}

    def problems(self):
        """head -> why it can't be calibrated; see `answer_problems`."""
        return answer_problems(self.heads, self.labels, self.images, answer_names(self.processor))

    def temperatures(self, heads, rows=slice(None)):
        """head -> temperature fitted on some rows. A head needs two different answers there, or keeps temperature 1."""
        found, chosen = {}, torch.zeros(len(self.references), dtype=torch.bool)
        chosen[rows] = True
        for head in heads:
            labels, own = self.labels[head], (self.rows_of(head) & chosen).nonzero()[:, 0]
            if len(labels[own][labels[own] >= 0].unique()) > 1:
                found[head] = fit_temperature(self.outputs[f"{head}_logits"], labels, own)
        return found

    def rows_of(self, head):
        """(n,) which questions are the head's: those of its type, also with an answer that its vocabulary lacks."""
        rows = self.labels[head] >= 0  # a single head answers the questions of both types
        if head in QUESTION_TYPES:
            rows = rows | (self.labels["question_type"] == QUESTION_TYPES.index(head))
        return rows

    def ranked(self, temperatures, rows=None):
        """The best answer of each head at these temperatures, and how far all its probabilities are from the truth.

        Args:
            temperatures: head -> temperature, 1 for those left out.
            rows: which questions, all when left out.

        Returns:
            What `processor.rank` gives for one answer, and `<head>_brier` (n,): see `brier_scores`. The probabilities
            themselves are never kept.
        """
        processor = self.processor.without_calibration()
        processor.calibration = {"temperatures": temperatures}

        def pieces():
            for chunk, outputs in output_chunks(self.outputs, rows):
                piece = processor.rank(outputs)
                for head in self.heads:
                    scaled = outputs[f"{head}_logits"].float() / temperatures.get(head, 1.0)
                    piece[f"{head}_brier"] = brier_scores(scaled.softmax(dim=-1), self.labels[head][chunk])
                yield piece

        return joined(pieces(), len(self.references) if rows is None else len(rows))

    def cross_fitted(self, heads):
        """`ranked` with each question's temperatures fitted on questions about other images, in five parts of them."""
        ranked = self.ranked({})
        for others, rows in GroupKFold(FOLDS).split(self.references, groups=self.images):
            for name, values in self.ranked(self.temperatures(heads, others), rows).items():
                ranked[name][rows] = values
        return ranked

    def routed(self, ranked):
        """What a user gets: (n,) scores of the best answers, and how right these are, in [0, 1]."""
        best = [items[0] for items in self.processor.decode(ranked)]
        return np.array([item["score"] for item in best]), self.right([item["answer"] for item in best])

    def right(self, answers):
        return np.array([self.rules.score(answer, people) for answer, people in zip(answers, self.references)])

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
                sure, chosen = ranked["question_type_scores"].max(dim=-1)
                right = (chosen == labels).double().numpy()
            else:
                sure = ranked[f"{head}_scores"][:, 0]
                right = self.right([names[head][index] for index in ranked[f"{head}_indices"][:, 0].tolist()])
            brier = ranked[f"{head}_brier"][rows].mean().item()
            found[head] = {**trust(sure[rows].numpy(), right[rows.numpy()]), "brier": brier}
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
    return {"binary": processor.binary_answers, "open_ended": processor.all_answers, "question_type": QUESTION_TYPES}


def before_and_after(before, after):
    """The errors of two states of calibration as one dict."""
    pairs = {name: (before[name], after[name]) for name in before}
    return {f"{name}_{when}": value for name, both in pairs.items() for when, value in zip(("before", "after"), both)}
