"""Every dataset is evaluated whole, and scored with its own answers."""

import json

import pytest
import torch
from datasets import Dataset
from helpers import TINY, lines_of
from torch.utils.data import DataLoader
from training_helpers import training_arguments as arguments

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.building import build_model
from dualvqa.training.evaluating import loss_of_all
from processing import AnswerMetrics, AnswerVocabulary
from processing.answers import normalise_answer

FIRST = ["red", "yes", "green", "no", "blue", "red", "no"]
OTHER = ["no", "red", "yes", "blue", "no", "green", "yes"]


def part(answers):
    return Dataset.from_dict(
        {"answer": answers, "question": ["is it red?"] * len(answers), "image_key": ["a", *answers[1:]]}
    )


@pytest.fixture
def trainer(tiny_model, processor, tmp_path):
    """A trainer whose metrics are those of the first part; batches have random images."""

    def collate(rows):
        batch = processor(text=[row["question"] for row in rows], return_tensors="pt")
        labels = {}
        if "answer" in rows[0]:
            labels = AnswerVocabulary(processor.answers).labels([normalise_answer(row["answer"]) for row in rows])
        pixels = torch.randn(len(rows), 3, 32, 32)
        return {**batch, "pixel_values": pixels, **{name: torch.tensor(found) for name, found in labels.items()}}

    def make(**fields):
        return DualVQATrainer(
            tiny_model(),
            arguments(tmp_path, per_device_eval_batch_size=3, **fields),
            train_dataset=part(FIRST),
            eval_dataset=part(FIRST),
            data_collator=collate,
            processing_class=processor,
            compute_metrics=AnswerMetrics(processor, FIRST),
        )

    return make


def accuracy(metrics, prefix="eval"):
    return metrics[f"{prefix}_oracle_accuracy"], metrics[f"{prefix}_routed_accuracy"]


def expected(trainer, answers):
    trainer.compute_metrics = AnswerMetrics(trainer.processing_class, answers)
    torch.manual_seed(1)
    return accuracy(trainer.evaluate(part(answers)))


def test_each_dataset_is_scored_with_its_own_answers(trainer):
    own = trainer()
    wanted = expected(own, OTHER)
    own.compute_metrics = given = AnswerMetrics(own.processing_class, FIRST)
    torch.manual_seed(1)
    assert accuracy(own.evaluate(part(OTHER))) == wanted
    torch.manual_seed(1)
    assert accuracy(own.predict(part(OTHER)).metrics, "test") == wanted
    torch.manual_seed(1)
    own.eval_dataset = {"one": part(OTHER), "two": part(FIRST[:5])}
    several = own.evaluate()
    assert accuracy(several, "eval_one") == wanted and "eval_two_oracle_accuracy" in several
    assert own.compute_metrics is given


def test_rows_without_answers_are_predicted_and_not_evaluated(trainer):
    unanswered = part(OTHER).remove_columns("answer")
    assert len(trainer().predict(unanswered).predictions[0]) == 7
    with pytest.raises(ValueError, match="no answers to compare with"):
        trainer().evaluate(unanswered)


def test_a_stream_is_evaluated_as_it_comes(trainer):
    found = trainer().evaluate(part(OTHER).to_iterable_dataset())
    assert 0 <= found["eval_oracle_accuracy"] <= 1 and found["eval_loss"] > 0


def test_evaluation_and_prediction_keep_all_rows_where_training_drops_some(trainer):
    own = trainer(dataloader_drop_last=True, per_device_train_batch_size=3, max_steps=2)
    assert len(own.get_train_dataloader()) == 2
    assert len(own.get_eval_dataloader()) == 3 and own.args.dataloader_drop_last
    assert len(own.predict(part(OTHER)).predictions[0]) == 7
    assert own.evaluate()["eval_oracle_accuracy"] >= 0


def test_dropping_all_rows_of_training_is_refused(trainer):
    with pytest.raises(ValueError, match="nothing to train on: there are 7 training rows, and a batch has 8"):
        trainer(dataloader_drop_last=True, per_device_train_batch_size=8).train()


def test_workers_that_live_on_are_not_those_of_another_dataset(trainer, monkeypatch):
    own = trainer(dataloader_num_workers=1, dataloader_persistent_workers=True)
    first = own.get_eval_dataloader()
    assert own.get_eval_dataloader() is first and isinstance(first, DataLoader)
    assert len(own.get_eval_dataloader(part(OTHER[:4])).dataset) == 4
    own.eval_dataset = part(OTHER[:2])
    assert len(own.get_eval_dataloader().dataset) == 2


def test_a_best_state_by_a_figure_that_no_evaluation_gives_is_refused_before_training(trainer):
    chosen = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    own = trainer(**chosen, metric_for_best_model="routed_acuracy")
    with pytest.raises(ValueError, match="found 'routed_acuracy'; did you mean routed_accuracy"):
        own.train()
    assert own.state.global_step == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_an_evaluation_in_pieces_is_that_of_all_rows_at_once(trainer, monkeypatch, smoothing):
    own = trainer(label_smoothing_factor=smoothing)
    logits = {"binary": torch.randn(7, 2), "open_ended": torch.randn(7, 3), "question_type": torch.randn(7, 2)}
    labels = {"binary": torch.tensor([-100, 1, -100, 0, -100, -100, 0])}
    labels |= {"open_ended": torch.tensor([0, -100, 1, -100, 2, -100, -100])}
    labels |= {"question_type": torch.tensor([1, 0, 1, 0, 1, 1, 0])}
    expected, parts = own.criterion(logits, labels)
    monkeypatch.setattr("dualvqa.training.evaluating.ROWS", 2)
    found, own_parts = loss_of_all(
        own.criterion, logits, lambda piece: {task: found[piece] for task, found in labels.items()}
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own_parts, parts)


def test_own_metrics_stand_beside_ours_for_whichever_rows_are_evaluated(trainer):
    own = trainer()
    wanted = expected(own, OTHER)
    own.compute_metrics = lambda prediction: {**own.answer_metrics(prediction), "rows": len(prediction.label_ids[0])}
    with pytest.raises(ValueError, match="answer_metrics is for a compute_metrics while rows with answers are"):
        own.answer_metrics(None)
    canonical = part(OTHER)
    for name in ("image", "row"):
        canonical = canonical.add_column(name, [None] * len(OTHER))
    torch.manual_seed(1)
    metrics = own.evaluate(canonical)
    assert accuracy(metrics) == wanted and metrics["eval_rows"] == len(OTHER)


@pytest.mark.slow
def test_each_of_several_evaluation_datasets_is_on_the_card_and_in_the_report(image_folder, tmp_path):
    rows = [{**row, "image": str(image_folder / row["image"])} for row in lines_of(image_folder / "train.jsonl")]
    model, processor = build_model(rows, image_size=32, **TINY)
    trainer = DualVQATrainer(
        model=model,
        processing_class=processor,
        args=arguments(tmp_path / "run", max_steps=1),
        train_dataset=rows[:8],
        eval_dataset={"known": rows[:6], "new": rows[8:]},
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert trainer.write_report() == str(tmp_path / "run" / "report.html")
    parts = json.loads((tmp_path / "run" / "report.json").read_text())["parts"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert list(parts) == ["validation-known", "validation-new"]
    for name, count, images in (("known", 6, 3), ("new", 8, 4)):
        figures = parts[f"validation-{name}"]
        assert figures["types"]["all"] == {"questions": count, "images": images}
        assert figures["accuracy"]["routed"]["all"]["value"] == pytest.approx(metrics[f"eval_{name}_routed_accuracy"])
        assert (
            f"accuracy, % (validation-{name}" in card and f"| validation-{name} | given in Python | {count} |" in card
        )
    assert "Validation-known part" in (tmp_path / "run" / "report.html").read_text()
