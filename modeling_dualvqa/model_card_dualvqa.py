"""The README.md of a saved folder: a Hub model card, filled from what the run recorded in the configuration.

`config.model_card` is a dict that `run_vqa.py` writes and that travels with the model. Whatever it lacks, the card says
is not known:

- `repo_id`: the model's name on the Hub; `license`, `base_model` (list) and `datasets` (list of Hub ids) as on the Hub
- `data`: list of dicts `part`, `source`, `questions`, `images`, `coverage` where there are open-ended answers, and
  `held_out`, how an evaluated part was held out of the training part, and `people`, how many answered a question of it
  at most; of the training part also `majority`, question
  type -> dict `answer` and `share`, its most frequent answer
- `answer_rules`: how answers were compared, as the processor keeps it
- `settings`: list of [name, value], of the training; a list because configurations are saved with sorted keys
- `refit`: where the weights were trained anew on all rows after the figures were measured, a dict `questions`, `images`
  and `steps`
- `memory`: where the model has one whose parameters were fitted, what `fit_memory` found, and `held_out`
- `pretraining`: "contrastive" where fusion and heads are untrained, else None
- `tags`: list of those that a person gave, beside the card's own
- `results`: dict part ("validation", of several "validation-NAME" each, "test") -> dict figure -> value, as the metric
  names them: `routed_accuracy`, ...; and "calibration", where the processor has one, likewise
"""

import hashlib
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .card_notes_dualvqa import (
    WAYS,
    cross_fit_note,
    memory_note,
    metric_name,
    own_figure,
    refit_note,
    scores_note,
    yes_and_no,
)

TASK = "visual-question-answering"
OWN_TAGS = [TASK, "dualvqa", "custom_code"]
MARK = "<!-- save_pretrained writes this card; without this line it leaves it alone. -->"
UNFILLED = "[More Information Needed]"  # the Hub's template, which a push puts where there is no card
OWN = ("unanswerable_", "gqa_")  # figures that only some public sets' evaluations have
CODE_TABLE = "| file | SHA-256 |\n|---|---|\n"
CODE_ROW = re.compile(r"^\| `(\w+\.py)` \| `([0-9a-f]{64})` \|\n", re.MULTILINE)

NOTHING = (None, "", [], {})  # what a setting is that wasn't used
RENAMED = {  # settings in folders that were saved before these had their present names
    "pictures read by": "vision tower",
    "questions read by": "text tower",
    "parameters that stood still": "frozen parameters",
    "learned besides": "auxiliary targets",
    "pictures": "images",
}

KINDS = {
    "routed": "the model chooses the head: what a user gets",
    "oracle": "the head is chosen by the true question type: comparable with published tables",
    "majority": "always the most frequent training answer of the true type",
}
TYPES = {"yes/no": "binary_", "open-ended": "open_ended_", "all": ""}

TEXT = """
{mark}

# {title}

A DualVQA model: a compact classifier that answers questions about images. {vision} encodes the image, {text}
the question, the {fusion} fusion joins them, and {heads}.
{untrained}
## Use

```python
from transformers import AutoModel, AutoProcessor, pipeline

model = AutoModel.from_pretrained("{name}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
pipe = pipeline("visual-question-answering", model="{name}", trust_remote_code=True)
```

`pipe(image="image.png", question="what is shown?", top_k=3)` gives the best answers, each with `answer`, `score` and
`question_type`. `trust_remote_code=True` runs the Python files listed below; read them first.

## Training data

{data}

## Training settings

{settings}

## Results

{results}

{memory}## Limits

- It knows {answers}, and nothing else. A question with another answer is answered
  wrongly; the coverage above says how often that must happen.
- {scores}
- {unfamiliar}
- It has not been validated for medical or any other use in which a wrong answer does harm.

## Parameters

| part | parameters |
|---|---|
{parameters}

## Code

The Python files that `trust_remote_code=True` executes, and `handler.py`, which Inference Endpoints call:

{code}"""


CALIBRATED = (
    "A score is the model's probability at temperatures that were fitted on {rows} validation questions about {images} "
    "images. The expected calibration error of answers to questions that they weren't fitted on: {after:.1%}, without "
    "temperatures {before:.1%}."
)
NO_TRUER = " So measured, the temperatures made the scores no truer."
ABSTAINS = (
    " Questions whose score is below {threshold} stay unanswered, so that {of} at most {risk:.1%} are {wrong}, if "
    "images and questions are like those of the validation part; {coverage:.1%} of these were answered."
)
RISK_OF = {
    "answers": ("of the answers given", "wrong"),
    "questions": ("of all questions, answered or not,", "expected to be answered wrongly"),
}
FLAGS = (
    "Images and questions unlike those it was trained on get an answer all the same. Many of them are flagged as "
    "`unfamiliar`, which says what is ({judged}), not all; about 1 % of ordinary questions are flagged too."
)

UNTRAINED = """
**Its answers mean nothing yet.** Contrastive pre-training on images and texts has trained its towers and projections,
but neither fusion nor heads. Train it on questions before asking any.
"""


def write_model_card(folder, config, parameters):
    """Writes the README.md of a saved folder, unless a person has written the one that is there.

    Args:
        folder: where config.json and the Python files are.
        config: the model's.
        parameters: dict part -> number of parameters.
    """
    path = Path(folder, "README.md")
    before = path.read_text(encoding="utf-8") if path.exists() else MARK
    if MARK in before or UNFILLED in before:
        # The processor's files may not be in this folder yet, or only on the Hub.
        rows = "".join(row.group() for row in CODE_ROW.finditer(before))
        path.write_text(render(config, parameters) + rows, encoding="utf-8", newline="\n")
        list_code(folder)


def card_tags(folder):
    """The tags in the header of a folder's README.md but for a card's own, in order."""
    path = Path(folder, "README.md")
    tags = ModelCard.load(path).data.tags if path.exists() else None
    return [tag for tag in tags if tag not in OWN_TAGS] if isinstance(tags, list) else []


def render(config, parameters):
    """The card's text, up to the first row of the table of Python files."""
    record = config.model_card or {}
    repo_id = record.get("repo_id")
    yes, no = map(cell, yes_and_no(record.get("answer_rules")))
    heads = {
        "binary": f"one head answers {yes} or {no}",
        "open_ended": f"one chooses among {config.num_answers} answers",
    }
    answers = {"binary": f"{yes}, {no}", "open_ended": f"{config.num_answers} answers of its training data"}
    vision = getattr(config.vision_config, "architecture", None) or config.vision_config.model_type
    text = TEXT.format(
        mark=MARK,
        title=repo_id.split("/")[-1] if repo_id else "DualVQA",
        vision=cell(vision),
        text=config.text_config.model_type,
        fusion=config.fusion_type.replace("_", "-"),
        heads=" and ".join(heads[head] for head in config.heads),
        untrained=UNTRAINED if record.get("pretraining") else "",
        name=repo_id or "path/to/this/folder",
        data=data_table(record.get("data")),
        settings=settings_table(record.get("settings")),
        results=result_tables(record),
        memory=f"## Memory\n\n{memory_note(config.memory, record)}\n\n" if config.memory else "",
        answers=" and the ".join(answers[head] for head in config.heads),
        **limits(record),
        parameters="\n".join(f"| {part} | {count:,} |" for part, count in parameters.items()),
        code=CODE_TABLE,
    )
    return f"---\n{metadata(record).to_yaml()}\n---\n{text}"


def limits(record):
    """What the card says of scores and of unfamiliar questions."""
    found = (record.get("results") or {}).get("calibration")
    scores = "A score is the model's own probability. It has not been calibrated."
    unfamiliar = (
        "Images and questions unlike those it was trained on get an answer all the same, and nothing warns of it."
    )
    if found:
        before, after = found["routed_ece_before"], found["routed_ece_after"]
        scores = CALIBRATED.format(rows=found["rows"], images=found["images"], before=before, after=after)
        if after >= before:
            scores += NO_TRUER
        if "max_risk" in found:
            threshold = f"{found['threshold']:.3f}" if "threshold" in found else "that of their group"
            of, wrong = RISK_OF[found.get("risk_of", "answers")]
            risk, coverage = found["max_risk"], found["coverage"]
            scores += ABSTAINS.format(threshold=threshold, of=of, wrong=wrong, risk=risk, coverage=coverage)
        if any(name.endswith("_limit") for name in found):
            judged = [f"the {tower}" for tower in ("image", "question") if f"{tower}_limit" in found]
            unfamiliar = FLAGS.format(judged=" or ".join(judged) or "in this model image and question together")
    return {"scores": scores, "unfamiliar": unfamiliar}


def measured(record):
    """The parts that have results, with them, in the order of reading."""
    results = {part: found for part, found in (record.get("results") or {}).items() if found and part != "calibration"}
    return sorted(results.items(), key=lambda item: (item[0] == "test", item[0]))


def ways(record):
    """How each part was held out: part -> words."""
    return {row["part"]: row["held_out"] for row in record.get("data") or [] if row.get("held_out")}


def metadata(record):
    """The YAML header, as the Hub reads it."""
    datasets = record.get("datasets") or []
    results, accuracy = [], metric_name(record.get("answer_rules"))
    for part, figures in measured(record):
        way = ways(record).get(part)
        source = next((row["source"] for row in record.get("data") or [] if row["part"] == part), part)
        for label, prefix in TYPES.items():
            for name, shown in (("accuracy", accuracy), ("macro_f1", "macro-f1")):
                if f"routed_{prefix}{name}" in figures:
                    results.append(
                        EvalResult(
                            task_type=TASK,
                            dataset_type=(datasets or [source])[0],
                            dataset_name=f"{source} ({part}{', ' + way if way else ''})",
                            dataset_split=part,
                            metric_type="f1" if name == "macro_f1" else "accuracy",
                            metric_name=f"routed {shown}, {label}",
                            metric_value=figures[f"routed_{prefix}{name}"],
                        )
                    )
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=list(dict.fromkeys([*OWN_TAGS, *(record.get("tags") or [])])),
        license=record.get("license"),
        base_model=record.get("base_model") or None,
        datasets=datasets or None,
        metrics=["accuracy", "f1"],
        model_name=(record.get("repo_id") or "DualVQA").split("/")[-1] if results else None,
        eval_results=results or None,
    )


def cell(value):
    """Text as it stands, whatever it is, in a cell of a Markdown table: one line without markup or HTML."""
    text = " ".join(str(value).split()).encode("utf-8", "replace").decode()  # also names that are no valid text
    text = re.sub(r"([\\`|*~\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def data_table(rows):
    if not rows:
        return "Not recorded."
    lines = ["| part | from | questions | images | open-ended coverage |", "|---|---|---|---|---|"]
    for row in rows:
        coverage = f"{row['coverage']:.1%}" if row.get("coverage") is not None else ""
        images = "not counted" if row["images"] is None else f"{row['images']:,}"
        part, source = cell(row["part"]), cell(row["source"])
        lines.append(f"| {part} | {source} | {row['questions']:,} | {images} | {coverage} |")
    most = [f"{name}, {cell(a['answer'])} ({a['share']:.1%})" for row in rows for name, a in majority_of(row)]
    return "\n".join([*lines, *(["", f"Most frequent training answers: {'; '.join(most)}."] if most else [])])


def majority_of(row):
    """(question type, its most frequent answer) of a row of `data`, in the order of reading."""
    kinds = {"yes/no": "binary", "open-ended": "open_ended"}
    return [(name, row["majority"][kind]) for name, kind in kinds.items() if kind in (row.get("majority") or {})]


def settings_table(settings):
    rows = [(RENAMED.get(name, name), value) for name, value in settings or [] if value not in NOTHING]
    if not rows:
        return "Not recorded."
    lines = [f"| {cell(name)} | {cell(value)} |" for name, value in rows]
    return "\n".join(["| setting | value |", "|---|---|", *lines])


def result_tables(record):
    """A table for each part: a row for each way of choosing the head, a column for each question type."""
    results, held_out, metric = measured(record), ways(record), metric_name(record.get("answer_rules"))
    blocks = [refit_note(record)] if record.get("refit") else []
    blocks += [cross_fit_note(record)] if record.get("cross_fit") else []
    if not results:
        return "\n\n".join([*blocks, "Not measured."])
    for part, figures in results:
        lines = [f"| {metric}, % ({part}) | {' | '.join(TYPES)} | |", "|---" * (len(TYPES) + 2) + "|"]
        for kind, meaning in KINDS.items():
            cells = [figures.get(f"{kind}_{prefix}accuracy") for prefix in TYPES.values()]
            if any(cell is not None for cell in cells):
                shown = " | ".join("" if cell is None else f"{100 * cell:.2f}" for cell in cells)
                lines.append(f"| {kind} | {shown} | {meaning} |")
        besides, way = [], held_out.get(part)
        if way:
            besides.append(f"The {part} part is {way}: {WAYS[way]}" if way in WAYS else f"Of the {part} part {way}.")
        if "coverage" in figures:
            besides.append(
                f"With the answers that it knows the open-ended accuracy can be {figures['coverage']:.1%} at most."
            )
        own = [own_figure(name, value) for name, value in figures.items() if name.startswith(OWN)]
        besides += [f"The set's own figures: {', '.join(own)}."] if own else []
        if "router_accuracy" in figures and len(lines) > 2:
            besides.append(f"The model chooses the right head for {figures['router_accuracy']:.1%} of the questions.")
        blocks.append("\n".join(lines) + "\n\n" + "\n".join(besides))
    return "\n\n".join([*blocks, scores_note(record)])


def list_code(folder):
    """Brings the table of Python files in the folder's README.md up to date; `processing_dualvqa` has its twin."""
    path = Path(folder, "README.md")
    head, table, tail = (path.read_text(encoding="utf-8") if path.exists() else "").partition(CODE_TABLE)
    if table:
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in Path(folder).glob("*.py")}
        listed = {**dict(CODE_ROW.findall(tail)), **hashes}
        rows = "".join(f"| `{name}` | `{digest}` |\n" for name, digest in sorted(listed.items()))
        path.write_text(head + table + rows + CODE_ROW.sub("", tail), encoding="utf-8", newline="\n")
