import hashlib
import re

import pytest
from huggingface_hub import ModelCard

from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.building import Start
from dualvqa.training.record import describe_settings
from modeling_dualvqa import DualVQAForQuestionAnswering
from modeling_dualvqa.model_card_dualvqa import metadata, result_tables
from processing import DataArguments

MAJORITY = {"open_ended": {"answer": "left_lung*", "share": 0.042}, "binary": {"answer": "no", "share": 0.512}}
RECORD = {
    "repo_id": "someone/dualvqa-radiology",
    "license": "cc0-1.0",
    "base_model": ["distilbert/distilbert-base-uncased"],
    "datasets": ["flaviagiammarino/vqa-rad"],
    "data": [
        {
            "part": "train",
            "source": "flaviagiammarino/vqa-rad",
            "questions": 1519,
            "images": 267,
            "coverage": 1.0,
            "majority": MAJORITY,
        },
        {"part": "test", "source": "flaviagiammarino/vqa-rad", "questions": 451, "images": 203, "coverage": 0.427},
    ],
    "settings": [["seed", 42], ["learning rate", 0.0005]],
    "results": {
        "test": {
            "routed_accuracy": 0.3106,
            "routed_binary_accuracy": 0.6462,
            "routed_open_ended_accuracy": 0.0772,
            "routed_macro_f1": 0.05,
            "oracle_accuracy": 0.32,
            "majority_accuracy": 0.2194,
            "coverage": 0.427,
            "router_accuracy": 0.99,
        }
    },
}


@pytest.fixture
def card(tiny_model, tmp_path):
    tiny_model(model_card=RECORD).save_pretrained(tmp_path)
    return tmp_path / "README.md"


def section(path, title):
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", path.read_text(), re.M | re.S).group(1)


def test_the_header_is_what_the_hub_reads(card):
    data = ModelCard.load(card).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "visual-question-answering",
        "cc0-1.0",
    )
    assert data.datasets == ["flaviagiammarino/vqa-rad"] and data.base_model == ["distilbert/distilbert-base-uncased"]
    assert {"dualvqa", "custom_code"} <= set(data.tags) and set(data.metrics) == {"accuracy", "f1"}
    assert data.model_name == "dualvqa-radiology"
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values == {
        "routed accuracy, all": 0.3106,
        "routed accuracy, yes/no": 0.6462,
        "routed accuracy, open-ended": 0.0772,
        "routed macro-f1, all": 0.05,
    }
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_the_text_shows_what_was_recorded_and_no_more(card):
    results = section(card, "Results")
    assert "| routed | 64.62 | 7.72 | 31.06 |" in results
    assert "| oracle |  |  | 32.00 |" in results and "| majority |  |  | 21.94 |" in results
    assert "With the answers that it knows the open-ended accuracy can be 42.7% at most." in results
    assert "| test | flaviagiammarino/vqa-rad | 451 | 203 | 42.7% |" in section(card, "Training data")
    most = "Most frequent training answers: yes/no, no (51.2%); open-ended, left_lung\\* (4.2%)."
    assert most in section(card, "Training data")
    assert "| learning rate | 0.0005 |" in section(card, "Training settings")
    assert card.read_text().count('"someone/dualvqa-radiology"') == 3


def test_the_parameters_are_counted(card):
    model = DualVQAForQuestionAnswering.from_pretrained(card.parent)
    rows = dict(re.findall(r"^\| (\w+) \| ([\d,]+) \|$", section(card, "Parameters"), re.M))
    assert rows == {part: f"{count:,}" for part, count in model.parameter_counts().items()}
    assert rows["total"] == f"{sum(p.numel() for p in model.parameters()):,}"


def test_the_code_is_listed_with_its_hashes(card, processor):
    processor.save_pretrained(card.parent)
    listed = dict(re.findall(r"^\| `(\w+\.py)` \| `(\w+)` \|$", section(card, "Code"), re.M))
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in card.parent.glob("*.py")}
    assert "processing_dualvqa.py" in listed and "modeling_dualvqa.py" in listed


def test_what_was_not_recorded_is_said_to_be_unknown(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    assert section(card, "Training data").strip() == section(card, "Training settings").strip() == "Not recorded."
    assert section(card, "Results").strip() == "Not measured."
    assert ModelCard.load(card).data.eval_results is None


def test_text_of_users_stays_in_its_cell(tiny_model, tmp_path):
    source = "a|b\n<script>*x*`_y_`[z](http://w) \udce9\\"
    data = [{**RECORD["data"][0], "source": source}]
    settings = [
        ["seed", 1],
        ["teacher", []],
        ["auxiliary targets", None],
        ["freeze", r"layer\.[0-3]|_a_b"],
        ["x|y", "v"],
    ]
    tiny_model(model_card={**RECORD, "data": data, "settings": settings}).save_pretrained(tmp_path)
    card = tmp_path / "README.md"
    row = r"| train | a\|b &lt;script&gt;\*x\*\`\_y\_\`\[z\](http://w) ?\\ | 1,519 | 267 | 100.0% |"
    assert row in section(card, "Training data").splitlines()
    rows = section(card, "Training settings").splitlines()
    assert rows[2:6] == [r"| seed | 1 |", r"| freeze | layer\\.\[0-3\]\|\_a_b |", r"| x\|y | v |", ""]


def test_settings_of_older_folders_have_their_present_names(tiny_model, tmp_path):
    settings = [["pictures read by", "resnet18"], ["parameters that stood still", "layer.0"]]
    tiny_model(model_card={**RECORD, "settings": settings}).save_pretrained(tmp_path)
    DualVQAForQuestionAnswering.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    rows = section(tmp_path / "again" / "README.md", "Training settings")
    assert "| vision tower | resnet18 |" in rows and "| frozen parameters | layer.0 |" in rows


def test_a_run_without_teacher_and_further_columns_has_no_rows_for_them(tmp_path):
    training = DualVQATrainingArguments(str(tmp_path), use_cpu=True)
    names = [name for name, _ in describe_settings(Start(), DataArguments(), training)]
    assert "seed" in names and not {"teacher", "auxiliary targets", "configuration"} & set(names)


def test_a_card_that_a_person_wrote_is_kept(tiny_model, processor, tmp_path):
    card = tmp_path / "README.md"
    card.write_text("# Mine\n")
    tiny_model().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert card.read_text() == "# Mine\n"


def test_a_model_with_one_head_does_not_claim_the_other(tiny_model, tmp_path):
    tiny_model(heads=["binary"]).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "one head answers yes or no" in text and "chooses among" not in text and "It knows yes, no, and" in text


@pytest.mark.parametrize(
    "metric, people, name, said",
    [
        (None, 1, "accuracy", "Answers are compared as strings, after normalisation; one run"),
        (None, 3, "accuracy", "min(matches / 3, 1), of two people the share that agrees"),
        ("vqa", 10, "VQA accuracy", "the mean, over leaving each person out, of min(matches / 3, 1)"),
        ("vizwiz", 10, "VizWiz accuracy", "The metric is `vizwiz`, VizWiz's own score"),
        ("gqa", 1, "GQA accuracy", "an answer is right when it is written as the reference is"),
    ],
)
def test_the_metric_is_named_and_scores_of_several_people_are_shares_of_agreement(metric, people, name, said):
    rules = {"metric": metric} if metric else None
    data = [RECORD["data"][0], {**RECORD["data"][1], "people": people}]
    record = {**RECORD, "answer_rules": rules, "data": data}
    results = result_tables(record)
    assert f"| {name}, % (test) |" in results and said in results
    assert ("not shares of right answers" in results) == (people > 1)
    assert ("compared as strings" in results) == (metric is None)
    assert f"routed {name}, all" in {result.metric_name for result in metadata(record).eval_results}


def test_the_own_figures_of_a_set_are_shares_but_for_a_chi_square_statistic():
    figures = {**RECORD["results"]["test"], "gqa_consistency": 0.5, "gqa_distribution": 1.25}
    text = result_tables({**RECORD, "results": {"test": figures}})
    assert "The set's own figures: gqa consistency 50.0%, gqa distribution 1.25 (lower is better)." in text


def test_yes_and_no_are_the_persons_own_words(tiny_model, tmp_path):
    rules = {"yes_answers": ["Ja", "jawohl"], "no_answers": ["Nein"]}
    tiny_model(model_card={**RECORD, "answer_rules": rules}).save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "one head answers Ja or Nein" in text and "It knows Ja, Nein and the 3 answers" in text


@pytest.mark.parametrize("before, after, truer", [(0.054, 0.09, False), (0.09, 0.054, True)])
def test_temperatures_that_helped_nothing_are_not_praised(tiny_model, tmp_path, before, after, truer):
    found = {"rows": 60, "images": 20, "routed_ece_before": before, "routed_ece_after": after}
    tiny_model(model_card={**RECORD, "results": {"calibration": found}}).save_pretrained(tmp_path)
    text = " ".join((tmp_path / "README.md").read_text().split())
    assert f"they weren't fitted on: {after:.1%}, without temperatures {before:.1%}." in text
    assert ("the temperatures made the scores no truer" in text) != truer and "made truer" not in text


def test_tags_that_a_person_gave_are_on_the_card_and_stay_with_the_model(tiny_model, tmp_path):
    model = tiny_model(model_card=RECORD)
    model.add_model_tags(["radiology", "dualvqa"])
    model.save_pretrained(tmp_path / "first")
    DualVQAForQuestionAnswering.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    for folder in ("first", "second"):
        tags = ModelCard.load(tmp_path / folder / "README.md").data.tags
        assert tags == ["visual-question-answering", "dualvqa", "custom_code", "radiology"]
