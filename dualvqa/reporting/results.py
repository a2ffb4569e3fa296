"""Each question with all answers to it: what every figure of a report is computed from.

A result is a dict, one line of report_rows.jsonl:

- `part`; `row`, the number of its row in the source, from 0; `place`, where the program that a person opens the source
  with shows it, as bad rows are named; `image`, the key of the image; `question`
- `references`, what people answered; `expected`, what most of them did, in normal form, and `written`, as the first of
  them wrote it; `type`, binary or open_ended
- `known`: whether the model can say the expected answer; `coverage`, how right its best answer could be, in [0, 1]
- `probability_of_yes`: within the yes/no head, whatever the question's type; None in a model without that head
- `columns`: the values that results are shown by
- `answers`: answerer -> a dict of `answer` and `correct`, how right it is, in [0, 1]; of `routed` and `oracle` also
  `head`, `score`, the probability that the model gives it, and `brier`, its squared distance (see `brier_score`)
"""

import json

import torch

from dualvqa.trust.reliability import brier_score
from processing.answers import IGNORE_INDEX, AnswerRules, AnswerVocabulary, as_list, question_type_of
from processing.outputs import named_logits
from processing.processing_dualvqa import BINARY_ANSWERS, QUESTION_TYPES

CHUNK = 1000  # questions whose probabilities are in memory at a time
MODEL = ("routed", "oracle")


def question_results(part, rows, logits, processor, columns=()):
    """The results of one evaluated part, with the model's own answers.

    Args:
        part: its name.
        rows: canonical Dataset with answers.
        logits: the Trainer's prediction arrays, in the order of the rows.
        processor: decodes them.
        columns: names of the columns of `rows` whose values are kept.

    Raises:
        ValueError: there are not as many predictions as rows, or the rows have no answers.
    """
    if "answer" not in rows.column_names:
        raise ValueError(f"the {part} part has no answers to compare with; give rows with answers to report on")
    outputs = named_logits(logits, processor)
    found = len(next(iter(outputs.values())))
    if found != len(rows):
        raise ValueError(f"expected predictions for the {len(rows)} rows of the {part} part, found {found}")
    vocabulary = AnswerVocabulary.of(processor, memory=True)
    known = {*vocabulary.index, *(BINARY_ANSWERS if "binary_logits" in outputs else ())}
    sayable = vocabulary.known("binary_logits" in outputs)
    kept = {name: rows[name][:] for name in ("row", "image_key", "question", "answer", *columns)}
    own = "row_place" in rows.column_names  # canonical rows of earlier versions have no places
    places = rows["row_place"][:] if own else list(map(numbered, kept["row"]))
    results = []
    for index in range(len(rows)):
        references = as_list(kept["answer"][index])
        expected = vocabulary.rules.consensus(references)
        results.append(
            {
                "part": part,
                "row": kept["row"][index],
                "place": places[index],
                "image": kept["image_key"][index],
                "question": kept["question"][index],
                "references": references,
                "expected": expected,
                "written": vocabulary.rules.as_written(references),
                "type": QUESTION_TYPES[question_type_of(expected)],
                "known": expected in known,
                "coverage": vocabulary.rules.best_score(sayable, references),
                "columns": {name: kept[name][index] for name in columns},
                "answers": {},
            }
        )
    for start in range(0, len(results), CHUNK):
        chunk = {name: tensor[start : start + CHUNK] for name, tensor in outputs.items()}
        add_answers(results[start : start + CHUNK], chunk, processor)
    return results


def numbered(row):
    """The place of a row where nothing but its number from 0 is known."""
    return f"row {row + 1}"


def add_answers(results, outputs, processor):
    """Adds what the model says to results, from its logits for them."""
    ranked = processor.rank(outputs, top_k=max(len(processor.all_answers), len(BINARY_ANSWERS)))
    heads = [head for head in QUESTION_TYPES if f"{head}_scores" in ranked]
    types = [result["type"] if result["type"] in heads else heads[0] for result in results]
    first = {name: cut(tensor, name) for name, tensor in ranked.items()}
    routed = processor.decode(first, abstain=False)  # the best guess is scored, also where the model would abstain
    oracle = processor.decode(first, question_type=types, abstain=False)
    within = {head: unranked(ranked, head) for head in heads}  # (B, answers of the head)
    answers = {"binary": BINARY_ANSWERS, "open_ended": processor.all_answers}
    shares = ranked.get("question_type_scores", torch.ones(len(results), 1))
    together = torch.cat([within[head] * shares[:, [n]] for n, head in enumerate(heads)], dim=1)
    rules = AnswerRules.of(processor)
    indices = {head: AnswerVocabulary(answers[head], rules) for head in heads}
    offsets = {head: len(within[heads[0]][0]) * n for n, head in enumerate(heads)}  # in `together`, (B, all answers)
    for row, result in enumerate(results):
        expected, head = result["expected"], types[row]
        result["probability_of_yes"] = within["binary"][row, 1].item() if "binary" in heads else None
        places = {head: indices[head].encode(expected) for head in heads}
        place = next((offsets[head] + place for head, place in places.items() if place >= 0), IGNORE_INDEX)
        # The router's choice is part of what the model says: over the answers of both heads its scores sum to 1.
        distances = {
            "routed": brier_score(together[row : row + 1], [place]),
            "oracle": brier_score(within[head][row : row + 1], [places[head]]),
        }
        for name, best in (("routed", routed[row][0]), ("oracle", oracle[row][0])):
            result["answers"][name] = {
                **judged(best["answer"], result, rules),
                "head": best["question_type"],
                "score": best["score"],
                "brier": distances[name],
            }


def cut(tensor, name):
    """The best answer of each question alone; what is said of the question itself stays as it is."""
    return tensor if name in ("question_type_scores", "unfamiliar") else tensor[:, :1]


def unranked(ranked, head):
    """The probabilities of a head's answers in the order of the vocabulary, (B, N)."""
    scores, indices = ranked[f"{head}_scores"], ranked[f"{head}_indices"]
    return torch.zeros_like(scores).scatter(1, indices, scores)


def judged(answer, result, rules):
    """An answer to a question and how right it is."""
    return {"answer": answer, "correct": rules.score(answer, result["references"])}


def write_results(path, results):
    """Writes results as JSON Lines."""
    with open(path, "w", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(result, ensure_ascii=False, default=str) + "\n")


def read_results(path):
    """Reads what `write_results` wrote."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]
