"""A model that the Trainer builds itself is prepared like one that is given; so is each of a search."""

from types import SimpleNamespace

import pytest
import torch
from training_helpers import training_arguments as arguments
from transformers import hyperparameter_search
from transformers.trainer_utils import HPSearchBackend

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.auxiliary import AuxiliaryTargets
from dualvqa.training.contrastive import LOG_SCALE_START, ContrastiveTrainer


@pytest.fixture
def build(tiny_model):
    """Builds the same model every time; takes a trial, or None."""

    def build(trial=None):
        torch.manual_seed(0)
        return tiny_model(focal_gamma=getattr(trial, "gamma", 2.5))

    return build


@pytest.fixture
def train(build, rows, tmp_path):
    """Trains two steps of a model that is built in train(); gives the trainer."""

    def train(auxiliary=None, **fields):
        args = arguments(tmp_path, max_steps=2, logging_steps=1, learning_rate=1e-2, **fields)
        counts = [1, 2, 4]
        trainer = DualVQATrainer(
            model_init=build, args=args, train_dataset=rows, answer_counts=counts, auxiliary=auxiliary
        )
        trainer.train()
        return trainer

    return train


def moved(model, start):
    before = dict(start.named_parameters())
    return {name for name, tensor in model.named_parameters() if not torch.equal(before[name], tensor)}


@pytest.mark.slow
def test_what_is_frozen_stands_still_in_a_model_that_the_trainer_builds(train, build):
    names = moved(train(freeze_parameters="text_encoder").model, build())
    assert names and not [name for name in names if name.startswith("text_encoder")]


@pytest.mark.slow
def test_mgda_reads_the_fused_state_of_a_model_that_the_trainer_builds(train):
    trainer = train(task_weighting="mgda")
    first, second = (entry["binary_weight"] for entry in trainer.state.log_history[:2])
    assert first == 0.5 and second != 0.5
    assert not trainer.model.fusion._forward_hooks


@pytest.mark.slow
def test_auxiliary_heads_are_those_of_the_model_that_the_trainer_builds(train, rows):
    for number, row in enumerate(rows):
        row["auxiliary_labels"] = torch.tensor([number % 2])
    trainer = train(auxiliary=AuxiliaryTargets({"organ": ["liver", "lung"]}))
    assert trainer.state.log_history[0]["auxiliary_loss"] > 0
    assert not hasattr(trainer.model, "auxiliary_heads")


@pytest.mark.slow
def test_a_second_training_counts_and_weighs_from_its_own_beginning(train):
    trainer = train(task_weighting="uncertainty")
    first = trainer.state.log_history
    trainer.train()
    assert [entry.get("binary_weight") for entry in first] == [
        entry.get("binary_weight") for entry in trainer.state.log_history
    ]
    assert first[0]["binary_loss"] == trainer.state.log_history[0]["binary_loss"]


def test_pre_training_anew_begins_with_the_first_temperature(build, tmp_path):
    trainer = ContrastiveTrainer(model_init=build, args=arguments(tmp_path))
    trainer.log_scale.data.fill_(4.0)
    trainer.prepare_model()
    trainer.begin_training()
    assert trainer.log_scale.item() == pytest.approx(LOG_SCALE_START)
    trained = {name.split(".")[0] for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained == {"vision_encoder", "text_encoder", "visual_projection", "text_projection"}


@pytest.mark.slow
def test_a_search_trains_with_what_each_trial_tries(build, rows, tmp_path, monkeypatch):
    seen = []

    class Search(hyperparameter_search.OptunaBackend):
        """Tries two trials as transformers does with optuna, which takes the model away after each."""

        def ensure_available(self):
            pass

        def run(self, trainer, n_trials, direction, **kwargs):
            for number in range(n_trials):
                trainer.train(trial=SimpleNamespace(number=number, params={}, gamma=2.5 * number))
                seen.append((trainer.criterion, moved(trainer.model, build())))
                trainer.model_wrapped = trainer.model = None

    monkeypatch.setitem(hyperparameter_search.ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Search)
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: {})
    averaging = {"save_strategy": "steps", "save_steps": 1, "average_checkpoints": 2}
    args = arguments(tmp_path, max_steps=2, learning_rate=1e-2, freeze_parameters="text_encoder", **averaging)
    trainer = DualVQATrainer(model_init=build, args=args, train_dataset=rows)

    def space(trial):
        return {
            "binary_loss_weight": 0.5 + trial.number,
            "freeze_parameters": ["text_encoder", "vision_encoder"][trial.number],
            "task_weighting": ["fixed", "uncertainty"][trial.number],
        }

    trainer.hyperparameter_search(hp_space=space, n_trials=2, backend="optuna")
    (first, of_first), (second, of_second) = seen
    assert (first.focal["gamma"], second.focal["gamma"]) == (0.0, 2.5)
    assert first.weights()["binary"] == 0.5
    assert 0 < abs(second.weights()["binary"] - 1.5) < 0.1  # learned from there
    for names, tower in ((of_first, "vision_encoder"), (of_second, "text_encoder")):
        assert {name.split(".")[0] for name in names if "encoder" in name} == {tower}
    assert len(list(tmp_path.glob("run-*/checkpoint-2"))) == 2
    trainer.train()  # as one does with the best values


@pytest.mark.slow
def test_a_value_of_a_search_that_does_not_do_is_refused_before_its_training(train):
    trainer = train()
    trainer.args.binary_loss_weight = -1.0
    with pytest.raises(ValueError, match="binary_loss_weight must be a finite number"):
        trainer.train()


@pytest.mark.slow
def test_a_value_of_a_search_that_needs_the_answers_of_the_rows_is_refused_without_them(train):
    trainer = train()
    trainer.args.balanced_sampling = 0.5
    with pytest.raises(ValueError, match=r"balanced_sampling needs the answers of \d+ training rows, found none"):
        trainer.train()
