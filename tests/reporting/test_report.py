"""Every figure of a report, computed once more from the rows that it writes."""

import json

import numpy as np
import pytest
import torch
from helpers import ANSWERS
from report_rows import canonical, random_logits
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, roc_auc_score
from transformers import EvalPrediction

from dualvqa.reporting.figures import Group, choose_columns, confusion
from dualvqa.reporting.report import EvaluatedRun, write_report
from processing import AnswerMetrics, DualVQAImageProcessor, DualVQAProcessor


def both_parts():
    return {"train": canonical(150, 0, (0, 40)), "validation": canonical(120, 1, (30, 60))}


@pytest.fixture
def parts():
    return both_parts()


@pytest.fixture
def logits(parts):
    return {"validation": random_logits(parts["validation"], 2)}


@pytest.fixture(scope="module")
def report(tokenizer, tmp_path_factory):
    """The figures of the validation part, and the rows that they are to be computed from."""
    folder, parts = tmp_path_factory.mktemp("report"), both_parts()
    logits, blind = ({"validation": random_logits(parts["validation"], seed)} for seed in (2, 3))
    processor = DualVQAProcessor(DualVQAImageProcessor(), tokenizer, ANSWERS)
    write_report(folder, EvaluatedRun(parts, logits, blind, ["organ"]), processor)
    figures = json.loads((folder / "report.json").read_text())["parts"]["validation"]
    return figures, [json.loads(line) for line in (folder / "report_rows.jsonl").read_text().splitlines()]


def of_type(rows, kind):
    return [row for row in rows if kind in ("all", row["type"])]


def values(rows, answerer, field="correct"):
    return np.array([row["answers"][answerer][field] for row in rows])


@pytest.mark.slow
def test_the_rows_are_those_of_the_part(report, parts):
    _, rows = report
    assert [row["row"] for row in rows] == parts["validation"]["row"][:]
    assert [row["question"] for row in rows] == parts["validation"]["question"][:]
    assert [row["references"] for row in rows] == parts["validation"]["answer"][:]
    assert [row["image"] for row in rows] == parts["validation"]["image_key"][:]
    assert {row["part"] for row in rows} == {"validation"}


def test_answers_and_scores_are_those_of_the_logits(report, parts, logits):
    _, rows = report
    binary, open_ended, types = (torch.tensor(array).softmax(-1) for array in logits["validation"])
    for n, row in enumerate(rows):
        joint = torch.cat([binary[n] * types[n, 0], open_ended[n] * types[n, 1]])
        names = ["no", "yes", *ANSWERS]
        head = types[n].argmax().item()
        within = (binary, open_ended)[head][n]
        routed = row["answers"]["routed"]
        assert routed["answer"] == names[2 * head :][within.argmax()]
        assert routed["score"] == pytest.approx((within.max() * types[n, head]).item(), rel=1e-5)
        assert row["probability_of_yes"] == pytest.approx(binary[n, 1].item(), rel=1e-5)
        truth = torch.tensor([float(name == row["expected"]) for name in names])
        assert routed["brier"] == pytest.approx(((joint - truth) ** 2).sum().item(), rel=1e-4)
        true_head = 0 if row["type"] == "binary" else 1
        oracle, truth = (binary, open_ended)[true_head][n], (truth[:2], truth[2:])[true_head]
        assert row["answers"]["oracle"]["score"] == pytest.approx(oracle.max().item(), rel=1e-5)
        assert row["answers"]["oracle"]["brier"] == pytest.approx(((oracle - truth) ** 2).sum().item(), rel=1e-4)


def test_right_is_what_the_references_say(report):
    _, rows = report
    for row in rows:
        for given in row["answers"].values():
            matches = row["references"].count(given["answer"])
            assert given["correct"] == pytest.approx(min(matches / min(3, len(row["references"])), 1))
    assert {given["correct"] for row in rows for given in row["answers"].values()} > {0, 1}  # some for a part


def best_score(people):
    """What the best of the answers that the model can say scores."""
    return max(min(people.count(word) / min(3, len(people)), 1) for word in ("yes", "no", *ANSWERS))


@pytest.mark.parametrize("kind", ["all", "binary", "open_ended"])
@pytest.mark.parametrize("answerer", ["routed", "oracle", "blind_routed", "blind_oracle", "copied", "majority"])
def test_accuracy_and_macro_f1(report, kind, answerer):
    figures, rows = report[0], of_type(report[1], kind)
    truth = [row["expected"] for row in rows]
    accuracy, macro_f1 = figures["accuracy"][answerer][kind], figures["macro_f1"][answerer][kind]
    assert accuracy["value"] == pytest.approx(values(rows, answerer).mean())
    expected = f1_score(truth, values(rows, answerer, "answer"), labels=sorted(set(truth)), average="macro")
    assert macro_f1["value"] == pytest.approx(expected)
    assert figures["types"][kind] == {"questions": len(rows), "images": len({row["image"] for row in rows})}
    assert figures["coverage"][kind] == pytest.approx(np.mean([best_score(row["references"]) for row in rows]))
    assert figures["coverage"][kind] >= accuracy["value"]


def test_intervals_resample_images(report):
    """With another generator's draws they agree but for chance."""
    figures, rows = report
    by_image = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row["answers"]["routed"]["correct"])
    groups, rng = list(by_image.values()), np.random.default_rng(99)
    drawn = [np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]) for _ in range(4000)]
    low, high = np.percentile([sample.mean() for sample in drawn], [2.5, 97.5])
    found = figures["accuracy"]["routed"]["all"]
    assert [found["low"], found["high"]] == pytest.approx([low, high], abs=0.012)


def test_figures_are_those_of_the_metric(report, parts, logits, processor):
    """all_results.json and the report can't say different things."""
    answers = parts["validation"]["answer"]
    metrics = AnswerMetrics(processor, answers)(EvalPrediction(logits["validation"], None))
    for prefix in ("routed", "oracle"):
        for kind, name in (("all", ""), ("binary", "binary_"), ("open_ended", "open_ended_")):
            for figure in ("accuracy", "macro_f1"):
                found = report[0][figure][prefix][kind]["value"]
                assert found == pytest.approx(metrics[f"{prefix}_{name}{figure}"])
    assert report[0]["router_accuracy"]["value"] == pytest.approx(metrics["router_accuracy"])
    assert report[0]["coverage"]["open_ended"] == pytest.approx(metrics["coverage"])


def test_differences_from_the_model_without_images(report):
    figures, rows = report
    for name in ("routed", "oracle"):
        found = figures["differences"][name]["all"]
        difference = values(rows, name) - values(rows, f"blind_{name}")
        assert found["value"] == pytest.approx(difference.mean()) and found["low"] < found["value"] < found["high"]


def test_auc_and_confusion_of_yes_and_no(report):
    figures, rows = report[0], of_type(report[1], "binary")
    labels = [row["expected"] == "yes" for row in rows]
    expected = roc_auc_score(labels, [row["probability_of_yes"] for row in rows])
    assert figures["auc"]["value"] == pytest.approx(expected)
    table = figures["confusion"]["oracle"]["binary"]
    assert (table["expected"], table["given"]) == (["yes", "no"], ["yes", "no"])
    truth = [row["expected"] for row in rows]
    assert table["counts"] == confusion_matrix(truth, values(rows, "oracle", "answer"), labels=["yes", "no"]).tolist()


def test_confusion_of_open_ended_answers_counts_all_questions(report):
    figures, rows = report[0], of_type(report[1], "open_ended")
    table = figures["confusion"]["routed"]["open_ended"]
    assert sorted(table["expected"][:-1]) == sorted(ANSWERS) and table["expected"][-1] == "not in the vocabulary"
    assert {"yes", "no"} < set(table["given"])  # what the router sends to the wrong head
    truth = ["not in the vocabulary" if row["expected"] == "purple" else row["expected"] for row in rows]
    given = values(rows, "routed", "answer")
    for expected, counts in zip(table["expected"], table["counts"]):
        for answer, count in zip(table["given"], counts):
            assert count == sum(t == expected and g == answer for t, g in zip(truth, given)), (expected, answer)
    assert np.sum(table["counts"]) == len(rows)


def test_leakage_and_copying_within_an_image(report, parts):
    figures, rows = report
    train = parts["train"]
    seen = [row for row in rows if row["image"] in set(train["image_key"])]
    assert 0 < len(seen) < len(rows)
    assert figures["leakage"]["images_seen"] == len({row["image"] for row in seen})
    assert figures["same_image"]["questions"] == len(seen)
    for name in ("routed", "copied", "copied_same_image"):
        assert figures["same_image"]["accuracy"][name]["value"] == pytest.approx(values(seen, name).mean())
    about = {}
    for image, answer in zip(train["image_key"], train["answer"]):
        about.setdefault(image, set()).add(answer[0])
    assert all(row["answers"]["copied_same_image"]["answer"] in about[row["image"]] for row in seen)


def test_kinds_of_questions(report):
    figures, rows = report
    assert list(figures["columns"]) == ["organ"]
    for line in figures["columns"]["organ"]:
        chosen = [row for row in rows if row["columns"]["organ"] == line["value"]]
        assert line["questions"] == len(chosen) == 60
        assert line["accuracy"]["routed"]["value"] == pytest.approx(values(chosen, "routed").mean())


@pytest.mark.parametrize("answerer", ["routed", "oracle"])
@pytest.mark.parametrize("kind", ["all", "binary", "open_ended"])
def test_calibration(report, answerer, kind):
    figures, rows = report[0]["calibration"][answerer][kind], of_type(report[1], kind)
    scores, right = values(rows, answerer, "score"), values(rows, answerer)
    bins = np.minimum(np.ceil(scores * 15), 15)
    error = sum((bins == b).sum() * abs(scores[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins))
    assert figures["expected_calibration_error"] == pytest.approx(error / len(rows))
    assert figures["brier"]["value"] == pytest.approx(values(rows, answerer, "brier").mean())
    surest_first = 1 - right[np.argsort(-scores, kind="stable")]
    risks = np.cumsum(surest_first) / np.arange(1, len(rows) + 1)
    assert figures["area_under_risk_coverage"] == pytest.approx(risks.mean())
    assert figures["risk_coverage"][1][-1] == pytest.approx(1 - right.mean())


@pytest.mark.parametrize("fitted_on", [None, "validation"])
def test_what_the_temperatures_change(fitted_on, tokenizer, parts, logits, tmp_path):
    processor = DualVQAProcessor(DualVQAImageProcessor(), tokenizer, ANSWERS)
    processor.calibration = {"temperatures": {"binary": 2.0}}
    write_report(tmp_path, EvaluatedRun({"validation": parts["validation"]}, logits, fitted_on=fitted_on), processor)
    figures = json.loads((tmp_path / "report.json").read_text())["parts"]["validation"]["temperatures"]
    rows = [row for row in map(json.loads, (tmp_path / "report_rows.jsonl").read_text().splitlines())]
    chosen = [place for place, row in enumerate(rows) if row["type"] == "binary"]
    yes = np.array([rows[place]["expected"] == "yes" for place in chosen])

    def errors(temperature):
        margins = (logits["validation"][0][chosen, 1] - logits["validation"][0][chosen, 0]) / temperature
        probability = 1 / (1 + np.exp(-margins))
        scores = np.maximum(probability, 1 - probability)
        right = np.array(
            [
                min(1, rows[p]["references"].count(("no", "yes")[int(m > 0)]) / min(3, len(rows[p]["references"])))
                for p, m in zip(chosen, margins)
            ]
        )
        bins = np.minimum(np.ceil(scores * 15), 15)
        gap = sum((bins == b).sum() * abs(scores[bins == b].mean() - right[bins == b].mean()) for b in np.unique(bins))
        return gap / len(chosen), 2 * brier_score_loss(yes, probability)

    before, after = figures["before"]["binary"], figures["after"]["binary"]
    assert (before["ece"], before["brier"]) == pytest.approx(errors(1.0), abs=1e-5)
    if fitted_on is None:
        assert (after["ece"], after["brier"]) == pytest.approx(errors(2.0), abs=1e-5)
        assert figures["before"]["open_ended"] == figures["after"]["open_ended"]
    else:  # temperatures of other images' questions, not the processor's own
        assert after["brier"] != pytest.approx(errors(2.0)[1], abs=1e-3)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What the temperatures change" in page and ("on other images" in page) == (fitted_on is not None)


def test_the_worst_errors_are_the_surest_entirely_wrong_ones_each_once(report):
    figures, rows = report
    surest = {}
    for row in rows:
        if row["answers"]["routed"]["correct"] == 0:
            asked = (row["image"], row["question"])
            surest[asked] = max(surest.get(asked, 0), row["answers"]["routed"]["score"])
    wrong = sum(row["answers"]["routed"]["correct"] == 0 for row in rows)
    assert 12 < len(surest) < wrong
    worst = [rows[place] for place in figures["worst"]]
    assert all(row["answers"]["routed"]["correct"] == 0 for row in worst)
    scores = [row["answers"]["routed"]["score"] for row in worst]
    assert scores == sorted(surest.values(), reverse=True)[:12]


def test_without_training_rows_there_is_nothing_to_copy(parts, logits, processor, tmp_path):
    write_report(tmp_path, EvaluatedRun({"validation": parts["validation"]}, logits), processor)
    figures = json.loads((tmp_path / "report.json").read_text())["parts"]["validation"]
    assert set(figures["accuracy"]) == {"routed", "oracle"}
    assert figures["leakage"] is None and figures["same_image"] is None and figures["differences"] == {}
    assert "Not known: the training part was not at hand" in (tmp_path / "report.html").read_text()


def test_one_answer_only_has_no_area(parts, processor, tmp_path):
    rows = canonical(30, 4, (0, 9), ("yes", *ANSWERS))
    write_report(tmp_path, EvaluatedRun({"test": rows}, {"test": random_logits(rows, 5)}), processor)
    count = sum(answer[0] == "yes" for answer in rows["answer"])
    found = json.loads((tmp_path / "report.json").read_text())["parts"]["test"]["auc"]
    assert found["value"] is None and found["reason"] == f"all {count} yes/no questions have the answer yes"
    assert f"n/a: {found['reason']}" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("heads", ["binary", "open_ended"])
def test_models_with_one_head(heads, parts, logits, processor, tmp_path):
    processor.answers = [*ANSWERS, "yes", "no"] if heads == "open_ended" else []
    rng = np.random.default_rng(6)
    arrays = rng.normal(size=(120, max(2, len(processor.answers)))).astype(np.float32)
    write_report(tmp_path, EvaluatedRun(parts, {"validation": arrays}), processor)
    figures = json.loads((tmp_path / "report.json").read_text())["parts"]["validation"]
    assert figures["router_accuracy"] is None
    assert figures["accuracy"]["routed"] == figures["accuracy"]["oracle"]
    if heads == "binary":
        assert figures["coverage"]["open_ended"] < 0.1 and figures["auc"]["value"] is not None
    else:
        assert figures["coverage"]["binary"] > 0.9 and figures["auc"]["reason"] == "the model has no yes/no head"


def test_predictions_for_other_rows_are_refused(parts, logits, processor, tmp_path):
    short = tuple(array[:-1] for array in logits["validation"])
    with pytest.raises(ValueError, match="expected predictions for the 120 rows of the validation part, found 119"):
        write_report(tmp_path, EvaluatedRun(parts, {"validation": short}), processor)
    assert not list(tmp_path.iterdir())


def test_a_part_without_answers_is_refused(parts, logits, processor, tmp_path):
    parts["validation"] = parts["validation"].remove_columns("answer")
    with pytest.raises(ValueError, match="the validation part has no answers to compare with"):
        write_report(tmp_path, EvaluatedRun(parts, logits), processor)


def test_columns_are_those_that_look_like_kinds_or_those_asked_for(parts):
    evaluated = {"validation": parts["validation"]}
    assert choose_columns(evaluated) == ["organ"]  # not `id`, whose values are all different
    assert choose_columns(evaluated, ["id"]) == ["id"]
    with pytest.raises(ValueError, match="no evaluated part has a column 'organs'; there are organ, id"):
        choose_columns(evaluated, ["organs"])


def test_figures_compare_normal_forms_and_show_what_people_wrote():
    pairs = [("ct scan", ["CT scan"], "CT Scan."), ("ct scan", ["CT scan"], "X-ray"), ("x ray", ["X-ray"], "X-ray")]
    results = [
        {
            "image": str(row),
            "expected": expected,
            "references": references,
            "known": True,
            "coverage": 1,
            "answers": {"routed": {"answer": given, "correct": 1.0}},
        }
        for row, (expected, references, given) in enumerate(pairs)
    ]
    group = Group(results)
    table = confusion({"open_ended": group}, "routed")["open_ended"]
    assert table == {"expected": ["CT scan", "X-ray"], "given": ["CT scan", "X-ray"], "counts": [[1, 1], [0, 1]]}
    assert group.macro_f1("routed")["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("answers", "last"), [(11, "answer 9"), (12, "other")])  # in the order of letters
def test_a_single_answer_beyond_the_most_frequent_keeps_its_name(answers, last):
    results = [
        {
            "image": str(row),
            "expected": f"answer {row}",
            "references": [f"answer {row}"],
            "known": True,
            "coverage": 1,
            "answers": {"routed": {"answer": f"answer {row}", "correct": 1.0}},
        }
        for row in range(answers)
    ]
    table = confusion({"open_ended": Group(results)}, "routed")["open_ended"]
    assert len(table["expected"]) == 11 and table["expected"][-1] == last
