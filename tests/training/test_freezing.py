import json
import re

import pytest
import torch
from training_helpers import training_arguments as arguments

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.freezing import freeze_parameters
from modeling_dualvqa import DualVQAForQuestionAnswering

LOWER = r"text_encoder\..*(embeddings|layer\.0\.)"
TEXT = {"model_type": "distilbert", "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}


@pytest.fixture
def model(tiny_model, tokenizer):
    return tiny_model(text_config={**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16})


def copies(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.slow
def test_matched_parameters_stay_as_they_are_and_the_others_move(model, rows, tmp_path):
    before = copies(model)
    settings = {"weight_decay": 0.5, "learning_rate": 1e-2, "max_steps": 3, "freeze_parameters": LOWER}
    DualVQATrainer(model, arguments(tmp_path, **settings), train_dataset=rows).train()
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == {name for name in before if re.search(LOWER, name)}
    assert any("embeddings" in name for name in still) and any("layer.0." in name for name in still)
    assert any("layer.1." in name for name in before.keys() - still)


@pytest.mark.slow
def test_activation_checkpointing_below_a_trained_layer_keeps_its_gradients(model, rows, tmp_path):
    before = copies(model)
    settings = {"max_steps": 1, "learning_rate": 1e-2, "freeze_parameters": LOWER, "activation_checkpointing": True}
    DualVQATrainer(model, arguments(tmp_path, **settings), train_dataset=rows).train()
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == {name for name in before if re.search(LOWER, name)}


def test_the_optimizer_knows_nothing_of_frozen_parameters(model, tmp_path):
    trainer = DualVQATrainer(model, arguments(tmp_path, freeze_parameters=LOWER))
    trainer.freeze_parameters()
    given = {parameter for group in trainer.create_optimizer().param_groups for parameter in group["params"]}
    assert given == {p for name, p in model.named_parameters() if not re.search(LOWER, name)}


def test_an_expression_is_found_anywhere_in_a_name_and_none_freezes_nothing(model):
    for nothing in (None, ""):
        freeze_parameters(model, nothing)
        assert all(parameter.requires_grad for parameter in model.parameters())
    freeze_parameters(model, "layer_norm")
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if "layer_norm" in name
    }


@pytest.mark.parametrize(
    "expression, message",
    [
        ("texd_encoder", "'texd_encoder' is found in none of the .*such as vision_encoder.*, text_encoder.*_head"),
        (".", "'.' leaves nothing to train: .*such as vision_encoder.*, text_encoder"),
    ],
)
def test_expressions_without_a_sense_are_refused_and_freeze_nothing(model, expression, message):
    with pytest.raises(ValueError, match=message):
        freeze_parameters(model, expression)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_whole_frozen_towers_leave_counts(tiny_model):
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze_parameters(tiny_model(freeze_vision=True, freeze_text=True), "projection|fusion|head")


def test_mgda_needs_parameters_that_both_heads_share(model, tmp_path):
    args = arguments(tmp_path, task_weighting="mgda", freeze_parameters="encoder|projection|fusion")
    with pytest.raises(ValueError, match="all of these are frozen"):
        DualVQATrainer(model, args).freeze_parameters()


def test_an_expression_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be a regular expression, found '\(layer': missing \)"):
        arguments(tmp_path, freeze_parameters="(layer")


@pytest.mark.slow
def test_it_is_of_the_run_and_its_card_but_not_of_the_saved_model(recipe, tmp_path, caplog):
    out, expression = tmp_path / "out", r"text_encoder\.(.*)(embeddings|layer\.0\.)"
    flags = ["--freeze_parameters", expression, "--save_strategy", "steps", "--save_steps", "1"]
    caplog.set_level("INFO")
    run_vqa.main([recipe(), *flags])
    model = DualVQAForQuestionAnswering.from_pretrained(out)
    assert all(parameter.requires_grad for parameter in model.parameters())
    frozen = [p.numel() for name, p in model.named_parameters() if re.search(expression, name)]
    left = model.num_parameters() - sum(frozen)
    assert f"{sum(frozen):,} parameters in {len(frozen)} tensors are frozen, {left:,} are trained" in caplog.text
    settings = dict(json.loads((out / "config.json").read_text())["model_card"]["settings"])
    assert settings["frozen parameters"] == expression
    escaped = r"text_encoder\\.(.\*)(embeddings\|layer\\.0\\.)"
    assert f"| frozen parameters | {escaped} |" in (out / "README.md").read_text()

    with pytest.raises(SystemExit, match="was written with freeze_parameters 'text_.*found None"):
        run_vqa.main([recipe(), "--resume_from_checkpoint", str(out / "checkpoint-1")])
    run_vqa.main([recipe(), *flags, "--resume_from_checkpoint", str(out / "checkpoint-1")])


def test_a_run_says_before_training_that_nothing_matches(recipe, tmp_path):
    with pytest.raises(SystemExit, match="found in none of the"):
        run_vqa.main([recipe(), "--freeze_parameters", "layer.7"])
    assert not (tmp_path / "out").exists()
