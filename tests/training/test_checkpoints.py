import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_helpers import training_arguments as arguments

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.building import load_model
from dualvqa.training.checkpoint_integrity import is_whole_zip
from dualvqa.training.checkpoints import check_processor, check_rules, mean_weights
from dualvqa.training.sharding import check_sharding

GERMAN = {"yes_answers": ["ja"], "no_answers": ["nein"]}
AVERAGING = ["--average_checkpoints", "3", "--save_strategy", "steps", "--save_steps", "1", "--max_steps", "5"]


def write(folder, **tensors):
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_the_mean_is_that_of_the_numbers_and_whole_numbers_are_the_newests(tmp_path):
    weights = torch.randn(4, 3, 5)
    counts = torch.tensor([40, 30, 20, 10])
    folders = [
        write(tmp_path / f"{n}", weight=weights[n].clone(), half=weights[n].bfloat16(), count=counts[n].clone())
        for n in range(4)
    ]
    mean = mean_weights(folders)
    torch.testing.assert_close(mean["weight"], weights.double().mean(dim=0).float(), rtol=1e-6, atol=1e-7)
    expected = weights.bfloat16().float().mean(dim=0)  # in float32, and only the result is rounded
    torch.testing.assert_close(mean["half"], expected.bfloat16(), rtol=0, atol=2e-3)
    assert mean["half"].dtype == torch.bfloat16 and mean["count"] == 40
    assert not torch.allclose(mean_weights(folders[:2])["weight"], mean["weight"])


def test_what_stood_still_is_the_same_to_the_last_bit(tmp_path):
    weight = torch.randn(1000)
    mean = mean_weights([write(tmp_path / f"{n}", weight=weight) for n in range(7)])
    assert torch.equal(mean["weight"], weight)


def test_weights_in_several_files_are_averaged_alike(tmp_path):
    folders = []
    for number in range(2):
        folders.append(write(tmp_path / f"{number}", other=torch.tensor([float(number)])))
        (folders[-1] / "model.safetensors").rename(folders[-1] / "model-00001-of-00002.safetensors")
        save_file({"weight": torch.tensor([4.0 * number])}, folders[-1] / "model-00002-of-00002.safetensors")
    assert mean_weights(folders) == {"other": 0.5, "weight": 2.0}


@pytest.mark.parametrize("place", [0, 0.5, 1], ids=["beginning", "middle", "end"])
def test_a_file_with_a_lost_block_is_not_whole(tmp_path, place):
    path = tmp_path / "optimizer.pt"
    torch.save({"state": torch.randn(5000)}, path)
    assert is_whole_zip(path)
    content = bytearray(path.read_bytes())
    start = int(place * (len(content) - 500))
    content[start : start + 500] = bytes(500)
    path.write_bytes(content)
    assert not is_whole_zip(path)


def assert_mean_of(out, steps):
    saved = load_file(out / "model.safetensors")
    files = [load_file(out / f"checkpoint-{step}" / "model.safetensors") for step in steps]
    moved = 0
    for name, tensor in saved.items():
        tensors = [file[name] for file in files]
        if tensor.is_floating_point():
            expected = torch.stack(tensors).double().mean(dim=0).float()
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7)
            moved += not torch.equal(tensor, tensors[-1])
        else:
            assert torch.equal(tensor, tensors[-1])
    assert moved > 10


@pytest.mark.slow
def test_a_run_ends_with_the_mean_of_its_last_checkpoints(recipe, tmp_path):
    out = tmp_path / "out"
    run_vqa.main([recipe(), *AVERAGING, "--do_eval"])
    assert_mean_of(out, [3, 4, 5])
    figures = json.loads((out / "all_results.json").read_text())
    assert figures["averaged_checkpoints"] == 3
    card = (out / "README.md").read_text()
    assert "| weights | mean of the last 3 checkpoints |" in card
    assert "mean of the last" not in (out / "checkpoint-5" / "README.md").read_text()
    # What was measured is what was saved.
    again = tmp_path / "again"
    evaluation = ["--do_train", "false", "--do_eval", "--model_name_or_path", str(out), "--output_dir", str(again)]
    run_vqa.main([recipe(), *evaluation])
    assert json.loads((again / "all_results.json").read_text())["eval_loss"] == pytest.approx(figures["eval_loss"])


@pytest.mark.slow
def test_a_resumed_run_averages_what_was_written_before(recipe, tmp_path):
    out = tmp_path / "out"
    run_vqa.main([recipe(), *AVERAGING])
    whole = load_file(out / "model.safetensors")
    shutil.rmtree(out / "checkpoint-5")
    run_vqa.main([recipe(), *AVERAGING, "--resume_from_checkpoint", "true"])
    assert_mean_of(out, [3, 4, 5])
    for name, tensor in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(tensor, whole[name])


@pytest.mark.slow
def test_fewer_checkpoints_are_told(recipe, tmp_path, caplog):
    flags = ["--average_checkpoints", "3", "--save_strategy", "steps", "--save_steps", "1", "--max_steps", "2"]
    run_vqa.main([recipe(), *flags])
    assert "there are 2 checkpoints to average in place of 3" in caplog.text
    assert_mean_of(tmp_path / "out", [1, 2])
    assert "| weights | mean of the last 2 checkpoints |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_damaged_checkpoints_and_those_of_later_steps_are_not_averaged(recipe, tmp_path, caplog):
    out = tmp_path / "out"
    run_vqa.main([recipe(), *AVERAGING[2:]])
    (out / "checkpoint-3" / "model.safetensors").write_bytes(b"cut")
    model, processor = load_model(str(out))
    trainer = DualVQATrainer(
        model,
        arguments(out, average_checkpoints=3, save_strategy="steps"),
        processing_class=processor,
    )
    trainer.state.global_step = 4
    assert trainer.average_checkpoints() == 3
    assert "checkpoint-3 is passed over: its model.safetensors is damaged" in caplog.text
    trainer.save_model()
    assert_mean_of(out, [1, 2, 4])


@pytest.mark.slow
def test_checkpoints_of_another_run_are_refused_before_training(recipe, tmp_path):
    out = tmp_path / "out"
    run_vqa.main([recipe(), *AVERAGING[2:]])
    saved = (out / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match="checkpoint-5 is of an earlier training: move it away"):
        run_vqa.main([recipe(), *AVERAGING])
    with pytest.raises(SystemExit, match="checkpoint-5 is of an earlier training"):
        run_vqa.main([recipe(), *AVERAGING, "--resume_from_checkpoint", str(out / "checkpoint-2")])
    assert (out / "model.safetensors").read_bytes() == saved


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"average_checkpoints": 1}, "average_checkpoints must be at least 2, or 0 for none, found 1"),
        ({"average_checkpoints": -2}, "found -2"),
        ({"save_strategy": "no"}, "average_checkpoints needs checkpoints, found save_strategy no"),
        ({"save_total_limit": 2}, "average_checkpoints 3 needs as many checkpoints, found save_total_limit 2"),
        ({"save_only_model": True}, "leave save_only_model out"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch"}, "takes one of the checkpoints, don't go together"),
    ],
)
def test_settings_that_leave_nothing_to_average_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **{"average_checkpoints": 3, "save_strategy": "epoch", **fields})


def test_as_many_checkpoints_as_are_kept_can_be_averaged(tmp_path):
    assert (
        arguments(tmp_path, average_checkpoints=3, save_strategy="epoch", save_total_limit=3).average_checkpoints == 3
    )


def test_models_in_pieces_are_not_averaged(tiny_model, tmp_path):
    trainer = DualVQATrainer(tiny_model(), arguments(tmp_path, average_checkpoints=2, save_strategy="epoch"))
    trainer.is_deepspeed_enabled = True
    with pytest.raises(ValueError, match="average_checkpoints works on one device or with DDP"):
        check_sharding(trainer)


def test_a_checkpoint_with_the_same_answers_written_otherwise_is_of_the_same_vocabulary(processor, tmp_path):
    """As of a run that an earlier version started, when vocabularies were saved in normal form."""
    processor.save_pretrained(tmp_path)
    processor.answers = [answer.upper() for answer in processor.answers]
    check_processor(tmp_path, processor)
    processor.answers = [*processor.answers[:-1], "N/A"]
    with pytest.raises(ValueError, match="1 are not among them, first 'N/A'"):
        check_processor(tmp_path, processor)


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            {"yes_answers": ["oui"], "no_answers": ["non"]},
            "{} there, yes_answers oui no_answers non here. Give",
        ),
        ({}, "{} there, yes_answers yes no_answers no here"),
        ({**GERMAN, "metric": "vqa"}, "metric exact there, metric vqa here"),
        ({**GERMAN, "answer_language": "de"}, "answer_language en there, answer_language de here"),
    ],
)
def test_a_checkpoint_that_compares_answers_in_another_way_is_refused(processor, tmp_path, rules, message):
    processor.answer_rules = GERMAN
    processor.save_pretrained(tmp_path)
    processor.answer_rules = {"yes_answers": ["JA"], "no_answers": ["Nein", "no"]}
    check_rules(tmp_path, processor)
    processor.answer_rules = rules
    message = message.format("yes_answers ja no_answers nein")
    with pytest.raises(ValueError, match=f"compares answers in another way: {message}"):
        check_rules(tmp_path, processor)
