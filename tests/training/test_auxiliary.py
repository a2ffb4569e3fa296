"""Heads that training has besides: their loss, what they do to a run, and that nothing of them is left."""

import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from helpers import write_jsonl
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from training_helpers import assert_same_run, first_gradients, killed
from training_helpers import training_arguments as arguments

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.auxiliary import AuxiliaryTargets, auxiliary_loss
from modeling_dualvqa import DualVQAForQuestionAnswering

ORGANS = {"organ": ["chest", "head"], "plane": ["axial", "coronal", "pa"]}


def test_values_are_those_of_training_and_others_have_no_label():
    columns = {"organ": ["head", "chest", None, "head "], "plane": [1, 2, 1, 3], "answer": ["a", "b", "c", "d"]}
    targets = AuxiliaryTargets.of_rows(Dataset.from_dict(columns), ["organ", "plane"])
    assert targets.values == {"organ": ["chest", "head"], "plane": ["1", "2", "3"]}
    found = targets.labels([{"organ": "head", "plane": 3}, {"organ": "knee", "plane": None}])
    assert found.tolist() == [[1, 2], [-100, -100]]


@pytest.mark.parametrize(
    "column, message", [("knee", "which has organ, same"), ("answer", "which has organ, same"), ("same", "1 different")]
)
def test_columns_that_do_not_fit_are_named(column, message):
    found = Dataset.from_dict({"organ": ["a", "b"], "same": ["x", "x"], "answer": ["yes", "no"]})
    with pytest.raises(ValueError, match=f"--auxiliary_columns {column}: .*{message}"):
        AuxiliaryTargets.of_rows(found, [column])


def test_the_loss_is_the_mean_of_the_columns_cross_entropies():
    logits = [torch.randn(5, 2), torch.randn(5, 3)]
    labels = torch.tensor([[0, 2], [1, -100], [-100, 0], [1, 1], [0, -100]])
    expected = sum(cross_entropy(scores, labels[:, n], ignore_index=-100) for n, scores in enumerate(logits)) / 2
    torch.testing.assert_close(auxiliary_loss(logits, labels), expected)
    none = auxiliary_loss(logits, torch.full((5, 2), -100))
    assert none == 0
    half = auxiliary_loss([scores[:2] for scores in logits], labels[:2], torch.tensor([4.0, 3.0]))
    other = auxiliary_loss([scores[2:] for scores in logits], labels[2:], torch.tensor([4.0, 3.0]))
    torch.testing.assert_close(half + other, expected)


def test_the_logits_are_still_there_where_the_outputs_are_taken_apart_and_built_anew(tiny_model, rows):
    """As DDP does it, and pickle."""
    model = tiny_model().train()
    AuxiliaryTargets(ORGANS).attach(model)
    outputs = model(**{name: torch.stack([row[name] for row in rows[:2]]) for name in ("input_ids", "pixel_values")})
    assert [logits.shape for logits in outputs.auxiliary_logits] == [(2, 2), (2, 3)]
    again = tree_unflatten(*tree_flatten(outputs))
    assert type(again) is type(outputs) and all(map(torch.equal, again.auxiliary_logits, outputs.auxiliary_logits))
    detached = tree_map(lambda tensor: tensor.detach(), outputs)
    copy = pickle.loads(pickle.dumps(detached))
    assert all(map(torch.equal, copy.auxiliary_logits, outputs.auxiliary_logits))


def test_adapters_whose_checkpoints_would_lack_the_heads_are_refused(tiny_model, rows, tmp_path):
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=r"text_encoder\..*\.q_lin"))
    trainer = DualVQATrainer(model, arguments(tmp_path), train_dataset=rows, auxiliary=AuxiliaryTargets(ORGANS))
    with pytest.raises(ValueError, match="auxiliary heads aren't kept in checkpoints of adapters"):
        trainer.train()


@pytest.mark.slow
def test_gradients_do_not_depend_on_how_the_batch_is_cut(tiny_model, rows, tmp_path, monkeypatch):
    model = tiny_model(fusion_dropout=0.0, head_dropout=0.0, freeze_vision=True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number, row in enumerate(rows):
        row["auxiliary_labels"] = torch.tensor([number % 2 if number > 9 else -100, number % 3])
    original = DualVQATrainer.__init__

    def with_targets(trainer, *args, **kwargs):
        original(trainer, *args, auxiliary=AuxiliaryTargets(ORGANS), **kwargs)

    monkeypatch.setattr(DualVQATrainer, "__init__", with_targets)
    results = {}
    for micro_batches in (1, 4):
        model.load_state_dict(start)
        torch.manual_seed(0)
        results[micro_batches] = first_gradients(model, rows, tmp_path, micro_batches)
    (whole, whole_log), (cut, cut_log) = results[1], results[4]
    assert whole["auxiliary_heads.1.weight"].shape == (3, 16) and whole["auxiliary_heads.1.weight"].abs().max() > 1e-3
    assert max((cut[name] - whole[name]).abs().max() for name in whole) < 1e-5
    assert cut_log["auxiliary_loss"] == pytest.approx(whole_log["auxiliary_loss"], rel=1e-4)
    weights = model.config.loss_weights
    parts = sum(weights[task] * whole_log[f"{task}_loss"] for task in weights)
    assert whole_log["loss"] == pytest.approx(parts + 0.3 * whole_log["auxiliary_loss"], rel=1e-4)


def with_organs(file):
    """Gives the rows of a file an organ each."""
    known = [json.loads(line) for line in Path(file).read_text().splitlines()]
    write_jsonl(Path(file), [{**row, "organ": ("head", "chest", "knee")[n % 3]} for n, row in enumerate(known)])


@pytest.mark.slow
def test_a_saved_folder_has_nothing_of_them_but_a_line_in_its_card(recipe, image_folder, tmp_path, caplog):
    with_organs(image_folder / "train.jsonl")
    flags = ["--auxiliary_columns", "organ", "--save_strategy", "steps", "--save_steps", "2", "--logging_steps", "1"]
    run_vqa.main([recipe(), *flags])
    folder = tmp_path / "out"
    assert not [name for name in load_file(folder / "model.safetensors") if "auxiliary" in name]
    assert "| auxiliary targets | organ, weight 0.3 |" in (folder / "README.md").read_text()
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert history[0]["auxiliary_loss"] > 0
    run_vqa.main([recipe(do_train=False), "--do_eval", "--model_name_or_path", str(folder), *flags[:2]])
    _, found = DualVQAForQuestionAnswering.from_pretrained(folder / "checkpoint-2", output_loading_info=True)
    assert not found["unexpected_keys"] and not found["missing_keys"]


@pytest.mark.slow
def test_a_resumed_run_has_the_same_heads(settings, tmp_path):
    with_organs(settings["train_file"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**settings, "auxiliary_columns": ["organ"]}))
    arguments = [str(tmp_path / "recipe.yaml"), "--output_dir"]
    run_vqa.main([*arguments, str(tmp_path / "whole")])
    killed("step", 7, [*arguments, str(tmp_path / "killed")])
    run_vqa.main([*arguments, str(tmp_path / "killed"), "--resume_from_checkpoint", "true"])
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    flags = ["--resume_from_checkpoint", "true", "--auxiliary_columns", "qid"]
    with pytest.raises(SystemExit, match="was written with auxiliary_columns {'organ': .*found {'qid'"):
        run_vqa.main([*arguments, str(tmp_path / "whole"), *flags])


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--auxiliary_columns", "knee"], "--auxiliary_columns knee: expected a further column"),
        (["--auxiliary_columns", "qid", "--pretrain", "contrastive"], "can't be with --streaming or --pretrain"),
        (
            ["--auxiliary_columns", "qid", "--auxiliary_loss_weight", "-1"],
            "auxiliary_loss_weight must be .*, at least 0",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, flags, message):
    with pytest.raises(SystemExit, match=message):
        run_vqa.main([recipe(), *flags])
