"""The examples of a memory that spoke for an answer, where the exported folder has their texts."""

import json
import os

from .decoding import QUESTION_TYPES

FIELDS = ("image", "question", "answer")  # of an example, as a person sees it
TOLD = (
    "evidence={count} asks for the examples that spoke for an answer, and this folder has none: export a model with a "
    "memory and its texts, with --evidence"
)


class Evidence:
    """
    Args:
        folder: the exported folder.
        name: of the file in it, a line of JSON for each example: `image`, a name, `question` and `answer`;
            `question_type`, and `index`, the place of what the answer means among the manifest's `answers`.

    Raises:
        ValueError: the file is damaged.
    """

    def __init__(self, folder, name):
        path = os.path.join(folder, name)
        try:
            with open(path, encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            self.texts = [{field: row[field] for field in FIELDS} for row in rows]
            self.question_type = [QUESTION_TYPES.index(row["question_type"]) for row in rows]
            self.answer_index = [int(row["index"]) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}); export the model again") from error

    def __len__(self):
        return len(self.texts)

    def add(self, answers, outputs, words, count):
        """Gives each answer `evidence`: the examples that spoke for it, the most similar first, at most `count`.

        Args:
            answers: for each question a list of dicts, as the decoder gives them.
            outputs: `memory_indices`, `memory_similarities` and `memory_weights` (B, k).
            words: "binary" and "open_ended" -> their answers.
        """
        neighbours = zip(*(outputs[f"memory_{name}"].tolist() for name in ("indices", "similarities", "weights")))
        for best, found in zip(answers, neighbours):
            for item in best:
                kind, said = item["question_type"], item.get("best_guess", item["answer"])
                means = QUESTION_TYPES.index(kind), words[kind].index(said)
                item["evidence"] = [
                    {**self.texts[number], "similarity": similarity, "weight": weight}
                    for number, similarity, weight in zip(*found)
                    if weight > 0 and (self.question_type[number], self.answer_index[number]) == means
                ][:count]


def check_evidence(evidence, count):
    """
    Raises:
        ValueError: `count` is no whole number from 1, or there is no [`Evidence`].
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"evidence must be a whole number from 1, how many examples to show; found {count!r:.100}")
    if evidence is None:
        raise ValueError(TOLD.format(count=count))
