import json
import re

import numpy as np
import pytest
from scipy.stats import binomtest

from dualvqa.reporting import compare
from dualvqa.reporting.results import write_results


def result(row, part="test", **changes):
    """A question with 12 others about its image, answered right or wrong by chance of `changes`."""
    expected = ("yes", "red")[row % 2]
    made = {
        "part": part,
        "row": row,
        "image": f"image {row // 3}",
        "question": f"question {row}?",
        "references": [expected],
        "expected": expected,
        "type": ("binary", "open_ended")[row % 2],
        "coverage": 1,
    }
    return {**made, **changes}


def write_run(folder, seed, accuracy, parts=("test",), **changes):
    """A run's rows; those in `changes`, by number, have other fields."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    results = []
    for part in parts:
        for row in range(90):
            correct = float(rng.uniform() < accuracy)
            answers = {name: {"answer": "x", "correct": correct} for name in ("routed", "oracle")}
            results.append({**result(row, part), "answers": answers, **changes.get(f"row_{row}", {})})
    write_results(folder / "report_rows.jsonl", results)
    return str(folder)


def test_accuracies_differences_and_tests_are_those_of_the_rows(tmp_path):
    runs = {name: compare.load_run(write_run(tmp_path / name, n, 0.5 + 0.2 * n)) for n, name in enumerate("abc")}
    found = compare.compare_part(runs, "test")
    right = {name: np.array([r["answers"]["routed"]["correct"] for r in parts["test"]]) for name, parts in runs.items()}
    for name in "abc":
        assert found["accuracy"][name]["routed"]["all"]["value"] == pytest.approx(right[name].mean())
        assert found["accuracy"][name]["routed"]["binary"]["value"] == pytest.approx(right[name][::2].mean())
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    test = found["pairs"][1]["answerers"]["routed"]["all"]
    assert test["difference"]["value"] == pytest.approx((right["c"] - right["a"]).mean())
    only_a, only_c = ((right["a"] > right["c"]).sum(), (right["c"] > right["a"]).sum())
    assert (test["only_first"], test["only_second"]) == (only_a, only_c)
    assert test["p"] == pytest.approx(binomtest(int(only_a), int(only_a + only_c)).pvalue)


def test_a_paired_difference_is_surer_than_its_parts(tmp_path):
    """Two runs that differ in few questions: their own intervals overlap, that of the difference doesn't hold 0."""
    write_run(tmp_path / "a", 0, 0.5)
    rows = [json.loads(line) for line in (tmp_path / "a" / "report_rows.jsonl").read_text().splitlines()]
    better = [row for row in rows if not row["answers"]["routed"]["correct"]][::4]
    for row in better:
        row["answers"]["routed"]["correct"] = 1.0
    (tmp_path / "b").mkdir()
    write_results(tmp_path / "b" / "report_rows.jsonl", rows)
    runs = {name: compare.load_run(str(tmp_path / name)) for name in "ab"}
    found = compare.compare_part(runs, "test")
    a, b = (found["accuracy"][name]["routed"]["all"] for name in "ab")
    difference = found["pairs"][0]["answerers"]["routed"]["all"]["difference"]
    assert a["high"] > b["low"] and difference["low"] > 0
    assert difference["value"] == pytest.approx(len(better) / 90)


def test_it_prints_and_writes_a_page(tmp_path, capsys):
    folders = [write_run(tmp_path / "a", 0, 0.4), write_run(tmp_path / "<i>b", 1, 0.9, parts=("validation", "test"))]
    compare.compare_runs(folders, str(tmp_path / "pages" / "compare.html"))
    printed, page = capsys.readouterr().out, (tmp_path / "pages" / "compare.html").read_text()
    assert "not compared, because not all runs have it: validation" in printed
    (difference,) = re.findall(r"routed, all\n.*\n.*\n    <i>b - a: (\+\S+) \(", printed)
    assert f"<td>{difference}<small>" in page and "&lt;i&gt;b" in page and "<i>" not in page
    assert not [link for link in re.findall(r'(?:src|href)="([^"]*)', page) if not link.startswith("#")]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"row_7": {"question": "another?"}}, "row 8 has the question 'question 7?' in a and 'another?' in b"),
        ({"row_7": {"references": ["no"]}}, "row 8 has the references ['red'] in a and ['no'] in b"),
        ({"row_7": {"image": "other"}}, "row 8 has the image 'image 2' in a and 'other' in b"),
        ({"row_7": {"row": 200}}, "only a has row 8, 'question 7?'"),
        ({"row_89": {"row": -1}}, "only b has row 0, 'question 89?'"),
    ],
)
def test_other_rows_are_refused_and_the_first_is_named(tmp_path, change, message):
    folders = [write_run(tmp_path / "a", 0, 0.5), write_run(tmp_path / "b", 0, 0.5, **change)]
    expected = f"the test parts differ: {message}; evaluate the runs on the same file"
    with pytest.raises(ValueError, match=re.escape(expected)):
        compare.compare_runs(folders)


def test_what_cannot_be_compared_is_refused(tmp_path):
    a, b = write_run(tmp_path / "a", 0, 0.5), write_run(tmp_path / "b", 0, 0.5, parts=("validation",))
    with pytest.raises(ValueError, match="no evaluated part in common: a has test; b has validation"):
        compare.compare_runs([a, b])
    with pytest.raises(ValueError, match="expected two or more different runs"):
        compare.compare_runs([a, a])
    with pytest.raises(ValueError, match="has no report_rows.jsonl: evaluate it first"):
        compare.compare_runs([a, str(tmp_path)])
    (tmp_path / "b" / "report_rows.jsonl").write_text('{"part": "te')
    with pytest.raises(ValueError, match="report_rows.jsonl is damaged"):
        compare.compare_runs([a, b])
