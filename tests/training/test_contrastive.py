import json
import math
import os
import shutil

import pytest
import torch
from helpers import ANSWERS, write_jsonl
from safetensors.torch import load_file
from training_helpers import start

from dualvqa.run import main as run_vqa
from dualvqa.training.contrastive import BACKBONE, LOG_SCALE_START, contrastive_loss, first_places, retrieval
from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import DataArguments, DualVQAProcessor, StreamedRows, prepare_datasets

STILL = {"text_config.dropout": 0, "text_config.attention_dropout": 0}
PRETRAIN = ["--pretrain", "contrastive", "--random_crop_scale", "1", "--color_jitter", "0"]


def pretrain(recipe, folder, *flags, **changes):
    return run_vqa.main([recipe(**changes), *PRETRAIN, "--output_dir", str(folder), *flags])


def pretrained(recipe, folder, *flags, **changes):
    pretrain(recipe, folder, *flags, **changes)
    return folder


def log_of(folder, key):
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in entries if key in entry]


def features(number, width=8):
    return torch.randn(number, width, dtype=torch.float32, requires_grad=True)


def test_with_one_text_for_each_image_it_is_the_loss_of_clip():
    images, texts, log_scale = features(5), features(5), torch.tensor(LOG_SCALE_START, requires_grad=True)
    loss, logits = contrastive_loss(images, texts, torch.eye(5).bool(), log_scale)
    found = torch.autograd.grad(loss, [images, texts, log_scale])

    # Figure 3 of the paper, line by line.
    image_norm, text_norm = images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)
    expected_logits = image_norm @ text_norm.T * torch.exp(log_scale)
    labels = torch.arange(5)
    loss_of_images = torch.nn.functional.cross_entropy(expected_logits, labels)
    loss_of_texts = torch.nn.functional.cross_entropy(expected_logits.T, labels)
    expected = (loss_of_images + loss_of_texts) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logits, expected_logits)
    for one, other in zip(found, torch.autograd.grad(expected, [images, texts, log_scale])):
        torch.testing.assert_close(one, other)
    assert found[2].abs() > 1e-3


def test_several_texts_of_an_image_share_its_target():
    images, texts, log_scale = features(2), features(3), torch.tensor(1.0)
    positives = torch.tensor([[True, True, False], [False, True, True]])
    loss, logits = contrastive_loss(images, texts, positives, log_scale)
    rows, columns = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    of_images = -(rows[0, 0] + rows[0, 1] + rows[1, 1] + rows[1, 2]) / 2 / 2
    of_texts = -(columns[0, 0] + (columns[0, 1] + columns[1, 1]) / 2 + columns[1, 2]) / 3
    torch.testing.assert_close(loss, (of_images + of_texts) / 2)


def test_the_temperature_has_the_gradient_of_the_loss():
    images, texts, positives = features(4), features(4), torch.eye(4).bool()
    log_scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def value(scale):
        return contrastive_loss(images, texts, positives, scale)[0]

    value(log_scale).backward()
    step = 1e-3
    difference = (value(log_scale.detach() + step) - value(log_scale.detach() - step)) / (2 * step)
    assert log_scale.grad.item() == pytest.approx(difference.item(), rel=1e-3)


def test_retrieval_counts_hits_chance_and_candidates():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 9.0]])
    positives = torch.tensor([[True, False, False], [True, True, False]])
    assert retrieval(logits, positives).tolist() == pytest.approx([1, 1 / 3 + 2 / 3, 6, 2])


def test_the_same_key_is_the_same_image_wherever_it_is():
    keys = torch.tensor([7, -2, 7, 5, -2])
    index, first = first_places(keys)
    assert keys[first].tolist() == [-2, 5, 7] and first.tolist() == [1, 3, 0]
    assert torch.equal(keys[first][index], keys)


@pytest.mark.slow
def test_duplicates_in_a_batch_are_positives(recipe, tmp_path):
    """The eight images have three texts each colour shares: "is it red? no" is a text of five of them."""
    trainer = pretrain(recipe, tmp_path / "out", "--validation_fraction", "0", max_steps=1).trainer
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(16)])
    assert not any(name.endswith("_labels") for name in batch)
    encoded = []
    trainer.model.vision_encoder.register_forward_hook(lambda *call: encoded.append(len(call[1][0])))
    _, found = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    assert encoded == [8] and found["positives"].shape == (8, 5)  # three colours, "is it red?" with yes and with no
    assert sorted(found["positives"].sum(dim=0).tolist()) == [2, 3, 3, 3, 5]
    assert found["positives"].sum(dim=1).tolist() == [2] * 8


@pytest.mark.slow
def test_the_loss_falls_and_the_temperature_is_learned_and_logged(recipe, tmp_path):
    flags = "--max_steps 40 --logging_steps 10 --learning_rate 0.01 --eval_strategy steps --eval_steps 40".split()
    out = pretrained(recipe, tmp_path / "out", *flags, "--do_eval")
    losses, temperatures = log_of(out, "loss"), log_of(out, "temperature")
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0]
    assert temperatures[-1] != pytest.approx(0.07, rel=1e-2) and all(0.01 <= value < 1 for value in temperatures)
    assert not log_of(out, "binary_weight")
    results = json.loads((out / "all_results.json").read_text())
    for direction in ("image_to_text", "text_to_image"):
        assert 0 <= results[f"eval_{direction}_recall_at_1"] <= 1 and results[f"eval_{direction}_candidates"] >= 2
        assert 0 < results[f"eval_{direction}_chance"] <= 1
    assert results["eval_loss"] > 0


@pytest.mark.slow
def test_the_saved_folder_is_a_model_to_start_from(recipe, tmp_path, caplog):
    torch.manual_seed(42)
    before, first, second = tmp_path / "before", tmp_path / "first", tmp_path / "second"
    pretrained(recipe, before, "--learning_rate", "0", "--validation_fraction", "0")
    pretrained(recipe, first, "--validation_fraction", "0", "--weight_decay", "0.1", "--learning_rate", "0.01")
    model, info = DualVQAForQuestionAnswering.from_pretrained(first, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    start_weights, weights = load_file(before / "model.safetensors"), load_file(first / "model.safetensors")
    changed = {name.split(".")[0] for name in weights if not torch.equal(weights[name], start_weights[name])}
    assert changed == set(BACKBONE)
    words = DualVQAProcessor.from_pretrained(first).tokenizer.get_vocab()
    assert set(ANSWERS) <= set(words) and all(parameter.requires_grad for parameter in model.parameters())

    card = (first / "README.md").read_text()
    assert "Its answers mean nothing yet" in card and "| pre-training | contrastive |" in card
    assert "Not measured." in card
    flags = ["--model_name_or_path", str(first)]
    asked = ["--do_train", "false", "--do_eval", "--validation_file", str(tmp_path / "train.jsonl")]
    run_vqa.main([recipe(), *flags, *asked, "--output_dir", str(tmp_path / "asked")])
    assert "is only pre-trained" in caplog.text

    run_vqa.main([recipe(), *flags, "--do_eval", "--output_dir", str(second)])
    assert "eval_routed_accuracy" in json.loads((second / "all_results.json").read_text())
    card = (second / "README.md").read_text()
    assert "mean nothing yet" not in card and "| continued from | first |" in card
    run_vqa.main([recipe(), *flags, "--new_answers", "--output_dir", str(second)])


@pytest.mark.slow
def test_frozen_towers_leave_the_projections_to_learn(recipe, tmp_path):
    flags = ["--validation_fraction", "0", "--config", "freeze_vision=true", "freeze_text=true"]
    before = pretrained(recipe, tmp_path / "before", "--learning_rate", "0", *flags)
    after = pretrained(recipe, tmp_path / "after", *flags)
    assert (after / "embeddings").is_dir()
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    changed = {name.split(".")[0] for name in new if not torch.equal(new[name], old[name])}
    assert changed == {"visual_projection", "text_projection"}


@pytest.mark.slow
def test_a_resumed_run_has_the_temperature_it_had(recipe, tmp_path):
    flags = "--max_steps 6 --logging_steps 1 --learning_rate 0.01 --save_steps 3".split()
    whole = pretrained(recipe, tmp_path / "whole", *flags)
    resumed = tmp_path / "resumed"
    shutil.copytree(whole / "checkpoint-3", resumed / "checkpoint-3")
    pretrained(recipe, resumed, *flags, "--resume_from_checkpoint", "true")
    assert log_of(resumed, "temperature") == log_of(whole, "temperature")
    assert log_of(resumed, "loss") == log_of(whole, "loss")
    again = ["--model_name_or_path", str(whole)]
    run_vqa.main([recipe(), *again, "--output_dir", str(tmp_path / "plain"), "--save_steps", "1"])
    checkpoint = str(tmp_path / "plain" / "checkpoint-1")
    with pytest.raises(SystemExit, match="is not of pre-training"):
        pretrained(recipe, tmp_path / "other", *again, "--resume_from_checkpoint", checkpoint)


@pytest.mark.slow
def test_the_best_state_is_that_with_the_lowest_loss(recipe, tmp_path, caplog):
    best = "--eval_strategy steps --eval_steps 1 --save_strategy steps --save_steps 1 --load_best_model_at_end".split()
    out = pretrained(recipe, tmp_path / "out", *best, "--metric_for_best_model", "routed_accuracy")
    assert "pre-training has no routed_accuracy" in caplog.text
    state = json.loads((out / "trainer_state.json").read_text())
    assert state["best_metric"] == min(log_of(out, "eval_loss"))


@pytest.mark.slow
def test_captions_need_no_questions_and_no_answers(recipe, image_folder, tmp_path):
    rows = [{"image": f"{n}.png", "caption": f"a {ANSWERS[n % 3]} picture"} for n in range(8)]
    path = write_jsonl(image_folder / "captions.jsonl", rows)
    out = pretrained(recipe, tmp_path / "out", "--pretrain_text_column", "caption", train_file=path)
    assert DualVQAProcessor.from_pretrained(out).answers == []
    flags = ["--model_name_or_path", str(out), "--output_dir", str(tmp_path / "again")]
    with pytest.raises(SystemExit, match="give --new_answers"):
        run_vqa.main([recipe(), *flags])
    run_vqa.main([recipe(), *flags, "--new_answers"])
    assert set(DualVQAProcessor.from_pretrained(tmp_path / "again").answers) == set(ANSWERS)
    with pytest.raises(SystemExit, match="no column 'title'.*--pretrain_text_column"):
        pretrained(recipe, tmp_path / "no", "--pretrain_text_column", "title", train_file=path)


def test_the_text_of_a_row_is_its_question_and_answer(image_folder):
    args = DataArguments(
        train_file=str(image_folder / "train.jsonl"), image_dir=str(image_folder), pretrain="contrastive"
    )
    texts = {text for part in prepare_datasets(args)[0].values() for text in part["question"]}
    assert texts == {*(f"what color is it? {color}" for color in ANSWERS), "is it red? yes", "is it red? no"}


def test_streamed_rows_have_the_same_texts(image_folder, tmp_path):
    import pandas

    with open(image_folder / "0.png", "rb") as file:
        image = {"bytes": file.read(), "path": None}
    rows = [{"image": image, "question": "is it red?", "answer": "Yes", "caption": "red"}]
    pandas.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    fields = {"train_file": str(tmp_path / "train.parquet"), "streaming": True, "pretrain": "contrastive"}
    joined = StreamedRows(DataArguments(**fields))
    assert next(iter(joined))["question"] == "is it red? yes" and joined.summary.questions == ["is it red? yes"]
    captions = StreamedRows(DataArguments(**fields, pretrain_text_column="caption"))
    assert next(iter(captions))["question"] == "red" and "answer" not in next(iter(captions))


@pytest.mark.slow
def test_two_processes_have_the_negatives_of_one(recipe, tmp_path):
    """Without dropout and batch statistics, two processes with half the batch each learn what one does."""
    still = {**STILL, "freeze_vision": True}
    fields = [f"{name}={str(value).lower()}" for name, value in still.items()]
    found = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        flags = [*PRETRAIN, "--output_dir", out, "--max_steps", "4", "--logging_steps", "1", "--do_eval"]
        flags += ["--per_device_train_batch_size", 8 // processes, "--optim", "sgd", "--learning_rate", "0.05"]
        flags += ["--validation_file", tmp_path / "train.jsonl"]  # so that no epoch's last step is filled up
        flags += ["--per_device_eval_batch_size", 4 // processes, "--config", *fields]
        start(run_vqa.main, processes, [recipe(), *map(str, flags)])
        results = json.loads((out / "all_results.json").read_text())
        figures = {name: value for name, value in results.items() if "_to_" in name or name == "eval_loss"}
        found[processes] = (load_file(out / "model.safetensors"), log_of(out, "temperature"), figures)
    one, two = found[1], found[2]
    difference = max((one[0][name].double() - two[0][name].double()).abs().max().item() for name in one[0])
    print(f"largest difference of parameters {difference:.1e}")
    assert difference < 1e-5 and one[1] == pytest.approx(two[1], rel=1e-5) and one[2] == pytest.approx(two[2], rel=1e-4)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--pretrain", "generative"], "pretrain must be one of contrastive; found 'generative'"),
        (["--pretrain", "contrastive", "--do_train", "false", "--do_eval", "--model_name_or_path", "x"], "--do_train"),
        (["--pretrain", "contrastive", "--do_predict"], "add --do_predict false"),
        (["--pretrain", "contrastive", "--per_device_train_batch_size", "1"], "found batches of 1"),
        (["--pretrain", "contrastive", "--questions_per_image", "8"], "lower --questions_per_image"),
        (["--pretrain_text_column", "caption"], "needs --pretrain contrastive"),
        (["--train_fraction", "0"], "train_fraction must be a finite number, above 0 and at most 1; found 0"),
    ],
)
def test_bad_requests_stop_before_training(recipe, tmp_path, flags, message):
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(), *flags])
    assert not os.path.exists(tmp_path / "out" / "config.json")


@pytest.mark.parametrize("kind, images", [("images", 1), ("texts", 3)])
def test_one_image_or_one_text_alone_is_refused(recipe, image_folder, tmp_path, kind, images):
    rows = [
        {"image": f"{n % images}.png", "question": "is it red?" if kind == "texts" else f"is it {n}?", "answer": "red"}
        for n in range(4)
    ]
    path = write_jsonl(image_folder / "few.jsonl", rows)
    with pytest.raises(SystemExit, match=f"needs at least 2 different {kind}"):
        pretrained(recipe, tmp_path / "out", "--validation_fraction", "0", train_file=path)


def test_a_fraction_of_the_questions_is_seeded_and_leaves_validation_alone(image_folder):
    fields = {"train_file": str(image_folder / "train.jsonl"), "image_dir": str(image_folder)}
    whole = prepare_datasets(DataArguments(**fields))[0]
    half = prepare_datasets(DataArguments(**fields, train_fraction=0.5))[0]
    less = prepare_datasets(DataArguments(**fields, train_fraction=0.25))[0]
    assert (
        len(half["train"]) == 7 and len(less["train"]) == 4 and half["validation"]["row"] == whole["validation"]["row"]
    )
    assert set(less["train"]["row"]) < set(half["train"]["row"]) < set(whole["train"]["row"])
    assert half["train"]["row"] == sorted(half["train"]["row"])
    assert prepare_datasets(DataArguments(**fields, train_fraction=0.5))[0]["train"]["row"] == half["train"]["row"]
    other = prepare_datasets(DataArguments(**fields, train_fraction=0.5, validation_fraction=0, split_seed=1))[0]
    assert len(other["train"]) == 8


def test_temperature_starts_at_that_of_the_paper():
    assert math.exp(-LOG_SCALE_START) == pytest.approx(0.07)
