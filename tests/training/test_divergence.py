"""A run that diverges ends with an error, and what it had written stays as it was."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_helpers import training_arguments as arguments
from transformers import TrainerCallback

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.checkpoints import find_checkpoint, newest_checkpoint
from dualvqa.training.divergence import DivergedError


def finite(model):
    return all(tensor.isfinite().all() for tensor in model.state_dict().values() if tensor.is_floating_point())


@pytest.fixture
def trainer(tiny_model, rows, tmp_path):
    def make(**fields):
        saving = {"save_strategy": "steps", "save_steps": 1, "max_steps": 4, "logging_steps": 10, **fields}
        return DualVQATrainer(tiny_model(), arguments(tmp_path, **saving), train_dataset=rows)

    return make


def at_step(monkeypatch, trainer, step, change):
    """Changes the loss of one step, which begins with the steps before it done."""
    original = trainer.compute_loss

    def compute_loss(*args, **kwargs):
        loss = original(*args, **kwargs)
        trained = not kwargs.get("return_outputs") and trainer.state.global_step == step - 1
        return change(loss) if trained else loss

    monkeypatch.setattr(trainer, "compute_loss", compute_loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, found",
    [(lambda loss: loss * float("nan"), "the loss is nan"), (lambda loss: loss * 1e38 * 10, "the loss is inf")],
)
def test_the_first_loss_that_is_not_finite_ends_the_run_before_the_weights_change(
    trainer, monkeypatch, tmp_path, change, found
):
    own = trainer()
    at_step(monkeypatch, own, 3, change)
    with pytest.raises(DivergedError, match=f"at step 3: {found}.*checkpoint-2 may be spoilt.*last good.*checkpoint-1"):
        own.train()
    assert finite(own.model) and own.state.global_step == 2
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}


def test_a_gradient_that_is_not_finite_ends_the_run_too(trainer, monkeypatch):
    own = trainer(save_strategy="no")
    weight = own.model.visual_projection.weight
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DivergedError, match="step 1: the norm of the gradient is .*No checkpoint was written yet"):
        own.train()
    assert finite(own.model)


def test_weights_that_are_not_finite_are_not_saved(trainer, monkeypatch, tmp_path):
    """A decay of nan spoils the weights in a step whose loss and gradient are finite, here the last one."""
    own = trainer(max_steps=2)
    own.add_callback(Spoil(2))
    with pytest.raises(DivergedError, match=r"step 2: \d+ of \d+ tensors of the model are not finite, first "):
        own.train()
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-1"}
    with pytest.raises(DivergedError):
        own.save_model()
    assert not (tmp_path / "model.safetensors").exists()


class Spoil(TrainerCallback):
    """Makes a weight nan after a step's update."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            next(model.parameters()).data.fill_(float("nan"))


def test_what_spoils_the_weights_in_the_last_step_is_noticed_without_checkpoints(trainer):
    own = trainer(save_strategy="no", max_steps=2)
    own.add_callback(Spoil(2))
    with pytest.raises(DivergedError, match="diverged at step 2"):
        own.train()


@pytest.mark.parametrize("scale, stops", [(1024.0, False), (0.5, True)])
def test_with_fp16_steps_are_skipped_until_the_scale_is_small(trainer, scale, stops):
    own = trainer()
    stop = next(c for c in own.callback_handler.callbacks if type(c).__name__ == "StopAtDivergence")
    own._tr_loss, own.grad_norm = torch.tensor(1.0), torch.tensor(float("inf"))
    own.accelerator.scaler = SimpleNamespace(get_scale=lambda: scale)
    if stops:
        with pytest.raises(DivergedError, match="the norm of the gradient is inf"):
            stop.on_pre_optimizer_step(own.args, own.state, own.control)
    else:
        stop.on_pre_optimizer_step(own.args, own.state, own.control)


@pytest.mark.slow
def test_a_run_that_diverges_has_exit_code_1_and_no_new_model(recipe, tmp_path):
    run_vqa.main([recipe()])
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in ("model.safetensors", "config.json", "all_results.json")}
    with pytest.raises(SystemExit, match="error: training diverged at step 2") as ended:
        run_vqa.main([recipe(learning_rate=1e38, max_grad_norm=0.0)])
    assert ended.value.code != 0 and "nan" not in json.dumps(str(ended.value.code).lower()[:20])
    assert before == {name: (out / name).read_bytes() for name in before}


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_weights_that_are_finite_but_too_large_to_compute_with_are_not_saved(trainer, tmp_path, rate):
    own = trainer(max_steps=1, learning_rate=rate, save_strategy="no")
    with pytest.raises(DivergedError, match=r"diverged at step 1: the weights have become so large .*learning_rate"):
        own.train()
    with pytest.raises(DivergedError, match="checkpoint"):
        trainer(max_steps=1, learning_rate=rate).train()
    assert not list(tmp_path.glob("checkpoint-*")) and not (tmp_path / "model.safetensors").exists()


@pytest.mark.slow
def test_logits_that_are_not_finite_in_an_evaluation_end_the_run(trainer, rows, monkeypatch):
    own = trainer(save_strategy="no")
    own.args.eval_strategy, own.args.eval_steps = "steps", 1
    spoilt = dict(rows[0], pixel_values=rows[0]["pixel_values"] * float("nan"))
    own.eval_dataset, own.compute_metrics = [rows[0], spoilt], lambda found: {}
    with pytest.raises(DivergedError, match="diverged at step 1: .*outputs are not finite"):
        own.train()
    own.evaluate()  # what is evaluated afterwards is for the metrics to judge


@pytest.mark.slow
def test_only_a_checkpoint_that_a_finite_step_came_after_is_called_good(trainer, monkeypatch):
    own = trainer()
    at_step(monkeypatch, own, 2, lambda loss: loss * float("nan"))
    with pytest.raises(DivergedError, match="checkpoint-1 may be spoilt already.*Start again") as found:
        own.train()
    assert "good" not in str(found.value)


@pytest.mark.slow
def test_looking_at_the_last_batch_changes_nothing_that_is_trained_or_counted(trainer, monkeypatch):
    torch.manual_seed(0)
    first = trainer()
    first.train()
    logs = [{k: v for k, v in log.items() if "loss" in k} for log in first.state.log_history]
    monkeypatch.setattr("dualvqa.training.divergence.answers_of", lambda *_: [])
    torch.manual_seed(0)
    second = trainer()
    second.train()
    assert logs == [{k: v for k, v in log.items() if "loss" in k} for log in second.state.log_history]
    weights = zip(first.model.state_dict().values(), second.model.state_dict().values())
    assert all(torch.equal(*pair) for pair in weights)


@pytest.mark.slow
@pytest.mark.parametrize("value, problem", [(float("nan"), "values that aren't finite"), (-1.0, "variances below 0")])
def test_a_checkpoint_with_spoilt_weights_is_passed_over_and_refused_by_name(trainer, tmp_path, value, problem):
    trainer(max_steps=2).train()
    path = tmp_path / "checkpoint-2" / "model.safetensors"
    tensors = load_file(path)
    tensors[next(name for name in tensors if name.endswith("running_var"))][0] = value
    save_file(tensors, path, {"format": "pt"})
    assert newest_checkpoint(tmp_path).endswith("checkpoint-1")
    with pytest.raises(ValueError, match=f"checkpoint-2 can't be resumed from: its model.safetensors has {problem}"):
        find_checkpoint(str(tmp_path / "checkpoint-2"), tmp_path)


@pytest.mark.slow
def test_what_fails_in_the_evaluation_after_training_is_told_in_a_line(recipe, monkeypatch, tmp_path):
    def fail(*args):
        raise ValueError("logits that aren't finite")

    monkeypatch.setattr(DualVQATrainer, "evaluate", fail)
    with pytest.raises(SystemExit, match="^error: logits that aren't finite. The trained model is in .*out"):
        run_vqa.main([recipe(), "--do_eval"])
    assert (tmp_path / "out" / "model.safetensors").exists()
