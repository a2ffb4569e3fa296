"""predict and ask with an exported folder: the answers of the saved one."""

import json
from itertools import chain

import pytest
from helpers import write_jsonl

from dualvqa import predict
from dualvqa.cli import main


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


@pytest.mark.slow
def test_an_exported_folder_is_asked_as_the_saved_one_and_shows_the_examples_whose_texts_it_has(
    exported, with_texts, pictures, capsys
):
    folder, pipe = exported
    asked = [pictures[0], "is it red?", "what is it?", "--top_k", "2"]
    main(["ask", str(with_texts), *asked, "--evidence", "3", "--json"])
    found = [json.loads(line)["answers"] for line in capsys.readouterr().out.splitlines()]
    expected = pipe(pictures[0], asked[1:3], top_k=2, evidence=3)
    for one, other in zip(chain(*found), chain(*expected), strict=True):
        assert one["answer"] == other["answer"] and one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert [e["question"] for e in one["evidence"]] == [e["question"] for e in other["evidence"]]
    main(["ask", str(with_texts), *asked, "--evidence", "3"])
    assert capsys.readouterr().out.count("from the memory: ") == sum(
        len(item["evidence"]) for best in expected for item in best
    )
    with pytest.raises(SystemExit, match="evidence=3 asks for .* this folder has none: export a model with a memory"):
        main(["ask", str(folder), *asked, "--evidence", "3"])
