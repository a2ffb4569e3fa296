"""report.html, report.json and report_rows.jsonl of a run."""

import contextlib
import copy
import json
import logging
import os
from dataclasses import dataclass, field

from datasets import Dataset

from dualvqa.trust.calibration import LabelledLogits
from dualvqa.trust.remembering import plain
from processing.answers import AnswerRules
from processing.leakage import held_out, leakage_report
from processing.outputs import named_logits
from processing.processing_dualvqa import QUESTION_TYPES
from processing.wording import worded

from .baselines import baseline_answers, most_frequent
from .figures import part_figures
from .page import report_page
from .results import MODEL, judged, question_results, write_results

logger = logging.getLogger(__name__)

WITH_TRAINING = "given with --train_file"
ROWS, FIGURES, PAGE = "report_rows.jsonl", "report.json", "report.html"


@dataclass
class EvaluatedRun:
    """What a report is made from.

    Attributes:
        parts: name -> canonical rows; `train`, where it is a Dataset, is what the baselines and the leakage come from.
        logits: part -> the Trainer's prediction arrays. The report is about these parts.
        blind_logits: likewise, of the model that was trained without seeing images; None where there is no such model.
        columns: that results are shown by, where a part has them.
        about: `title`, and of the model card's record `data` and `settings`; None titles the page with the folder.
        fitted_on: the part that the processor's temperatures were fitted on, if it is one of these.
        question_group_column: tells rewordings, see `leakage_report`.
        alone_logits: likewise `logits`, without the model's memory; None where it has none.
        words: part -> the processor's `memory_answers` that its logits are of; of other parts those it has.
        evidence: what the memory has for an answer: function of an image and a question that gives a list of dicts.
        refitted_on: the rows that the model was trained on anew, before any part but the validation part was evaluated.
        majority: question type -> the most frequent training answer, for where there are no training rows; {} where it
            isn't known.
    """

    parts: dict
    logits: dict
    blind_logits: dict | None = None
    columns: list | tuple = ()
    about: dict | None = None
    fitted_on: str | None = None
    question_group_column: str | None = None
    refitted_on: object = None
    majority: dict = field(default_factory=dict)
    alone_logits: dict | None = None
    evidence: object = None
    words: dict = field(default_factory=dict)

    def processor(self, part, processor):
        """The processor with the words that the logits of a part are of."""
        own = copy.copy(processor)
        own.memory_answers = self.words.get(part, processor.memory_answers)
        return own

    def train(self, part):
        """The rows that the model was trained on that answered a part, or None where they are not in memory."""
        train = (
            self.parts.get("train") if self.refitted_on is None or part.startswith("validation") else self.refitted_on
        )
        return train if isinstance(train, Dataset) else None


def write_report(folder, run, processor):
    """Writes report.html, report.json and report_rows.jsonl of an `EvaluatedRun`.

    Args:
        folder: where the three files go; it is made.
        processor: decodes the logits.

    Returns:
        The path of report.html.

    Raises:
        ValueError: a part has no answers, or not as many predictions as rows.
    """
    own = {part: run.processor(part, processor) for part in run.logits}
    results = {part: part_results(run, part, own[part]) for part in run.logits}
    figures = {part: figures_of(run, part, results[part], own[part]) for part in run.logits}
    if run.evidence:
        add_evidence(run, results, figures)
    about = run.about or {"title": os.path.basename(os.path.normpath(folder))}
    report = {**about, "parts": figures, "fitted_on": run.fitted_on}
    os.makedirs(folder, exist_ok=True)
    write_results(os.path.join(folder, ROWS), [result for found in results.values() for result in found])
    with open(os.path.join(folder, FIGURES), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1, ensure_ascii=False, allow_nan=False)
    page = report_page(report, results, {part: run.parts[part]["image"] for part in run.logits})
    with open(os.path.join(folder, PAGE), "w", encoding="utf-8") as file:
        file.write(page)
    logger.info("report written to %s", os.path.join(folder, PAGE))
    if any(run.train(part) is None for part in run.logits):
        logger.info(
            "it lacks %sanswers copied from training questions and what was seen in training: that needs the training "
            "part, %s",
            "" if run.majority else "the most frequent answer, ",
            "which is a stream here" if run.parts.get("train") is not None else worded(WITH_TRAINING),
        )
    return os.path.join(folder, PAGE)


def part_results(run, part, processor):
    """The results of one part: the model's answers, those without images, and those of the baselines."""
    rows = run.parts[part]
    columns = [column for column in run.columns if column in rows.column_names]
    results = question_results(part, rows, run.logits[part], processor, columns)
    alone = plain(processor, [])
    if run.blind_logits:
        add_others(results, question_results(part, rows, run.blind_logits[part], alone), "blind")
    if run.alone_logits:
        add_others(results, question_results(part, rows, run.alone_logits[part], alone), "heads", ["routed"])
    train, rules = run.train(part), AnswerRules.of(processor)
    if train is not None:
        add_answers_of(results, baseline_answers(train, results, rules), rules)
    elif run.majority:
        add_answers_of(results, {"majority": most_frequent(run.majority, results)}, rules)
    return results


def figures_of(run, part, results, processor):
    """The figures of one part, see `part_figures`, and where the processor has temperatures, what these change."""
    rows, logits = run.parts[part], named_logits(run.logits[part], processor)
    heads = [head for head in QUESTION_TYPES if f"{head}_logits" in logits]
    train, leakage, rules = run.train(part), None, AnswerRules.of(processor)
    if train is not None:
        leakage = leakage_report(train, rows, run.question_group_column, rules)
    figures = {**part_figures(results, heads, leakage, rules), "held_out": held_out(leakage)}
    temperatures = (processor.calibration or {}).get("temperatures")
    if temperatures:
        labelled = LabelledLogits(processor, logits, rows["answer"][:], rows["image_key"][:])
        figures["temperatures"] = before_and_after(labelled, temperatures, part == run.fitted_on)
    return figures


def before_and_after(labelled, temperatures, fitted_here):
    """How far scores can be trusted with temperatures 1 and with these; see `LabelledLogits.reliability`.

    Args:
        fitted_here: whether they were fitted on these very questions. The questions about each image are then scored
            with temperatures that are fitted on those about the others.
    """
    after = labelled.cross_fitted(list(temperatures)) if fitted_here else labelled.ranked(temperatures)
    return {"before": labelled.reliability(labelled.ranked({})), "after": labelled.reliability(after)}


def add_others(results, others, prefix, names=MODEL):
    """Adds the answers of another model to the same questions: as `blind_routed` and `blind_oracle` of one that sees no
    image, as `heads_routed` of one without its memory."""
    for result, other in zip(results, others):
        result["answers"] |= {f"{prefix}_{name}": other["answers"][name] for name in names}


def add_evidence(run, results, figures):
    """Adds what the memory has for the answers that the page shows."""
    for part, found in figures.items():
        for place in found["worst"]:
            image, question = run.parts[part][place]["image"], results[part][place]["question"]
            with contextlib.suppress(ValueError):  # an image that can't be read any more
                results[part][place]["evidence"] = run.evidence(image, question)


def add_answers_of(results, found, rules):
    """Adds what baselines answer: name -> for each result a string, or None."""
    for name, answers in found.items():
        for result, answer in zip(results, answers):
            if answer is not None:
                result["answers"][name] = judged(answer, result, rules)
