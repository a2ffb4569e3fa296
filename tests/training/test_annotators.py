"""What several people answered, learned as soft labels: with both heads, masks, class weights, adapters, and a run."""

import pytest
import torch
from helpers import TINY, lines_of, write_jsonl
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import nn
from training_helpers import first_gradients, training_arguments
from transformers import set_seed

from dualvqa import DataArguments, DualVQATrainer, build_model
from dualvqa.run import main as run_vqa
from processing import SoftLabels, VQACollator, prepare_dataset, summarise

COLORS = ("red", "green", "blue")
SOFT = DataArguments(target="soft")


@pytest.fixture(scope="module")
def people():
    """Two questions about each of eight images; of ten people three see another color."""
    rows = []
    for n in range(8):
        color, other, image = COLORS[n % 3], ("teal", "pink")[n % 2], Image.new("RGB", (32, 32 + n), COLORS[n % 3])
        rows.append({"image": image, "question": "what color is it?", "answer": [color] * 7 + [other] * 3})
        yes = 8 if color == "red" else 1
        rows.append({"image": image, "question": "is it red?", "answer": ["yes"] * yes + ["no"] * (10 - yes)})
    return rows


@pytest.fixture
def make_model(people):
    def make(**data):
        return build_model(people, data_args=DataArguments(**data), **TINY, image_size=32, preset="none")

    return make


@pytest.fixture
def make_trainer(people, tmp_path):
    def make(soft=SOFT, adapt=None, model_settings=(), without_metrics=False, **arguments):
        set_seed(0)
        settings = {**TINY, "image_size": 32, "preset": "none", **dict(model_settings)}
        model, processor = build_model(people, data_args=soft, **settings)
        defaults = {"max_steps": 2, "per_device_train_batch_size": 8, "logging_steps": 1}
        args = training_arguments(str(tmp_path / "out"), **{**defaults, **arguments})
        metrics = {"compute_metrics": None} if without_metrics else {}
        given = {
            **metrics,
            "args": args,
            "train_dataset": people,
            "eval_dataset": people,
            "processing_class": processor,
        }
        return DualVQATrainer(model=adapt(model) if adapt else model, data_args=soft, **given)

    return make


def test_the_loss_of_both_heads_is_that_of_all_the_answers(make_trainer, people):
    trainer = make_trainer(model_settings={"focal_gamma": 0.0})
    assert set(trainer.processing_class.answers) == {*COLORS, "teal", "pink"}
    figures = trainer.evaluate()
    logits = trainer.predict(people).predictions
    labels = SoftLabels(trainer.processing_class).batch(people)
    rows = range(0, 16, 2)
    open_ended = nn.functional.binary_cross_entropy_with_logits(
        torch.as_tensor(logits[1])[rows], labels["open_ended_labels"][rows], reduction="sum"
    )
    assert figures["eval_open_ended_loss"] == pytest.approx(open_ended.item() / 8, rel=1e-4)
    binary = nn.functional.cross_entropy(torch.as_tensor(logits[0])[1::2], labels["binary_labels"][1::2])
    assert figures["eval_binary_loss"] == pytest.approx(binary.item(), rel=1e-4)


def test_the_loss_without_metrics_is_of_the_same_labels(make_trainer):
    trainer = make_trainer()
    found = trainer.evaluate()["eval_loss"]
    trainer = make_trainer(without_metrics=True)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(found, rel=0.02)  # mean of batches


def test_a_new_head_begins_with_the_answers_as_likely_as_they_are(make_trainer):
    trainer = make_trainer()
    bias = dict(zip(trainer.processing_class.answers, trainer.model.open_ended_head[-1].bias.sigmoid().tolist()))
    assert bias["red"] == pytest.approx(21 / 80) and bias["teal"] == pytest.approx(12 / 80)


@pytest.mark.slow
def test_training_follows_with_class_weights_balance_and_images_together(make_trainer):
    trainer = make_trainer(class_weighting="effective", balanced_sampling=0.5, questions_per_image=2)
    assert trainer.answer_counts == [21, 21, 14, 12, 12]
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["open_ended_loss"] > 0 and logged["binary_loss"] > 0
    assert ["target", "soft, vqa"] in trainer.model.config.model_card["settings"]


@pytest.mark.slow
def test_adapters_learn_from_soft_labels(make_trainer):
    adapters = LoraConfig(r=2, target_modules=r"text_encoder\..*\.(q_lin|v_lin)", modules_to_save=["open_ended_head"])
    trainer = make_trainer(adapt=lambda model: get_peft_model(model, adapters), learning_rate=0.1)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    changed = [name for name, p in trainer.model.named_parameters() if name in before and (p != before[name]).any()]
    assert any("lora_" in name for name in changed) and any("open_ended_head" in name for name in changed)


@pytest.mark.parametrize("heads", [["binary"], ["open_ended"]])
def test_a_model_of_one_head_learns_its_own_questions(make_trainer, heads):
    trainer = make_trainer(model_settings={"heads": heads})
    rows = list(prepare_dataset(trainer.train_dataset))
    batch = trainer.train_collator(rows)
    counts = trainer._get_num_items_in_batch([batch], "cpu")
    assert {task: int(count) for task, count in counts.items()}[heads[0]] == 8
    assert trainer.compute_loss(trainer.model.train(), batch) > 0


@pytest.mark.slow
def test_soft_labels_that_are_ready_made_give_the_same_gradients_however_the_batch_is_cut(tiny_model, rows, tmp_path):
    model = tiny_model(fusion_dropout=0.0, head_dropout=0.0, freeze_vision=True, freeze_text=True)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    torch.manual_seed(1)
    for row in rows:
        binary, kept = row["question_type_labels"] == 0, torch.rand(2)
        row["binary_labels"] = torch.stack([kept[0], 1 - kept[0]]) if binary else torch.full((2,), -100.0)
        row["open_ended_labels"] = torch.full((3,), -100.0) if binary else torch.rand(3)
    start, results = {name: tensor.clone() for name, tensor in model.state_dict().items()}, []
    for micro_batches in (1, 4):
        model.load_state_dict(start)
        results.append(first_gradients(model, rows, tmp_path, micro_batches)[0])
    assert max(gradient.abs().max() for gradient in results[0].values()) > 1e-3
    assert max((results[0][name] - other).abs().max() for name, other in results[1].items()) < 1e-5


def test_the_majority_is_learned_without_the_flag(make_trainer):
    trainer = make_trainer(soft=DataArguments())
    batch = trainer.train_collator(list(trainer.train_dataset))
    assert batch["open_ended_labels"].ndim == 1 and set(trainer.processing_class.answers) == set(COLORS)


def test_label_smoothing_besides_soft_labels_is_refused(make_trainer):
    with pytest.raises(ValueError, match="leave one of the two out"):
        make_trainer(label_smoothing_factor=0.1)


def test_soft_labels_of_one_persons_answers_are_told(make_trainer, people, caplog):
    trainer = make_trainer()
    trainer.train_summary = summarise((row["question"], row["answer"][0]) for row in people)
    trainer.check_data()
    assert "no training question has the answers of several people" in caplog.text


def test_a_collator_of_ones_own_takes_soft_labels(processor, people):
    rows = list(prepare_dataset(people))
    batch = VQACollator(processor, further=[SoftLabels(processor, "share")])(rows)
    assert batch["open_ended_labels"].shape == (16, 3) and batch["open_ended_labels"].max() == pytest.approx(0.7)


def test_a_model_that_learned_from_soft_labels_is_not_silently_trained_on_with_majorities(make_trainer, caplog):
    trainer = make_trainer()
    trainer.start_record()
    trainer.check_data()
    assert "goes on with what most of them said" not in caplog.text
    trainer.data_args = DataArguments()
    trainer.check_data()
    assert "goes on with what most of them said; to go on as before: target soft soft_score vqa" in caplog.text


@pytest.mark.slow
def test_a_run_trains_on_them_and_predicts(recipe, image_folder, people):
    rows = [{**row, "image": f"{n // 2}.png"} for n, row in enumerate(people)]
    train = write_jsonl(image_folder / "people.jsonl", rows)
    files = ["--train_file", train, "--test_file", train, "--do_predict", "--do_eval"]
    run = run_vqa.main([recipe(), *files, "--target", "soft", "--soft_score", "share"])
    assert "teal" in run.processor.answers
    assert len(lines_of(image_folder / "out" / "predictions.jsonl")) == 16


def test_a_trainer_learns_of_the_answers_what_the_model_was_built_for(people, make_model, tmp_path, caplog):
    model, processor = make_model(target="soft", soft_score="share")
    args = training_arguments(str(tmp_path / "out"))
    given = {"model": model, "processing_class": processor, "args": args, "train_dataset": people}
    trainer = DualVQATrainer(**given)
    assert (trainer.data_args.target, trainer.data_args.soft_score) == ("soft", "share")
    assert list(trainer.answer_counts) == list(trainer.train_summary.counts_of(processor.answers, "soft"))
    mapped = [{"Bild": row["image"], "q": row["question"], "answer": row["answer"]} for row in people]
    mapping = {"Bild": "image", "q": "question", "answer": "answer"}
    trainer = DualVQATrainer(**{**given, "train_dataset": mapped}, column_mapping=mapping)
    assert trainer.data_args.target == "soft" and "differ" not in caplog.text
    trainer = DualVQATrainer(**given, data_args=DataArguments(soft_score="share"))
    assert trainer.data_args.target == "majority"
    told = [record.getMessage() for record in caplog.records if "differ" in record.getMessage()]
    assert told == [
        "the model was built for target 'soft', and is trained with 'majority': the data_args of build_model and of "
        "the trainer differ"
    ]
