import json

from datasets import Dataset

from processing import write_predictions


def test_rows_keep_their_fields_and_their_order(tmp_path):
    raw = Dataset.from_dict(
        {
            "image": [
                {"bytes": b"x", "path": "a.png"},
                {"bytes": b"y", "path": None},
                {"bytes": b"z", "path": "c.png"},
            ],
            "answer": ["liver", "yes", None],
            "qid": [7, 8, 9],
        }
    )
    best = {"answer": "lung", "score": 0.5, "question_type": "open_ended"}
    second = {"answer": "liver", "score": 0.25, "question_type": "open_ended"}
    write_predictions(tmp_path / "p.jsonl", [[best, second], [second]], [2, 0], raw)
    first, last = (json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines())
    assert first == {
        "image": "c.png",
        "source_answer": None,
        "qid": 9,
        **best,
        "top_k": [{"answer": "lung", "score": 0.5}, {"answer": "liver", "score": 0.25}],
    }
    assert (last["qid"], last["source_answer"], last["answer"]) == (7, "liver", "liver")
