import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from helpers import TEXT, TINY, lines_of, write_jsonl
from safetensors.torch import load_file
from transformers import pipeline

from dualvqa.run import main as run_vqa
from dualvqa.run.flags import config_fields
from dualvqa.training.building import load_model
from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import DualVQAProcessor


@pytest.mark.slow
def test_trains_evaluates_predicts_and_the_saved_folder_answers_the_same(recipe, test_file, tmp_path):
    out = tmp_path / "out"
    run_vqa.main([recipe(), "--do_eval", "--do_predict", "--test_file", test_file])
    results = json.loads((out / "all_results.json").read_text())
    assert {"eval_routed_accuracy", "eval_oracle_accuracy", "eval_majority_accuracy", "eval_coverage"} <= set(results)

    predictions = lines_of(out / "predictions.jsonl")
    assert [line["qid"] for line in predictions] == [5, 3, 4, 3, 0, 1]
    for line in predictions:
        assert line["image"].endswith(".png") and line["source_question_type"] == "X"
        assert line["question_type"] in ("binary", "open_ended") and 0 <= line["score"] <= 1
        assert line["top_k"][0] == {"answer": line["answer"], "score": line["score"]}

    # tests/modeling_dualvqa/test_saved_folder.py asks a folder where nothing of this repository is.
    pipe = pipeline("visual-question-answering", model=str(out), trust_remote_code=True)
    rows = [{"image": str(tmp_path / row["image"]), "question": row["question"]} for row in lines_of(Path(test_file))]
    for row, line in zip(rows, predictions):
        (answer,) = pipe(row)
        assert answer["answer"] == line["answer"] and answer["question_type"] == line["question_type"]
        assert answer["score"] == pytest.approx(line["score"], abs=1e-5)
    for together, alone in zip(pipe(rows[:1] * 2, batch_size=2)[1], pipe(rows[0]), strict=True):
        assert together["answer"] == alone["answer"] and abs(together["score"] - alone["score"]) < 1e-5
    assert len(pipe(rows[0], top_k=2)) == 2
    assert pipe(rows[0], question_type="open_ended")[0]["question_type"] == "open_ended"


@pytest.mark.slow
def test_goes_on_from_a_saved_folder(trained, recipe, test_file, tmp_path, caplog):
    first = str(trained)
    again = str(tmp_path / "again")
    run_vqa.main([recipe(), "--model_name_or_path", first, "--output_dir", again, "--max_question_length", "12"])
    told = next(line for line in caplog.messages if line.startswith("the saved model keeps its own towers"))
    assert "--config" in told and "--max_question_length" in told and "--image_std" not in told
    flags = ["--do_train", "false", "--do_predict", "--test_file", test_file, "--model_name_or_path", again]
    run_vqa.main([recipe(), *flags, "--output_dir", str(tmp_path / "predicted")])
    assert len(lines_of(tmp_path / "predicted" / "predictions.jsonl")) == 6
    assert json.loads((tmp_path / "again" / "config.json").read_text())["text_config"]["dim"] == TEXT["dim"]


@pytest.mark.slow
def test_a_run_leaves_the_complete_folder_and_its_card_says_what_was_reached(recipe, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    run_vqa.main([recipe(), "--do_eval", "--save_strategy", "steps", "--save_steps", "2"])
    results = json.loads((out / "all_results.json").read_text())
    DualVQAForQuestionAnswering.from_pretrained(out).save_pretrained(again)
    DualVQAProcessor.from_pretrained(out).save_pretrained(again)
    saved = {path.name: path.read_bytes() for path in again.iterdir()}
    assert saved == {name: (out / name).read_bytes() for name in saved}
    assert set(saved) <= {path.name for path in (out / "checkpoint-2").iterdir()}
    card = saved["README.md"].decode()
    shown = f"{100 * results['eval_routed_accuracy']:.2f}"
    assert re.search(rf"^\| routed \| \S+ \| \S+ \| {shown} \|", card, re.M)
    assert "| train | train.jsonl | 12 | 6 | 100.0% |" in card and "| validation | train.jsonl | 4 | 2 |" in card
    assert "| seed | 42 |" in card and "| steps | 2 |" in card and str(tmp_path) not in card


@pytest.mark.slow
def test_goes_on_with_other_answers(trained, recipe, image_folder, tmp_path):
    first, again = trained, tmp_path / "again"
    before = load_file(first / "model.safetensors")
    names = {"red": "crimson", "green": "emerald", "blue": "azure"}
    rows = [
        {**row, "answer": names.get(row["answer"], row["answer"])} for row in lines_of(image_folder / "train.jsonl")
    ]
    write_jsonl(image_folder / "train.jsonl", rows)
    flags = ["--model_name_or_path", str(first), "--output_dir", str(again), "--learning_rate", "0"]
    with pytest.raises(SystemExit, match="none of the open-ended training answers.*give --new_answers"):
        run_vqa.main([recipe(), *flags])
    assert not again.exists()
    with pytest.raises(SystemExit, match="--new_answers needs --model_name_or_path"):
        run_vqa.main([recipe(), "--new_answers"])

    run_vqa.main([recipe(), *flags, "--new_answers"])
    assert set(DualVQAProcessor.from_pretrained(again).answers) == set(names.values())
    after = load_file(again / "model.safetensors")
    learned = [name for name in after if "running" not in name and "num_batches" not in name]
    changed = {name.split(".")[0] for name in learned if not torch.equal(before[name], after[name])}
    assert changed == {"open_ended_head"}
    assert "| continued from | out |" in (again / "README.md").read_text()


def test_a_processor_of_another_model_is_refused(trained, recipe, tmp_path):
    settings = json.loads((tmp_path / "out" / "processor_config.json").read_text())
    settings["answers"].append("purple")
    (tmp_path / "out" / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(SystemExit, match="head has 3 answers and the processor's vocabulary 4"):
        run_vqa.main([recipe(), "--model_name_or_path", str(tmp_path / "out")])


def test_flags_override_the_recipe_and_config_settings_merge(recipe):
    model, _, training = run_vqa.parse_arguments(
        [recipe(), "--learning_rate", "0.5", "--config", "fusion_type=cross_attention", "text_config.n_layers=2"]
    )
    assert training.learning_rate == 0.5 and training.max_steps == 2
    fields = config_fields(model.config)
    assert fields["fusion_type"] == "cross_attention" and fields["fusion_hidden_size"] == 16
    assert fields["text_config"] == {**TINY["text_config"], "n_layers": 2}


@pytest.mark.slow
def test_bad_rows_can_be_left_out_and_are_listed(recipe, image_folder, tmp_path):
    rows = lines_of(image_folder / "train.jsonl")
    write_jsonl(image_folder / "train.jsonl", [{**rows[0], "image": "gone.png"}, *rows[1:]])
    with pytest.raises(SystemExit, match="gone.png"):
        run_vqa.main([recipe()])
    assert not (tmp_path / "out").exists()
    run_vqa.main([recipe(), "--on_bad_example", "skip"])
    (bad,) = lines_of(tmp_path / "out" / "bad_examples.jsonl")
    assert bad["row"] == 1 and bad["image"].endswith("gone.png") and "unreadable" in bad["problem"]


@pytest.mark.slow
def test_long_questions_are_counted(recipe, caplog):
    run_vqa.main([recipe(), "--max_question_length", "4"])
    assert "questions are longer than 4 tokens and are cut" in caplog.text


@pytest.mark.parametrize(
    "changes, flags, message",
    [
        ({"learning_rat": 1.0}, [], "unknown key 'learning_rat'; did you mean learning_rate"),
        ({}, ["--config", "fusion_typ=attention"], "did you mean fusion_type"),
        ({}, ["--config", "fusion_type"], "expects field=value"),
        ({"do_train": False}, [], "nothing to do"),
        ({"do_train": False, "do_eval": True}, [], "need --model_name_or_path"),
        ({}, ["--test_file", "gone.jsonl"], "gone.jsonl: no such file"),
        ({}, ["--horizontal_flip", "2"], "horizontal_flip must be"),
    ],
)
def test_requests_that_do_not_fit_stop_before_training(recipe, tmp_path, changes, flags, message):
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(**changes), *flags])
    assert not (tmp_path / "out" / "config.json").exists()


def test_a_folder_that_is_no_dualvqa_model_is_refused(recipe, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SystemExit, match="is no DualVQA model: .*model_type 'bert'"):
        run_vqa.main([recipe(), "--model_name_or_path", str(tmp_path)])


def test_test_images_are_checked_before_training(recipe, image_folder, tmp_path):
    path = write_jsonl(image_folder / "test.jsonl", [{"image": "gone.png", "question": "is it red?"}])
    with pytest.raises(SystemExit, match=r"test.jsonl, line 1 .*gone.png"):
        run_vqa.main([recipe(), "--do_predict", "--test_file", path])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["easy_vqa", "vqa_rad", "vqa_rad_small"])
def test_shipped_recipes_are_understood(name):
    model, data, training = run_vqa.parse_arguments([f"recipes/{name}.yaml"])
    config_fields(model.config)
    assert (data.dataset_name or data.train_file) and training.do_train


def test_a_part_that_is_asked_for_must_be_there(recipe):
    with pytest.raises(SystemExit, match="--do_predict needs a test part"):
        run_vqa.main([recipe(), "--do_predict"])
    with pytest.raises(SystemExit, match="--do_eval needs a validation or test part"):
        run_vqa.main([recipe(), "--do_eval", "--validation_fraction", "0"])


@pytest.mark.slow
def test_a_model_of_yes_and_no_alone(recipe, image_folder, tmp_path):
    rows = [row for row in lines_of(image_folder / "train.jsonl") if row["answer"] in ("yes", "No")]
    write_jsonl(image_folder / "train.jsonl", rows)
    with pytest.raises(SystemExit, match="found yes and no alone: train a model without that head"):
        run_vqa.main([recipe()])
    run_vqa.main([recipe(), "--do_eval", "--config", "heads=[binary]"])
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert "eval_routed_binary_accuracy" in results and "eval_coverage" not in results


@pytest.mark.slow
def test_tensorboard_has_losses_weights_rates_and_throughput(recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_vqa.main([recipe(report_to="tensorboard", logging_steps=1, vision_learning_rate=1e-4)])
    events = next((tmp_path / "out").rglob("events.out.tfevents.*"))
    report = EventAccumulator(str(events)).Reload()
    names = ["loss", "binary_loss", "open_ended_loss", "question_type_loss", "binary_weight", "open_ended_weight"]
    names += ["learning_rate", "vision_learning_rate", "text_learning_rate", "questions_per_second"]
    assert {f"train/{name}" for name in names} <= set(report.Tags()["scalars"])
    first = {name: report.Scalars(f"train/{name}")[0].value for name in names}
    assert first["learning_rate"] == pytest.approx(1e-3) and first["vision_learning_rate"] == pytest.approx(1e-4)
    assert first["questions_per_second"] > 0
    parts = first["binary_loss"] + first["open_ended_loss"] + 0.1 * first["question_type_loss"]
    assert first["loss"] == pytest.approx(parts, rel=1e-4)


@pytest.mark.slow
def test_class_weights_come_from_the_training_answers(recipe):
    trainer = run_vqa.main([recipe(), "--class_weighting", "inverse", "--validation_fraction", "0"]).trainer
    # 8 images are red, green, blue in turn: 3, 3 and 2 of them
    expected = torch.tensor([1 / 3, 1 / 3, 1 / 2]) / (7 / 18)
    assert trainer.processing_class.answers[2] == "blue"
    torch.testing.assert_close(trainer.criterion.alphas["open_ended"], expected)


@pytest.mark.slow
def test_the_card_says_how_the_losses_were_weighed(recipe, tmp_path):
    arguments = "--task_weighting schedule --task_weighting_linear --class_weighting effective".split()
    run_vqa.main([recipe(), *arguments, "--label_smoothing_factor", "0.1"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| task weighting | schedule 0-10:0.5/0.5 11-20:0.3/0.7 21-30:0.2/0.8, linear |" in card
    assert "| class weighting | effective |" in card and "| label smoothing | 0.1 |" in card


@pytest.mark.slow
def test_decoded_images_are_kept_with_the_run_and_are_not_shared(recipe, tmp_path):
    from fnmatch import fnmatch

    from dualvqa.training.hub import SHARED_FILES

    run_vqa.main([recipe(), "--eval_strategy", "epoch"])
    kept = list((tmp_path / "out" / "image_cache").iterdir())
    assert len(kept) == 2  # the training part's, with a margin for crops, and the validation part's
    assert not [path for path in kept for pattern in SHARED_FILES if fnmatch(f"image_cache/{path.name}", pattern)]
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    again = tmp_path / "again"
    run_vqa.main([recipe(), "--image_cache", "false", "--output_dir", str(again)])
    assert not (again / "image_cache").exists() and (again / "model.safetensors").read_bytes() == weights
    with pytest.raises(SystemExit, match="image_cache_gib must be .*, above 0; found 0"):
        run_vqa.main([recipe(), "--image_cache_gib", "0"])


@pytest.mark.slow
def test_one_head_for_all_questions(recipe, test_file, tmp_path):
    out = tmp_path / "out"
    flags = ["--single_head", "--do_eval", "--do_predict", "--test_file", str(test_file), "--logging_steps", "1"]
    run_vqa.main([recipe(), *flags])
    model, processor = load_model(str(out))
    assert model.config.heads == ["open_ended"] and model.binary_head is None
    assert {"yes", "no"} < set(processor.answers)
    assert {line["question_type"] for line in lines_of(out / "predictions.jsonl")} == {"open_ended"}
    figures = json.loads((out / "all_results.json").read_text())
    assert figures["eval_routed_accuracy"] == figures["eval_oracle_accuracy"]
    assert "eval_router_accuracy" not in figures
    first = json.loads((out / "trainer_state.json").read_text())["log_history"][0]
    assert first["open_ended_loss"] > 0 and "binary_loss" not in first
    with pytest.raises(SystemExit, match="keeps its heads"):
        run_vqa.main([recipe(), "--single_head", "--model_name_or_path", str(out)])


@pytest.mark.slow
def test_yes_and_no_are_learned_by_a_single_head(recipe, image_folder):
    """Its labels are those of all questions."""
    from processing import VQACollator

    run_vqa.main([recipe(max_steps=1), "--single_head"])
    _, processor = load_model(recipe_output(recipe))
    rows = [
        {"image_key": "a", "image": {"path": str(image_folder / "0.png")}, "question": "q?", "answer": answer}
        for answer in ("yes", "no", processor.answers[0], "unheard of")
    ]
    labels = VQACollator(processor)(rows)["open_ended_labels"].tolist()
    assert labels == [processor.answers.index("yes"), processor.answers.index("no"), 0, -100]


def recipe_output(recipe):
    with open(recipe(max_steps=1), encoding="utf-8") as file:
        return yaml.safe_load(file)["output_dir"]


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [1, 2])
def test_use_of_experts_is_reported_by_question_type(recipe, tmp_path, top_k):
    settings = ["fusion_num_experts=3", f"fusion_experts_per_question={top_k}", "fusion_num_layers=2"]
    run_vqa.main([recipe(), "--do_eval", "--config", *settings])
    figures = json.loads((tmp_path / "out" / "all_results.json").read_text())
    for task in ("binary", "open_ended"):
        for block in (0, 1):
            shares = [figures[f"eval_{task}_block_{block}_expert_{n}_share"] for n in range(3)]
            assert sum(shares) == pytest.approx(1) and max(shares) <= 1 / top_k + 1e-6
