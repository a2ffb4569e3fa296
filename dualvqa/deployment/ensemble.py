"""Several models that answer together: the average of their logits or of their probabilities."""

import math

import torch
from torch import nn

from dualvqa.training.building import load_model
from modeling_dualvqa.familiarity_dualvqa import TOWERS
from modeling_dualvqa.modeling_dualvqa import DualVQAOutput
from modeling_dualvqa.pipeline_dualvqa import DualVQAPipeline
from processing import AnswerRules, EnsembleCollator, VQACollator, difference
from processing.other_rules import apart, shown_difference, swapped_words

AVERAGES = ("logits", "probabilities")


def average_logits(outputs, average="logits"):
    """The logits of several models as those of one.

    Args:
        outputs: of each model a dict name -> (B, N), such as a [`DualVQAOutput`]; what isn't named `*_logits` is left
            out.
        average: "logits" for their mean, whose softmax is the normalised geometric mean of the probabilities, or
            "probabilities" for the logarithm of the probabilities' mean, whose softmax is that mean.
    """
    averaged = {}
    for name in outputs[0]:
        if name.endswith("_logits") and name != "expert_logits":
            stacked = torch.stack([output[name].float() for output in outputs])  # (models, B, N)
            if average == "probabilities":
                averaged[name] = stacked.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(outputs))
            else:
                averaged[name] = stacked.mean(dim=0)
    return averaged


def check_members(models, processors, average="logits"):
    """Makes sure that models can answer together.

    Args:
        models, processors: of each member.

    Raises:
        ValueError: fewer than two members, one of them twice, an average that doesn't exist, or heads, words for yes
            and no, languages, metrics, vocabularies or words of the memories that differ.
    """
    if average not in AVERAGES:
        raise ValueError(f"the average must be one of {', '.join(AVERAGES)}; found {average!r}")
    if len(models) < 2:
        raise ValueError(f"an ensemble needs two or more models, found {len(models)}")
    names = [getattr(model, "name_or_path", "") or f"model {number}" for number, model in enumerate(models)]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{name} is in the ensemble twice; give different models")
    for name, model, processor in zip(names[1:], models[1:], processors[1:]):
        if list(model.config.heads) != list(models[0].config.heads):
            raise ValueError(f"{names[0]} has the heads {models[0].config.heads} and {name} {model.config.heads}")
        rules, others = AnswerRules.of(processors[0]), AnswerRules.of(processor)
        words_differ = bool(swapped_words(rules, others)) or apart(rules, others)
        problem = shown_difference(rules, others, words_differ, (f"in {names[0]}", f"in {name}"))
        if problem:
            raise ValueError(
                f"{names[0]} and {name} compare answers in different ways: {problem}; an ensemble averages and scores "
                f"the same answers, so train its models with the same"
            )
        problem = difference(processors[0].answers, processor.answers, AnswerRules.of(processor))
        if problem:
            raise ValueError(
                f"{names[0]} and {name} have different vocabularies: {problem}; an ensemble averages the same answers, "
                f"so train its models on the same training part"
            )
        problem = difference(processors[0].memory_answers, processor.memory_answers, AnswerRules.of(processor))
        if problem:
            raise ValueError(
                f"the memories of {names[0]} and {name} know different words that no head has: {problem}; make them of "
                f"the same examples, and teach each member the same"
            )


class EnsembleModel(nn.Module):
    """Models whose averaged logits are one model's; it can be evaluated, not trained.

    Args:
        models: [`DualVQAForQuestionAnswering`]s that passed `check_members`.
        average: see `average_logits`.
        limits: of each, "image" and "question" -> the largest familiar novelty, as its processor's calibration has
            them; without, nothing is unfamiliar.
    """

    def __init__(self, models, average="logits", limits=()):
        super().__init__()
        self.models, self.average, self.limits = nn.ModuleList(models), average, list(limits)
        self.config = models[0].config

    def forward(self, members, binary_labels=None, open_ended_labels=None, question_type_labels=None):
        """members: number of each model, as a string -> its own inputs. Labels are the Trainer's business."""
        outputs = [model(**members[str(number)]) for number, model in enumerate(self.models)]
        least = least_novelties(outputs, self.limits)
        if least:  # the Trainer tells them by their place, so there are both
            nothing = torch.zeros_like(next(iter(least.values())))
            least = {f"{tower}_novelty": least.get(f"{tower}_novelty", nothing) for tower in TOWERS}
        return DualVQAOutput(**average_logits(outputs, self.average), **least)


class EnsemblePipeline(DualVQAPipeline):
    """Asks several pipelines and answers with the average; called as each of them is.

    ```python
    EnsemblePipeline([pipeline("vqa", model=folder, trust_remote_code=True) for folder in folders])
    ```

    Towers, image sizes and tokenizers may differ, and each has its own memory or none, which is taught through the
    member; none of them gives evidence here. The members' temperatures and thresholds are not used: they hold for each
    of them alone. An image or question is unfamiliar where it is to every member that judges it, so that ordinary ones
    are flagged no more often than by one. Each opens images from its own `image_sources`: give them to all.

    Args:
        pipelines: two or more.
        average: see `average_logits`.

    Raises:
        ValueError: see `check_members`.
    """

    def __init__(self, pipelines, average="logits"):
        check_members([pipe.model for pipe in pipelines], [pipe.processor for pipe in pipelines], average)
        first = pipelines[0]
        super().__init__(first.model, first.processor.without_calibration(), device=first.device)
        self.limits = limits_of([pipe.processor for pipe in pipelines])
        self.processor.calibration = calibration_of(self.limits)
        self.members, self.average = pipelines, average

    @property
    def memory(self):
        raise ValueError("each member has a memory of its own: teach all of them the same, and make the ensemble anew")

    def _sanitize_parameters(self, evidence=None, **given):
        if evidence is not None:
            raise ValueError("evidence is a member's own: ask the members, pipe.members, for theirs")
        for name in ("abstain", "coverage"):
            if given.get(name) not in (None, False):
                raise ValueError(
                    f"an ensemble has no threshold and no sets of its own, and those of its members hold for each of "
                    f"them alone: leave out {name}, or ask one member, such as pipe.members[0]"
                )
        return super()._sanitize_parameters(**given)

    def prepare(self, image, timeout=None):
        return {"members": [member.prepare(image, timeout) for member in self.members]}

    def collate(self, items):
        several = [
            [{**prepared, **{n: item[n] for n in ("questions", "several", "groups")}} for prepared in item["members"]]
            for item in items
        ]
        return {"members": [m.collate(list(own)) for m, own in zip(self.members, zip(*several))]}

    def _forward(self, model_inputs):
        outputs = [member._forward(own) for member, own in zip(self.members, model_inputs["members"])]
        return {
            **{name: value for name, value in outputs[0].items() if not name.endswith("novelty")},
            **average_logits(outputs, self.average),
            **least_novelties(outputs, self.limits),
        }


def least_novelties(outputs, limits):
    """`image_novelty` and `question_novelty` (B,) by how much the member whose limit is exceeded least exceeds it.

    Args:
        outputs: of each member name -> (B, ...).
        limits: of each member "image" and "question" -> the largest familiar novelty; members without don't judge.
    """
    found = {}
    for tower in TOWERS:
        name = f"{tower}_novelty"
        over = [output[name] - own[tower] for output, own in zip(outputs, limits) if tower in own and name in output]
        if over:
            found[name] = torch.stack(over).amin(dim=0)
    return found


def limits_of(processors):
    """Of each, "image" and "question" -> the largest familiar novelty."""
    return [(processor.calibration or {}).get("familiarity") or {} for processor in processors]


def calibration_of(limits):
    """The calibration of members together, to whose `least_novelties` the limit is zero; None where none judges."""
    judged = {tower: 0.0 for tower in TOWERS if any(tower in own for own in limits)}
    return {"familiarity": judged} if judged else None


def load_ensemble(paths, average="logits"):
    """Saved models that answer together, as one model and its collator; of one path that model and its own.

    Args:
        paths: saved folders, or ids on the Hub.
        average: see `average_logits`.

    Raises:
        ValueError: see `load_model` and `check_members`.
    """
    models, processors = zip(*map(load_model, paths))
    collators = [VQACollator(processor) for processor in processors]
    if len(models) == 1:
        return models[0], collators[0]
    check_members(models, processors, average)
    return EnsembleModel(models, average, limits_of(processors)), EnsembleCollator(collators)
