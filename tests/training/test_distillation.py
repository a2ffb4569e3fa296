import json
import logging

import pytest
import torch

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.arguments import DualVQATrainingArguments
from dualvqa.training.building import load_model
from dualvqa.training.teacher import FILE, TeacherLogits, find_teacher_logits
from modeling_dualvqa.loss_dualvqa import distillation_loss


def test_divergence_by_hand():
    student, teacher, t = torch.tensor([[1.0, -1.0, 0.5]]), torch.tensor([[0.0, 2.0, 1.0]]), 3.0
    p, q = (teacher / t).exp(), (student / t).exp()
    p, q = p / p.sum(), q / q.sum()
    expected = t**2 * sum(a * torch.log(a / b) for a, b in zip(p[0], q[0]))
    torch.testing.assert_close(distillation_loss(student, teacher, t), expected)
    assert distillation_loss(teacher, teacher, t).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(student[:0], teacher[:0]) == 0


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_gradient_is_the_difference_of_softened_probabilities(t):
    student, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    distillation_loss(student, teacher, t).backward()
    expected = t * ((student / t).softmax(-1) - (teacher / t).softmax(-1))  # T^2 from the loss, 1 / T from the chain
    torch.testing.assert_close(student.grad, expected.detach())


def train_inputs(batch, labels, rows=slice(None)):
    """The rows of a batch with a teacher's logits, as the collator would give them."""
    torch.manual_seed(3)
    teacher = {"teacher_binary_logits": torch.randn(4, 2), "teacher_open_ended_logits": torch.randn(4, 3)}
    whole = {**labels, **teacher, "image_index": batch["image_index"], "question_index": torch.arange(4)}
    same = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    return {**same, **{name: tensor[rows] for name, tensor in whole.items()}}


@pytest.fixture
def trainer(tiny_model, tmp_path):
    def build(**settings):
        args = DualVQATrainingArguments(str(tmp_path), report_to="none", use_cpu=True, **settings)
        model = tiny_model(focal_gamma=0.0, open_ended_loss_weight=0.7)
        return DualVQATrainer(model=model.eval(), args=args)

    return build


def in_training(trainer, inputs, counts=None):
    trainer.model.training = True  # without dropout and moving statistics
    return trainer.compute_loss(trainer.model, dict(inputs), num_items_in_batch=counts)


def test_each_head_learns_from_answers_and_teacher(trainer, batch, labels):
    run = trainer(distillation_weight=0.25, distillation_temperature=2.0)
    inputs = train_inputs(batch, labels)
    found = in_training(run, inputs)
    with torch.no_grad():
        out = run.model(**{n: t for n, t in inputs.items() if "labels" not in n and "teacher" not in n})
    ce = torch.nn.functional.cross_entropy

    def soft(head, rows):
        return distillation_loss(out[f"{head}_logits"][rows], inputs[f"teacher_{head}_logits"][rows], 2.0) / len(rows)

    binary = 0.75 * ce(out.binary_logits, labels["binary_labels"]) + 0.25 * soft("binary", [1, 2])
    # Row 3's answer is in no vocabulary: the teacher alone speaks of it.
    open_ended = 0.75 * ce(out.open_ended_logits, labels["open_ended_labels"]) + 0.25 * soft("open_ended", [0, 3])
    router = ce(out.question_type_logits, labels["question_type_labels"])
    torch.testing.assert_close(found.detach(), binary + 0.7 * open_ended + 0.1 * router)


def test_weight_0_is_training_without_a_teacher(trainer, batch, labels):
    inputs = train_inputs(batch, labels)
    run = trainer(distillation_weight=0.0)
    alone = {name: tensor for name, tensor in inputs.items() if "teacher" not in name}
    assert in_training(run, inputs).item() == pytest.approx(in_training(run, alone).item(), abs=1e-7)


def test_cut_batches_have_the_gradient_of_the_whole(trainer, batch, labels):
    run = trainer()
    in_training(run, train_inputs(batch, labels)).backward()
    whole = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
    run.model.zero_grad()
    cut = [train_inputs(batch, labels, rows) for rows in (slice(0, 1), slice(1, 4))]
    counts = run._get_num_items_in_batch(cut, torch.device("cpu"))
    for inputs in cut:
        in_training(run, inputs, counts).backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(dict(run.model.named_parameters())[name].grad, gradient, rtol=1e-4, atol=1e-6)


def test_logits_are_found_by_row():
    teacher = TeacherLogits([7, 3, 5], {"binary": torch.tensor([[7.0], [3.0], [5.0]])})
    assert teacher.batch([{"row": 5}, {"row": 7}])["teacher_binary_logits"].tolist() == [[5.0], [7.0]]


def test_logits_are_computed_once_and_again_when_they_do_not_fit(tmp_path, caplog):
    rows = {"row": [0, 1], "image_key": ["a", "b"], "question": ["x", "y"]}
    calls = []

    class Rows(dict):
        def __len__(self):
            return 2

    def ask(name):
        found = find_teacher_logits(str(tmp_path), name, Rows(rows), lambda: calls.append(name) or {"binary": logits})
        return found.logits["binary"]

    logits = torch.randn(2, 2)
    assert torch.equal(ask("one"), ask("one")) and calls == ["one"]
    ask("two")
    assert calls == ["one", "two"] and "another teacher" in caplog.text
    (tmp_path / FILE).write_bytes(b"damaged")
    assert torch.equal(ask("two"), logits) and len(calls) == 3
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-1] ^= 1  # the last logit
    (tmp_path / FILE).write_bytes(content)
    assert torch.equal(ask("two"), logits) and len(calls) == 4 and "not as they were written" in caplog.text
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()  # nothing can be written there
    assert torch.equal(ask("two"), logits)


@pytest.mark.slow
@pytest.mark.parametrize("teachers", [1, 2])
def test_run_vqa_learns_from_saved_folders(recipe, tmp_path, caplog, teachers):
    folders = [str(tmp_path / f"teacher_{n}") for n in range(teachers)]
    for seed, folder in enumerate(folders):
        run_vqa.main([recipe(), "--output_dir", folder, "--seed", str(seed), "--image_size", str(32 + 32 * seed)])
    student = tmp_path / "student"
    flags = ["--output_dir", str(student), "--teacher", *folders, "--logging_steps", "1", "--questions_per_image", "2"]
    caplog.set_level(logging.INFO)
    run_vqa.main([recipe(), *flags])
    assert "computing the teacher's logits of" in caplog.text
    history = json.loads((student / "trainer_state.json").read_text())["log_history"]
    assert history[0]["open_ended_distillation_loss"] > 0
    assert f"{folders[0].rpartition('/')[2]}" in (student / "README.md").read_text()
    caplog.clear()
    run_vqa.main([recipe(), *flags])
    assert "computing the teacher's logits of" not in caplog.text


@pytest.mark.slow
def test_the_cached_logits_are_the_teachers_own(recipe, image_folder, tmp_path):
    from safetensors.torch import load_file

    teacher, student = tmp_path / "teacher", tmp_path / "student"
    run_vqa.main([recipe(validation_fraction=0), "--output_dir", str(teacher)])
    run_vqa.main([recipe(validation_fraction=0), "--output_dir", str(student), "--teacher", str(teacher)])
    model, processor = load_model(str(teacher))
    logits = load_file(student / "teacher" / FILE)
    rows = [json.loads(line) for line in (image_folder / "train.jsonl").read_text().splitlines()]
    for place, row in enumerate(rows):
        inputs = processor(images=str(image_folder / row["image"]), text=row["question"], return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs)
        for head in ("binary", "open_ended"):
            torch.testing.assert_close(logits[head][place], expected[f"{head}_logits"][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--teacher", "nowhere"], "nowhere"),
        (["--teacher", "TEACHER", "TEACHER"], "twice"),
        (["--teacher", "TEACHER", "--max_answers", "2"], "3 answers and 2"),
        (["--teacher", "TEACHER", "--single_head"], "heads"),
        (["--teacher", "TEACHER", "--distillation_temperature", "0"], "above 0"),
        (["--teacher", "TEACHER", "--distillation_weight", "1.5"], "at most 1; found 1.5"),
        (["--teacher", "TEACHER", "--model_name_or_path", "TEACHER", "--do_train", "false", "--do_eval"], "needs"),
    ],
)
def test_what_does_not_fit_is_named(trained_run, recipe, monkeypatch, flags, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it would be asked for "nowhere" many times
    teacher = str(trained_run)
    with pytest.raises((SystemExit, ValueError, OSError), match=message):
        run_vqa.main([recipe(), *[teacher if flag == "TEACHER" else flag for flag in flags]])
