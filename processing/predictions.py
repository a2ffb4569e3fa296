"""The predictions file: one JSON line per question."""

import json

NAMES = ("answer", "score", "question_type", "top_k")


def write_predictions(path, answers, row_numbers, raw):
    """Writes each row's own fields, then its best answer's `answer`, `score` and `question_type`, and all as `top_k`.

    A field of the row that has one of these names is kept as `source_` + its name.

    Args:
        path: the file, JSON Lines.
        answers: for each question what `post_process_question_answering` gives.
        row_numbers: for each question the number of its row in `raw`.
        raw: the Dataset as its source has it. Of embedded images only the path is written.
    """
    with open(path, "w", encoding="utf-8") as file:
        for number, best in zip(row_numbers, answers):
            line = {}
            for name, value in raw[number].items():
                if isinstance(value, dict) and "bytes" in value:
                    value = value.get("path")
                line[f"source_{name}" if name in NAMES else name] = value
            line |= best[0]
            line["top_k"] = [{"answer": item["answer"], "score": item["score"]} for item in best]
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
