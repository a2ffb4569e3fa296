"""A run goes on from checkpoints that have all of it, also of adapters. Others are passed over, or refused."""

import json
import os
import zipfile

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from training_helpers import training_arguments as arguments

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.checkpoints import find_checkpoint


@pytest.fixture
def train(tiny_model, rows, tmp_path):
    """Trains four steps with a checkpoint after every second, LoRA where asked for; gives the trainer."""

    def train(resume=None, lora=None, **fields):
        torch.manual_seed(0)
        model = tiny_model()
        if lora is not None:
            settings = {
                "r": 2,
                "target_modules": r"text_encoder\..*\.(q_lin|v_lin)",
                "modules_to_save": ["binary_head"],
            }
            model = get_peft_model(model, LoraConfig(**{**settings, **lora}))
        saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "learning_rate": 1e-2, **fields}
        trainer = DualVQATrainer(model, arguments(tmp_path, **saving), train_dataset=rows)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_run_of_adapters_goes_on_from_its_checkpoint(train, tmp_path):
    whole = weights(train(lora={}))
    assert (tmp_path / "checkpoint-2" / "adapter_model.safetensors").exists()
    assert find_checkpoint("true", tmp_path) == os.fspath(tmp_path / "checkpoint-4")
    assert same(weights(train(str(tmp_path / "checkpoint-2"), lora={})), whole)
    checkpoint = str(tmp_path / "checkpoint-2")
    for lora, message in (
        ({"lora_alpha": 32}, "another architecture: lora_alpha 8 there, 32 here"),
        ({"target_modules": ["q_lin"]}, "another architecture: target_modules"),
        (None, "holds adapters, and this run trains the whole model"),
    ):
        with pytest.raises(ValueError, match=message):
            train(checkpoint, lora=lora)


@pytest.mark.slow
def test_a_checkpoint_of_the_whole_model_is_not_one_of_adapters(train, tmp_path):
    train(max_steps=2)
    with pytest.raises(ValueError, match="holds the whole model, and this run trains adapters"):
        train(str(tmp_path / "checkpoint-2"), lora={})


@pytest.mark.slow
def test_what_a_checkpoint_lacks_is_named_and_it_is_passed_over(train, tmp_path, caplog):
    train()
    last, before = tmp_path / "checkpoint-4", os.fspath(tmp_path / "checkpoint-2")
    for name, message in {
        "model.safetensors": "it has no weights",
        "optimizer.pt": "it has no state of the optimizer",
        "scheduler.pt": "it has no state of the learning rate's schedule",
        "rng_state.pth": "it has no random state",
    }.items():
        (last / name).rename(tmp_path / "away")
        assert find_checkpoint("true", tmp_path) == before
        assert f"checkpoint-4 is passed over: {message}" in caplog.text
        with pytest.raises(ValueError, match=f"checkpoint-4 can't be resumed from: {message}"):
            find_checkpoint(last, tmp_path)
        (tmp_path / "away").rename(last / name)
    assert find_checkpoint("true", tmp_path) == os.fspath(last)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (last / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="it has no model-00002-of-00002.safetensors, a part of its weights"):
        find_checkpoint(last, tmp_path)


@pytest.mark.slow
def test_a_run_that_keeps_models_only_is_told_how_to_use_them(train, tmp_path):
    train(save_only_model=True)
    message = "no complete checkpoint in .*; start without the flag"
    with pytest.raises(ValueError, match=message):
        find_checkpoint("true", tmp_path)
    with pytest.raises(ValueError, match="a new run can start from them with --model_name_or_path .*checkpoint-4"):
        find_checkpoint(tmp_path / "checkpoint-4", tmp_path)


def test_a_job_that_has_no_checkpoint_yet_starts_at_its_beginning(tmp_path, caplog):
    for folder in (tmp_path / "nowhere", tmp_path):
        assert find_checkpoint("true", folder) is None and find_checkpoint(True, folder) is None
    (tmp_path / "checkpoint-2").mkdir()  # the run was killed while it wrote its first
    (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(b"half")
    assert find_checkpoint("true", tmp_path) is None
    assert caplog.text.count("to go on from: the run starts at its beginning") == 5
    with pytest.raises(ValueError, match="no complete checkpoint"):
        find_checkpoint(tmp_path, tmp_path / "another")


@pytest.mark.slow
def test_a_run_that_was_finished_is_resumed_without_a_further_step(train, tmp_path):
    whole = train(max_steps=3, save_steps=3)  # in the middle of an epoch of four
    again = train("true", max_steps=3, save_steps=3)
    assert again.state.global_step == 3 and same(weights(again), weights(whole))


@pytest.mark.parametrize(
    "name, content",
    [
        ("trainer_state.json", b"[]"),
        ("trainer_state.json", b"{}"),
        ("training_progress.json", b"{}"),
        ("training_progress.json", b"[" * 100_000),
        ("config.json", b"5"),
        ("optimizer.pt", b"no zip"),
        ("rng_state.pth", b""),
    ],
)
def test_a_part_that_says_nothing_usable_is_named_and_its_checkpoint_passed_over(tmp_path, caplog, name, content):
    for step in (2, 4):
        whole_checkpoint(tmp_path / f"checkpoint-{step}")
    assert find_checkpoint("true", tmp_path) == os.fspath(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-4" / name).write_bytes(content)
    assert find_checkpoint("true", tmp_path) == os.fspath(tmp_path / "checkpoint-2")
    assert f"checkpoint-4 is passed over: its {name}" in caplog.text
    with pytest.raises(ValueError, match=f"checkpoint-4 can't be resumed from: its {name}"):
        find_checkpoint(str(tmp_path / "checkpoint-4"), tmp_path)


def whole_checkpoint(folder):
    """The files of one as `find_problem` looks at them."""
    folder.mkdir()
    save_file({"weight": torch.ones(2)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.ones(2)}, folder / name)
    state = {"global_step": 2, "max_steps": 4, "epoch": 0.5, "num_train_epochs": 1, "log_history": []}
    losses = {"plan": {}, "losses": {}, "runtime": 1.0, "task_weighting": "fixed", "task_weighting_state": {}}
    for name, fields in {"trainer_state": state, "training_progress": losses, "config": {}}.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))


def test_a_state_that_is_no_pickle_inside_a_whole_file_is_damaged(tmp_path):
    whole_checkpoint(tmp_path / "checkpoint-2")
    with zipfile.ZipFile(tmp_path / "checkpoint-2" / "optimizer.pt", "w") as file:
        file.writestr("archive/data.pkl", b"nothing")
    with pytest.raises(ValueError, match="its optimizer.pt is damaged"):
        find_checkpoint(str(tmp_path / "checkpoint-2"), tmp_path)


def test_what_is_named_as_a_checkpoint_and_is_no_folder_is_passed_over(tmp_path, caplog):
    whole_checkpoint(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-3").write_text("a file")
    (tmp_path / "checkpoint-4").symlink_to(tmp_path / "gone")
    assert find_checkpoint("true", tmp_path) == os.fspath(tmp_path / "checkpoint-2")
    assert "checkpoint-3 is passed over" in caplog.text and "checkpoint-4 is passed over" in caplog.text


@pytest.mark.slow
def test_another_optimizer_is_refused_by_name(train, tmp_path):
    train(max_steps=2)
    message = "has the state of the optimizer AdamW, and this run has SGD. Give optim as before"
    with pytest.raises(ValueError, match=message):
        train(str(tmp_path / "checkpoint-2"), optim="sgd")
