"""report.html, report.json and report_rows.jsonl of a run."""

import json
import logging
import os

from datasets import Dataset

from dualvqa.trust.calibration import LabelledLogits
from processing.outputs import named_logits
from processing.processing_dualvqa import QUESTION_TYPES
from processing.splits import leakage_report

from .baselines import baseline_answers
from .figures import part_figures
from .page import report_page
from .results import judged, question_results, write_results

logger = logging.getLogger(__name__)

ROWS, FIGURES, PAGE = "report_rows.jsonl", "report.json", "report.html"


def write_report(folder, parts, logits, processor, blind_logits=None, columns=(), about=None, fitted_on=None):
    """Writes the report of the parts that there are logits of.

    Args:
        folder: where the three files go.
        parts: name -> canonical rows; `train`, where it is a Dataset, is what the baselines and the leakage come from.
        logits: part -> the Trainer's prediction arrays.
        processor: decodes them.
        blind_logits: likewise, of the model that was trained without seeing images.
        columns: that results are shown by, where a part has them.
        fitted_on: the part that the processor's temperatures were fitted on, if it is one of these.
        about: `title`, and of the model card's record `data` and `settings`.

    Raises:
        ValueError: a part has no answers, or not as many predictions as rows.
    """
    train = parts["train"] if isinstance(parts.get("train"), Dataset) else None
    results, figures = {}, {}
    for name, arrays in logits.items():
        rows = parts[name]
        results[name] = question_results(name, rows, arrays, processor, [c for c in columns if c in rows.column_names])
        if blind_logits:
            add_blind(results[name], question_results(name, rows, blind_logits[name], processor))
        if train is not None:
            add_baselines(results[name], train)
        heads = [head for head in QUESTION_TYPES if f"{head}_logits" in named_logits(arrays, processor)]
        figures[name] = part_figures(results[name], heads, leakage_report(train, rows) if train is not None else None)
        temperatures = (processor.calibration or {}).get("temperatures")
        if temperatures:
            labelled = LabelledLogits(
                processor, named_logits(arrays, processor), rows["answer"][:], rows["image_key"][:]
            )
            figures[name]["temperatures"] = before_and_after(labelled, temperatures, name == fitted_on)
    report = {**(about or {"title": os.path.basename(os.path.normpath(folder))}), "parts": figures}
    report["fitted_on"] = fitted_on
    os.makedirs(folder, exist_ok=True)
    write_results(os.path.join(folder, ROWS), [result for found in results.values() for result in found])
    with open(os.path.join(folder, FIGURES), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1, ensure_ascii=False, allow_nan=False)
    page = report_page(report, results, {name: parts[name]["image"] for name in logits})
    with open(os.path.join(folder, PAGE), "w", encoding="utf-8") as file:
        file.write(page)
    logger.info("report written to %s", os.path.join(folder, PAGE))


def before_and_after(labelled, temperatures, fitted_here):
    """How far scores can be trusted with temperatures 1 and with these; see `LabelledLogits.reliability`.

    Args:
        fitted_here: whether they were fitted on these very questions. The questions about each picture are then scored
            with temperatures that are fitted on the others.
    """
    after = labelled.cross_fitted(list(temperatures)) if fitted_here else labelled.ranked(temperatures)
    return {"before": labelled.reliability(labelled.ranked({})), "after": labelled.reliability(after)}


def add_blind(results, blind):
    """Adds the answers of a model that sees no image, as `blind_routed` and `blind_oracle`."""
    for result, unseeing in zip(results, blind):
        result["answers"] |= {f"blind_{name}": answer for name, answer in unseeing["answers"].items()}


def add_baselines(results, train):
    """Adds what the training questions alone would answer."""
    for name, answers in baseline_answers(train, results).items():
        for result, answer in zip(results, answers):
            if answer is not None:
                result["answers"][name] = judged(answer, result)
