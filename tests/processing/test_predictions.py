import json

import pytest
import torch
from datasets import Dataset
from helpers import write_jsonl

from dualvqa.run import main as run_vqa
from processing import decoded, predictions, ranked_arrays, write_predictions


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


@pytest.mark.parametrize("heads", [["binary", "open_ended"], ["binary"], ["open_ended"]])
def test_ranked_answers_are_those_of_all_the_logits(heads, monkeypatch, processor):
    monkeypatch.setattr(predictions, "CHUNK", 4)
    processor.answers = ["red", "green", "blue"] if "open_ended" in heads else []
    sizes = {"binary": 2, "open_ended": 3}
    logits = {f"{head}_logits": torch.randn(10, sizes[head]) for head in heads}
    if len(heads) == 2:
        logits["question_type_logits"] = torch.randn(10, 2)
    arrays = tuple(tensor.numpy() for tensor in logits.values())
    ranked = ranked_arrays(arrays if len(arrays) > 1 else arrays[0], processor, top_k=2)
    found = list(decoded([tensor.numpy() for tensor in ranked], processor))
    assert found == processor.post_process_question_answering(logits, top_k=2)


def test_each_row_is_answered_by_the_promise_of_its_own_group(monkeypatch, processor):
    monkeypatch.setattr(predictions, "CHUNK", 2)
    processor.answers = []
    organs = {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "CHEST": None, "1": {"threshold": 0.0}}}
    processor.calibration = {"abstention": organs}
    arrays = [tensor.numpy() for tensor in ranked_arrays(torch.randn(5, 2).numpy(), processor, top_k=1)]
    rows = Dataset.from_dict({"n": range(5)})
    assert [best[0]["answer"] for best in decoded(arrays, processor, rows)] == [None] * 5
    for values, answered in ((["CHEST", "HEAD", "LEG", None, "HEAD"], [1, 4]), ([2, 1, 1, 3, None], [1, 2])):
        found = list(decoded(arrays, processor, rows.add_column("organ", values)))
        assert [n for n, best in enumerate(found) if best[0]["answer"] is not None] == answered


@pytest.mark.slow
def test_predictions_without_answers_are_those_with(image_folder, tmp_path):
    """With answers in the test part the metrics need all logits, without them only the best answers are kept."""
    data = ["--image_dir", str(image_folder), "--report_to", "none", "--use_cpu"]
    small = "fusion_hidden_size=16 fusion_num_attention_heads=2 text_config.dim=16 text_config.hidden_dim=32".split()
    settings = ["--do_train", "--max_steps", "2", "--image_size", "32", "--config", *small, "text_config.n_heads=2"]
    files = ["--train_file", str(image_folder / "train.jsonl")]
    run_vqa.main([*data, *files, *settings, "--output_dir", str(tmp_path / "model")])
    rows = [json.loads(line) for line in (image_folder / "train.jsonl").read_text().splitlines()]
    for name, left_out in (("with", []), ("without", ["answer"])):
        test = [{key: value for key, value in row.items() if key not in left_out} for row in rows]
        file = write_jsonl(image_folder / f"{name}.jsonl", test)
        model = ["--model_name_or_path", str(tmp_path / "model"), "--do_predict", "--test_file", file]
        run_vqa.main([*data, *model, "--output_dir", str(tmp_path / name)])
    with pytest.raises(SystemExit, match="--quantization is for a trained model"):
        run_vqa.main([*data, *files, *settings, "--quantization", "int8", "--output_dir", str(tmp_path / "no")])
    with pytest.raises(SystemExit, match="found 'int4'"):
        run_vqa.main([*data, *model, "--quantization", "int4", "--output_dir", str(tmp_path / "no")])
    run_vqa.main([*data, *model, "--quantization", "int8", "--output_dir", str(tmp_path / "int8")])
    assert len((tmp_path / "int8" / "predictions.jsonl").read_text().splitlines()) == len(rows)
    lines = {name: (tmp_path / name / "predictions.jsonl").read_text().splitlines() for name in ("with", "without")}
    for found, expected in zip(map(json.loads, lines["without"]), map(json.loads, lines["with"]), strict=True):
        assert {**found, "source_answer": expected["source_answer"]} == expected
