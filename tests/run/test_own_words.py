"""A table whose yes and no are Ja and Nein, from training to the answers of a saved folder."""

import json
import shutil

import pytest
from datasets import IterableDataset
from helpers import TINY, lines_of, write_images, write_jsonl
from transformers import pipeline

from dualvqa import DualVQATrainer, DualVQATrainingArguments, answers_of, build_model
from dualvqa.cli import main
from dualvqa.run import main as run_vqa
from dualvqa.run.model import renew_answers
from dualvqa.training.building import load_model
from modeling_dualvqa import DualVQAPipeline
from processing import AnswerRules, AnswerVocabulary, DataArguments, DualVQAProcessor, StreamedRows, summarise
from processing.yes_no import settle_rules


@pytest.fixture(scope="module")
def german_run(tmp_path_factory):
    """The folder of a run of two steps, evaluated, reported and predicted; its test part is answered in German too."""
    folder = write_images(tmp_path_factory.mktemp("german"))
    colors = {"red": "rot", "green": "grün", "blue": "das Blau"}
    answers = {"yes": "Ja", "No": "Nein", **colors}
    rows = [{**row, "answer": answers[row["answer"]]} for row in lines_of(folder / "train.jsonl")]
    flags = {
        "train_file": write_jsonl(folder / "german.jsonl", rows),
        "test_file": write_jsonl(folder / "t.jsonl", rows[:8]),
    }
    flags |= {"image_dir": folder, "output_dir": folder / "out", "image_size": 32, "validation_fraction": 0.25}
    flags |= {"max_steps": 2, "per_device_train_batch_size": 8, "report_to": "none", "answer_language": "de"}
    config = ["--config", *(f"{name}={json.dumps(value)}" for name, value in TINY.items())]
    line = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    run_vqa.main([*line, *config, "--preset", "none", "--use_cpu", "--do_train", "--do_eval", "--do_predict"])
    return folder / "out"


@pytest.mark.slow
def test_the_yes_no_head_learns_and_says_the_persons_own_words(german_run):
    processor = load_model(german_run)[1]
    assert processor.binary_answers == ("Nein", "Ja") and not {"Ja", "Nein"} & set(processor.answers)
    assert processor.answer_rules == {"yes_answers": ["Ja"], "no_answers": ["Nein"], "answer_language": "de"}
    assert {line["answer"] for line in lines_of(german_run / "predictions.jsonl")} <= {"Ja", "Nein", *processor.answers}
    pipe = pipeline("visual-question-answering", model=str(german_run), trust_remote_code=True)
    image = str(german_run.parent / "0.png")
    said = pipe(image=image, question="is it red?", question_type="binary", top_k=2)
    assert {item["answer"] for item in said} == {"Ja", "Nein"}


@pytest.mark.slow
def test_figures_count_them_as_yes_and_no(german_run):
    results = json.loads((german_run / "all_results.json").read_text())
    assert results["eval_coverage"] == 1.0 and "eval_oracle_binary_accuracy" in results
    report = json.loads((german_run / "report.json").read_text())["parts"]["test"]
    assert report["types"]["binary"]["questions"] == 4 and report["auc"]["value"] is not None
    assert set(report["confusion"]["oracle"]["binary"]["expected"]) == {"Ja", "Nein"}
    rows = lines_of(german_run / "report_rows.jsonl")
    assert {row["expected"] for row in rows if row["type"] == "open_ended"} == {"rot", "grün", "blau"}
    for row in rows:
        said = row["answers"]["oracle"]["answer"]
        assert row["answers"]["oracle"]["correct"] == float(said == row["references"][0])


@pytest.mark.slow
def test_the_card_and_info_speak_the_persons_own_words(german_run, capsys):
    card = " ".join((german_run / "README.md").read_text().split())
    assert "one head answers Ja or Nein" in card and "It knows Ja, Nein and the 3 answers" in card
    main(["info", str(german_run)])
    shown = capsys.readouterr().out
    majority = json.loads((german_run / "config.json").read_text())["model_card"]["data"][0]["majority"]
    assert majority["binary"]["answer"] in ("Ja", "Nein") and majority["open_ended"]["answer"] in (
        "rot",
        "das Blau",
        "grün",
    )
    assert f"most often answered {majority['binary']['answer']} or {majority['open_ended']['answer']}" in shown


@pytest.mark.slow
def test_a_saved_model_predicts_and_evaluates_by_its_own_words(german_run, tmp_path):
    test_file = str(german_run.parent / "t.jsonl")
    flags = ["--model_name_or_path", str(german_run), "--test_file", test_file, "--image_dir", str(german_run.parent)]
    run_vqa.main([*flags, "--output_dir", str(tmp_path), "--do_eval", "--do_predict", "--use_cpu"])
    first = json.loads((german_run / "all_results.json").read_text())
    again = json.loads((tmp_path / "all_results.json").read_text())
    assert again["test_routed_accuracy"] == first["test_routed_accuracy"]
    assert again["test_oracle_binary_accuracy"] == first["test_oracle_binary_accuracy"]


def test_a_saved_processor_keeps_the_rules_and_one_without_any_is_saved_as_ever(processor, tmp_path):
    processor.save_pretrained(tmp_path / "english")
    saved = json.loads((tmp_path / "english" / "processor_config.json").read_text())
    assert "answer_rules" not in saved and "chat_template" not in saved
    (tmp_path / "english" / "processor_config.json").write_text(json.dumps({**saved, "chat_template": None}))
    assert DualVQAProcessor.from_pretrained(tmp_path / "english").binary_answers == ("no", "yes")  # of earlier versions
    processor.answer_rules = AnswerRules(["はい"], ["いいえ"], "ja", "vqa").saved()
    processor.save_pretrained(tmp_path / "own")
    again = DualVQAProcessor.from_pretrained(tmp_path / "own")
    assert again.binary_answers == ("いいえ", "はい") and AnswerRules.of(again) == AnswerRules.of(processor)


@pytest.mark.parametrize(
    "rules, message",
    [
        ({"yes": ["ja"]}, "answer_rules may have yes_answers, no_answers, answer_language, metric; found 'yes'"),
        ({"yes_answers": "ja"}, "yes_answers of answer_rules must be a list of words, found 'ja'"),
        ({"metric": 1}, "metric of answer_rules must be a word, found 1"),
    ],
)
def test_a_folder_with_other_rules_than_there_are_is_refused(processor, rules, message):
    processor.answer_rules = rules
    with pytest.raises(ValueError, match=message):
        processor.check()


def test_python_takes_the_same_settings_and_answers_of_says_the_own_words(image_folder, tmp_path):
    colors = {"red": "rouge", "green": "vert", "blue": "le bleu", "yes": "oui", "No": "non"}
    rows = [
        {**row, "image": str(image_folder / row["image"]), "answer": colors[row["answer"]]}
        for row in lines_of(image_folder / "train.jsonl")
    ]
    own = {"yes_answers": ["Oui"], "no_answers": ["Non"], "answer_language": "fr", "metric": "vqa"}
    model, processor = build_model(rows, image_size=32, **TINY, **own)
    assert processor.answer_rules == own and set(processor.answers) == {"rouge", "vert", "le bleu"}
    args = DualVQATrainingArguments(str(tmp_path / "run"), report_to="none", use_cpu=True, disable_tqdm=True)
    trainer = DualVQATrainer(model=model, processing_class=processor, args=args, train_dataset=rows, eval_dataset=rows)
    assert trainer.data_args.yes_answers == ["Oui"] and trainer.data_args.metric == "vqa"
    figures = trainer.evaluate()
    assert figures["eval_coverage"] == 1 and "eval_oracle_binary_accuracy" in figures
    said = answers_of(trainer.predict(trainer.eval_dataset), processor)
    binary = {best[0]["answer"] for best in said if best[0]["question_type"] == "binary"}
    assert binary <= {"Oui", "Non"}


def test_a_single_head_says_them_too(image_folder, tmp_path):
    rows = [
        {"image": str(image_folder / "0.png"), "question": f"{n}?", "answer": answer}
        for n, answer in enumerate(["Ja", "ja", "Nein", "rot", "jawohl"])
    ]
    words = {"yes_answers": ["ja", "jawohl"], "no_answers": ["nein"]}
    _, processor = build_model(rows, image_size=32, single_head=True, **TINY, **words)
    assert processor.answers == ["ja", "nein", "rot"]
    assert AnswerVocabulary.of(processor).labels(["Jawohl", "nein"])["open_ended_labels"] == [0, 1]


def test_a_stream_finds_the_words_too(image_folder, tmp_path):
    rows = [
        {"image": str(image_folder / "0.png"), "question": f"{n}?", "answer": answer}
        for n, answer in enumerate(["Evet", "Hayır", "IŞIK", "ışık"])
    ]
    args = DataArguments(answer_language="tr")
    summary = StreamedRows(args, stream=IterableDataset.from_generator(lambda: iter(rows))).summary
    assert summary.rules.shown == ("Hayır", "Evet") and dict(summary.answers) == {"yes": 1, "no": 1, "ışık": 2}
    assert not args.yes_answers  # what it found is of these rows


def test_a_new_vocabulary_leaves_yes_and_no_to_their_head_though_the_old_one_had_the_words(tiny_model, processor):
    processor.answers, rules = ["Ja", "jawohl", "Nein"], AnswerRules(["ja", "jawohl"], ["nein"])
    processor.answer_rules = rules.saved()
    summary = summarise([("is it red?", "Ja"), ("is it red?", "nein"), ("what color?", "rot")], rules=rules)
    renew_answers(tiny_model(), processor, DataArguments(), summary)
    assert processor.answers == ["rot"]


def test_a_stream_that_a_saved_model_goes_on_with_keeps_its_words(image_folder, processor, caplog):
    answers = ["Ja", "Nein", "red"]
    rows = [{"image": str(image_folder / "0.png"), "question": f"{n}?", "answer": a} for n, a in enumerate(answers)]
    args = DataArguments()
    settle_rules(args, processor=processor)
    summary = StreamedRows(args, stream=IterableDataset.from_generator(lambda: iter(rows))).summary
    assert summary.rules == AnswerRules.of(processor) and set(summary.answers) == {"ja", "nein", "red"}
    assert '"Ja", "Nein" may mean yes and no' in caplog.text and "taken as yes" not in caplog.text


@pytest.mark.slow
def test_a_run_goes_on_evaluates_and_answers_with_others_by_the_same_words_alone(german_run, tmp_path, caplog):
    """Each is refused before it trains or evaluates, and data in other words are told."""
    german = str(german_run.parent / "german.jsonl")
    recipe = {"image_dir": str(german_run.parent), "output_dir": str(tmp_path), "use_cpu": True, "report_to": "none"}

    def refused(message, *flags, **settings):
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps({**recipe, **settings}))
        with pytest.raises(SystemExit, match=message):
            run_vqa.main([str(path), *flags])

    new = {"train_file": german, "image_size": 32, "preset": "none", "config": TINY, "do_train": True, "max_steps": 3}
    new |= {"validation_fraction": 0.25, "resume_from_checkpoint": str(german_run)}
    english = {"yes_answers": ["yes"], "no_answers": ["no"], "answer_language": "de"}
    refused("yes_answers Ja --no_answers Nein there, --yes_answers yes --no_answers no here", **new, **english)
    refused("--answer_language de there, --answer_language en here; --metric exact there", **new, metric="vqa")
    saved = {"model_name_or_path": str(german_run)}
    swapped = ["--yes_answers", "nein", "--no_answers", "Ja"]
    refused("'Ja' means yes to the saved model", *swapped, **saved, train_file=german, do_train=True)
    colors = ["--yes_answers", "rot", "--no_answers", "das Blau"]
    scored = {**saved, "validation_file": german, "do_eval": True}
    refused("is one of the saved model's open-ended answers", *colors, **scored)
    other = shutil.copytree(german_run, tmp_path / "other")
    config = json.loads((other / "processor_config.json").read_text())
    rules = {"answer_language": "de"}
    (other / "processor_config.json").write_text(json.dumps({**config, "answer_rules": rules}))
    refused("compare answers in different ways: --yes_answers Ja", "--ensemble_with", str(other), **scored)
    run_vqa.main([str(tmp_path / "recipe.yaml"), "--model_name_or_path", str(other), "--report", "false"])
    assert 'validation: "Ja", "Nein" may mean yes and no, and count as wrong' in caplog.text


def test_a_taught_yes_is_the_yes_no_heads(tiny_model, processor, image_folder):
    processor.answer_rules = {"yes_answers": ["ja", "jawohl"], "no_answers": ["nein"]}
    pipe = DualVQAPipeline(tiny_model(fusion_type="cross_attention"), processor)
    images = [str(image_folder / f"{number}.png") for number in (0, 1, 2)]
    pipe.memory.build(images, ["is it red?"] * 3, ["Jawohl", "nein", "Ja"])
    assert pipe.model.memory.question_type.tolist() == [0, 0, 0] and not processor.memory_answers
    assert pipe.model.memory.answer_index.tolist() == [1, 0, 1]
    said = pipe(image=images[1], question="is it red?", question_type="binary", evidence=1)
    assert said[0]["answer"] in ("ja", "nein") and said[0]["evidence"] is not None
