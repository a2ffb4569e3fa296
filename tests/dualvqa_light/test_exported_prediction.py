"""predict with an exported folder: the answers of the saved one."""

import json

import pytest
from helpers import write_jsonl

from dualvqa import predict


@pytest.mark.slow
def test_an_exported_folder_answers_a_file_as_the_saved_one_does(exported, pictures, tmp_path):
    folder, pipe = exported
    rows = [{"image": path, "question": question} for path in pictures for question in ("is it red?", "what is it?")]
    file = write_jsonl(tmp_path / "rows.jsonl", [*rows, {"image": "none.png", "question": "is it red?"}])
    found = {}
    for name, model in (("light", folder), ("torch", pipe)):
        output = predict(model, file, tmp_path / f"{name}.jsonl", batch_size=4)["output"]
        found[name] = [json.loads(line) for line in open(output, encoding="utf-8")]
    for one, other in zip(found["light"], found["torch"], strict=True):
        assert one.get("answer") == other.get("answer") and one.keys() == other.keys()
        assert one.get("score", 0) == pytest.approx(other.get("score", 0), abs=1e-3)
    assert "No such file" in found["light"][-1]["error"]
    with pytest.raises(ValueError, match="answers on the CPU; found the device 'cuda:0'"):
        predict(folder, file, tmp_path / "other.jsonl", device="cuda:0")
