import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from huggingface_hub import HfApi, ModelCard
from processes import forked
from training_helpers import ROWS, first_gradients
from training_helpers import training_arguments as arguments
from transformers import Trainer, TrainingArguments, default_data_collator

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments, default_workers
from dualvqa.training.sampling import ByLength, ImageGroupedSampler, MarkedRows, RepeatMaskingCollator
from dualvqa.training.sharding import check_sharding
from modeling_dualvqa.loss_dualvqa import class_weights, count_valid, focal_loss


@pytest.mark.slow
def test_gradients_do_not_depend_on_how_the_batch_is_cut(tiny_model, rows, tmp_path):
    model = tiny_model(fusion_dropout=0.0, head_dropout=0.0, freeze_vision=True)  # batch norm does depend on the cut
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results = {}
    for micro_batches in (1, 4, 8):
        model.load_state_dict(start)
        results[micro_batches] = first_gradients(model, rows, tmp_path, micro_batches)
    whole, whole_log = results[1]
    assert max(gradient.abs().max() for gradient in whole.values()) > 1e-3
    for micro_batches in (4, 8):
        gradients, log = results[micro_batches]
        assert gradients.keys() == whole.keys()
        difference = max((gradients[name] - whole[name]).abs().max().item() for name in whole)
        print(f"{micro_batches} micro-batches: largest difference {difference:.1e}")
        assert difference < 1e-5
        for key in ("loss", "binary_loss", "open_ended_loss", "question_type_loss"):
            assert log[key] == pytest.approx(whole_log[key], rel=1e-4)


def test_the_trainers_loss_is_the_models_loss(tiny_model, rows, tmp_path):
    model = tiny_model()
    trainer = DualVQATrainer(model=model, args=arguments(tmp_path), eval_dataset=rows)
    batch = trainer.data_collator(rows)
    expected = model(**batch).loss
    loss = trainer.compute_loss(model, dict(batch))
    torch.testing.assert_close(loss, expected)
    assert trainer.evaluate()["eval_loss"] > 0


def test_weights_of_the_run_replace_those_of_the_model(tiny_model, rows, tmp_path):
    model = tiny_model()
    args = arguments(tmp_path, binary_loss_weight=0.0, open_ended_loss_weight=2.0, question_type_loss_weight=0.0)
    trainer = DualVQATrainer(model=model, args=args)
    batch = trainer.data_collator(rows)
    model.config.binary_loss_weight = model.config.question_type_loss_weight = 0.0
    expected = 2 * model(**batch).loss
    torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected)


def test_each_tower_has_its_learning_rate(tiny_model, tmp_path):
    model = tiny_model()
    args = arguments(tmp_path, learning_rate=1e-3, vision_learning_rate=1e-4, text_learning_rate=1e-5, weight_decay=0.1)
    optimizer = DualVQATrainer(model=model, args=args).create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert rates.keys() == set(names.values())
    assert rates["vision_encoder.model.embedder.embedder.convolution.weight"] == (1e-4, 0.1)
    assert rates["text_encoder.model.embeddings.LayerNorm.weight"] == (1e-5, 0.0)
    assert rates["visual_projection.weight"] == (1e-3, 0.1)
    assert rates["visual_projection.bias"] == (1e-3, 0.0)


def test_frozen_towers_are_not_given_to_the_optimizer(tiny_model, tmp_path):
    model = tiny_model(freeze_vision=True, freeze_text=True)
    optimizer = DualVQATrainer(model=model, args=arguments(tmp_path)).create_optimizer()
    count = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    counts = model.parameter_counts()
    assert count == counts["total"] - counts["vision_encoder"] - counts["text_encoder"]


def test_grouped_sampler_brings_questions_about_one_image_together():
    keys = ["a"] * 5 + ["b"] * 3 + ["c"] * 4
    sampler = ImageGroupedSampler(keys, per_image=3, seed=7)
    order = list(sampler)
    assert sorted(order) == list(range(12)) and len(sampler) == 12
    runs = 1 + sum(keys[a] != keys[b] for a, b in zip(order, order[1:]))
    assert runs <= 5  # five groups: 3 + 2, 3, 3 + 1
    assert order == list(ImageGroupedSampler(keys, per_image=3, seed=7))
    sampler.set_epoch(1)
    assert order != list(sampler)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"binary_loss_weight": -1.0}, "binary_loss_weight must be a finite number or null, at least 0"),
        ({"questions_per_image": -1}, "questions_per_image must be a whole number, at least 0"),
        ({"remove_unused_columns": True}, "remove_unused_columns must stay off"),
        ({"label_smoothing_factor": 1.0}, "label_smoothing_factor must be a finite number, at least 0 and below 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **fields)


def test_several_gpus_without_a_launcher_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(DualVQATrainingArguments, "n_gpu", property(lambda self: 4))
    with pytest.raises(ValueError, match="accelerate launch --num_processes 4"):
        arguments(tmp_path)


@pytest.mark.parametrize("counts, found", [(None, "none"), ([1, 2], "2")])
def test_class_weights_need_the_counts_of_all_answers(tiny_model, tmp_path, counts, found):
    with pytest.raises(ValueError, match=f"needs the counts of 3 answers, found {found}"):
        DualVQATrainer(tiny_model(), arguments(tmp_path, class_weighting="effective"), answer_counts=counts)


def test_class_weights_without_a_head_that_has_them_are_refused(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="class_weighting inverse weighs the answers of the open-ended head, and this"):
        DualVQATrainer(tiny_model(heads=["binary"]), arguments(tmp_path, class_weighting="inverse"), answer_counts=[])


def test_class_weights_and_label_smoothing_reach_the_loss(tiny_model, rows, tmp_path):
    model = tiny_model()
    args = arguments(tmp_path, class_weighting="inverse", label_smoothing_factor=0.2)
    trainer = DualVQATrainer(model, args, answer_counts=[1, 2, 4])
    batch = trainer.data_collator(rows)
    outputs = model(**{name: value for name, value in batch.items() if not name.endswith("_labels")})
    labels = {task: batch[f"{task}_labels"] for task in ("binary", "open_ended", "question_type")}
    alpha = class_weights([1, 2, 4], "inverse")
    expected = sum(
        weight * focal_loss(outputs[f"{task}_logits"], labels[task], gamma, a, smoothing) / count_valid(labels[task])
        for task, weight, gamma, a, smoothing in (
            ("binary", 1.0, 2.5, None, 0.2),
            ("open_ended", 1.0, 2.5, alpha, 0.2),
            ("question_type", 0.1, 0.0, None, 0.0),
        )
    )
    torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected)


def test_rows_are_filled_up_with_repeats_that_have_no_part_in_the_loss():
    sampler = ImageGroupedSampler(range(7), 1, seed=0, multiple=4)
    order = list(sampler)
    assert len(sampler) == len(order) == 8 and sorted(order[:7]) == list(range(7))
    assert order[7] == -1 - order[0]
    rows = MarkedRows([{"binary_labels": number} for number in range(7)])
    batch = RepeatMaskingCollator(default_data_collator)(rows.__getitems__(order))
    assert batch["binary_labels"].tolist() == [*order[:7], -100]


def test_a_few_rows_are_repeated_often_enough_for_many_processes():
    assert list(ImageGroupedSampler(range(1), 1, seed=0, multiple=4)) == [0, -1, -1, -1]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the launcher does what it should")
def test_processes_that_would_train_alone_are_refused(tmp_path):
    ended = forked(DualVQATrainingArguments, str(tmp_path / "out"), processes=2)
    assert ended.code and "2 processes were started" in ended.output and "add --use_cpu" in ended.output


def test_half_precision_that_has_no_effect_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fp16 has no effect on a CPU"):
        arguments(tmp_path, fp16=True)


def test_bfloat16_trains(tiny_model, rows, tmp_path):
    model = tiny_model()
    before = model.visual_projection.weight.detach().clone()
    trainer = DualVQATrainer(model, arguments(tmp_path, bf16=True, max_steps=2), train_dataset=rows)
    types = []
    model.visual_projection.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    trainer.train()
    assert set(types) == {torch.bfloat16} and model.visual_projection.weight.dtype == torch.float32
    assert not torch.equal(before, model.visual_projection.weight)


def test_mgda_with_deepspeed_is_refused(tiny_model, tmp_path):
    trainer = DualVQATrainer(tiny_model(), arguments(tmp_path, task_weighting="mgda"))
    trainer.is_deepspeed_enabled = True
    with pytest.raises(ValueError, match="mgda needs a backward pass.* DeepSpeed"):
        check_sharding(trainer)


def test_checkpoints_in_pieces_are_refused(tiny_model, tmp_path, monkeypatch):
    trainer = DualVQATrainer(tiny_model(), arguments(tmp_path))
    trainer.is_fsdp_enabled = True
    plugin = type("Plugin", (), {"state_dict_type": "StateDictType.SHARDED_STATE_DICT"})
    monkeypatch.setattr(trainer.accelerator, "state", type("State", (), {"fsdp_plugin": plugin}))
    with pytest.raises(ValueError, match="FULL_STATE_DICT, found .*SHARDED"):
        check_sharding(trainer)


def test_questions_of_like_length_come_together_and_images_stay_whole():
    keys = [row // 2 for row in range(400)]
    lengths = [int(length) for length in torch.randint(3, 30, (200,)).repeat_interleave(2)]
    sampler = ImageGroupedSampler(keys, 2, seed=3, by_length=ByLength(lengths, batch=8))
    order = list(sampler)
    assert sorted(order) == list(range(400)) and order == list(sampler)
    assert all(keys[order[place]] == keys[order[place + 1]] for place in range(0, 400, 2))

    def padding(order):
        batches = [[lengths[row] for row in order[start : start + 8]] for start in range(0, 400, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(order) < padding(list(ImageGroupedSampler(keys, 2, seed=3))) / 5
    longest = [max(lengths[row] for row in order[start : start + 8]) for start in range(0, 400, 8)]
    assert longest != sorted(longest)  # batches are not read from short to long
    sampler.set_epoch(1)
    assert order != list(sampler)


def test_lengths_need_questions_or_a_column(tiny_model, rows, tmp_path):
    args = arguments(tmp_path, train_sampling_strategy="group_by_length")
    with pytest.raises(ValueError, match="needs a column 'length', or a column 'question'"):
        DualVQATrainer(tiny_model(), args, train_dataset=rows).get_train_dataloader()
    with_lengths = Dataset.from_dict({"length": [5, 1, 3]})
    trainer = DualVQATrainer(tiny_model(), args, train_dataset=with_lengths)
    assert trainer._get_train_sampler().by_length.lengths == [5, 1, 3]
    with pytest.raises(ValueError, match="train_sampling_strategy must be one of random, group_by_length"):
        arguments(tmp_path, train_sampling_strategy="sequential")


def test_evaluation_encodes_images_once_and_gives_results_in_the_rows_order(tiny_model, processor, tmp_path):
    keys = [row % 5 for row in range(20)]
    questions = [" ".join(["is it red"] * (1 + row % 3)) for row in range(20)]
    dataset = Dataset.from_dict(
        {"image_key": [str(key) for key in keys], "question": questions, "row": list(range(20))}
    )
    images, sizes, seen = torch.randn(5, 3, 32, 32), [], []

    def collate(rows):
        different = sorted({int(row["image_key"]) for row in rows})
        sizes.append(len(different))
        encoded = processor(text=[row["question"] for row in rows], return_tensors="pt")
        labels = torch.tensor([row["row"] % 3 for row in rows])
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "image_index": torch.tensor([different.index(int(row["image_key"])) for row in rows]),
            "pixel_values": images[different],
            "binary_labels": torch.full_like(labels, -100),
            "open_ended_labels": labels,
            "question_type_labels": torch.ones_like(labels),
        }

    def metrics(found):
        seen.append(found.label_ids[1].tolist())
        return {}

    model, args = tiny_model(), arguments(tmp_path, per_device_eval_batch_size=4)
    plain = DualVQATrainer(model, args, data_collator=collate, compute_metrics=metrics).predict(dataset)
    assert sizes == [4] * 5
    trainer = DualVQATrainer(model, args, data_collator=collate, compute_metrics=metrics, processing_class=processor)
    sizes.clear()
    ordered = trainer.predict(dataset)
    assert sizes == [1] * 5 and seen == [[row % 3 for row in range(20)]] * 2
    for one, other in zip(plain.predictions, ordered.predictions):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other))
    assert trainer.compute_metrics is metrics


@pytest.mark.parametrize(
    "device, cores, processes, workers",
    [("cpu", 64, 1, 0), ("cuda", 4, 1, 3), ("cuda", 64, 1, 8), ("cuda", 16, 4, 3), ("cuda", 2, 4, 0)],
)
def test_workers_are_chosen_from_the_machine(device, cores, processes, workers):
    assert default_workers(device, cores, processes) == workers


def test_workers_that_are_given_are_kept(tmp_path):
    assert arguments(tmp_path).dataloader_num_workers == 0
    assert arguments(tmp_path, dataloader_num_workers=1).dataloader_num_workers == 1


def test_tags_of_a_push_are_on_its_card_and_what_it_does_not_use_is_told(tiny_model, rows, tmp_path, caplog):
    trainer = DualVQATrainer(model=tiny_model(), args=arguments(tmp_path), train_dataset=rows)
    trainer.hub_model_id, trainer.has_trained, pushed = "someone/tags", True, []
    trainer.upload = lambda folder, *_, **__: pushed.append(ModelCard.load(Path(folder, "README.md")).data.tags)
    trainer.push_to_hub(tags="radiology", language="en", blocking=False)
    trainer.push_to_hub(tags=["again", "radiology"], blocking=False)
    assert [tags[3:] for tags in pushed] == [["radiology"], ["radiology", "again"]]
    assert "the model card is the run's: language is left out" in caplog.text


def test_a_token_that_the_hub_does_not_know_stops_before_training(tiny_model, rows, tmp_path, monkeypatch):
    def refuse(api, token):
        raise OSError(f"Invalid user token {token}")

    monkeypatch.setattr(HfApi, "whoami", refuse)
    with pytest.raises(OSError, match="nothing can be pushed to the Hub: Invalid user token expired"):
        DualVQATrainer(tiny_model(), arguments(tmp_path, push_to_hub=True, hub_token="expired"), train_dataset=rows)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["binary", "open_ended"])
def test_a_model_with_one_head_is_trained_and_evaluated_with_its_labels_alone(tiny_model, rows, tmp_path, head):
    own = [{n: v for n, v in row.items() if not n.endswith("_labels") or n == f"{head}_labels"} for row in rows]
    found = []

    def metrics(prediction):
        found.append(prediction)
        return {"rows": len(prediction.label_ids)}

    model, figures = tiny_model(heads=[head], fusion_num_experts=2), []
    for data in (own, rows):
        args = arguments(tmp_path, max_steps=1)
        trainer = DualVQATrainer(copy.deepcopy(model), args, train_dataset=data, compute_metrics=metrics)
        figures.append(trainer.evaluate(data))
        assert figures[-1]["eval_rows"] == ROWS and np.array_equal(
            found[-1].label_ids, [row[f"{head}_labels"] for row in rows]
        )
        trainer.train()
    assert figures[0]["eval_loss"] == pytest.approx(figures[1]["eval_loss"]) and figures[0]["eval_loss"] > 0

    stock = TrainingArguments(
        tmp_path, report_to="none", use_cpu=True, disable_tqdm=True, label_names=[f"{head}_labels"]
    )
    stock = Trainer(model, stock, eval_dataset=own, compute_metrics=metrics).evaluate()
    assert stock["eval_rows"] == ROWS and stock["eval_loss"] > 0


@pytest.mark.slow
def test_a_batch_with_some_of_the_labels_is_refused_by_name(tiny_model, rows, tmp_path):
    lacking = [{name: value for name, value in row.items() if name != "question_type_labels"} for row in rows]
    trainer = DualVQATrainer(tiny_model(), arguments(tmp_path, max_steps=1), train_dataset=lacking)
    message = "heads binary, open_ended needs .*; batches lack question_type_labels and have binary_labels, open_ended"
    for call in (trainer.train, lambda: trainer.evaluate(lacking)):
        with pytest.raises(ValueError, match=message):
            call()
    unlabelled = [{name: value for name, value in row.items() if not name.endswith("_labels")} for row in rows]
    assert len(trainer.predict(unlabelled).predictions[0]) == ROWS
