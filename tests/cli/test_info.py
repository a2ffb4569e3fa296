"""What a saved folder says of itself."""

import json

import pytest
import torch

from dualvqa.cli import main
from dualvqa.cli.info import calibration, describe, image_size
from modeling_dualvqa.memory_dualvqa import Memory
from modeling_dualvqa.memory_examples_dualvqa import Examples

MAJORITY = {"binary": {"answer": "no", "share": 0.6}, "open_ended": {"answer": "liver", "share": 0.1}}
RECORD = {
    "license": "mit",
    "data": [
        {
            "part": "train",
            "source": "a.jsonl",
            "questions": 1200,
            "images": None,
            "coverage": 0.975,
            "majority": MAJORITY,
        }
    ],
    "settings": [["epochs", 3]],
    "results": {
        "validation": {"routed_accuracy": 0.75, "oracle_accuracy": 0.8, "routed_binary_accuracy": 0.9},
        "calibration": {"rows": 100, "images": 50, "routed_ece_before": 0.2, "routed_ece_after": 0.05},
    },
}


@pytest.fixture
def saved(tiny_model, processor, tmp_path):
    model = tiny_model(model_card=RECORD)
    processor.calibration = {
        "temperatures": {"binary": 1.5},
        "abstention": {"threshold": 0.4, "coverage": 0.8, "max_risk": 0.1, "confidence": 0.95, "rows": 100},
    }
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return model, str(tmp_path / "model")


def test_parameters_are_counted_as_the_model_counts_them(saved):
    model, folder = saved
    assert describe(folder)["parameters"] == model.parameter_counts()


def test_a_folder_tells_what_it_is_and_what_it_reached(saved, capsys):
    _, folder = saved
    main(["info", folder])
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        "vision tower resnet, images of 32 pixels",
        "text tower distilbert, 1 layer fusion",
        "answers 3: red, green, blue",
        "train 1,200 questions, from a.jsonl, open-ended coverage 97.5%, most often answered no or liver",
        "settings: epochs 3",
        "reached (validation part): routed oracle yes/no 90.0% all 75.0% 80.0%",
        "temperature, yes/no 1.5 left unanswered below 0.4, so that at most 10.0% of the answers are wrong",
        "error of the scores 20.0% before, 5.0% after",
    ):
        assert said in shown, shown
    main(["info", folder, "--json"])
    assert json.loads(capsys.readouterr().out)["results"] == RECORD["results"]


def test_a_promise_about_questions_is_called_that_inside_groups_too():
    one = {"threshold": 0.4, "max_risk": 0.45, "risk_of": "questions"}
    by_group = {"by": "organ", "groups": {"ABD": None, "HEAD": one}, "max_risk": 0.45}
    for promise, below in ((one, "below 0.4"), (by_group, "by organ")):
        shown = " ".join(" ".join(calibration({"abstention": promise}, {})).split())
        assert f"left unanswered {below}, so that at most 45.0% of all questions are wrong" in shown


def test_a_memory_is_shown_and_counts_as_no_parameters(saved, tmp_path, capsys):
    model, folder = saved
    before, places = describe(folder)["parameters"], torch.arange(4)
    examples = Examples(torch.randn(4, 16), torch.randn(3, 24), places % 3, places % 2, places // 2)
    model.set_memory(Memory.of(model, examples))
    model.save_pretrained(folder)
    assert describe(folder)["parameters"] == before == model.parameter_counts()
    assert "| memory |" not in (tmp_path / "model" / "README.md").read_text()
    main(["info", folder])
    assert "memory 4 questions about 3 images" in " ".join(capsys.readouterr().out.split())


def test_figures_say_how_their_questions_were_held_out_and_of_which_weights_they_are(saved, tmp_path, capsys):
    _, folder = saved
    reached = {"routed_accuracy": 0.75}
    held_out = {"validation": "held out by wording", "test": "held out by image"}
    parts = [
        {"part": part, "source": "a", "questions": 9, "images": 3, "held_out": way} for part, way in held_out.items()
    ]
    refit = {"questions": 1320, "images": 330, "steps": 120}
    memory = {"rows": 99, "without": 0.5, "with": 0.625, "held_out": held_out["validation"]}
    of_card = {"data": parts, "memory": memory, "results": {"validation": reached, "test": reached}}
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for trained_anew in (None, refit):
        config |= {"memory": {"examples": 7, "images": 3}, "model_card": {**of_card, "refit": trained_anew}}
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        main(["info", folder, "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (found["held_out"], found["refit"], found["memory_figures"]) == (held_out, trained_anew, memory)
        main(["info", folder])
        shown = " ".join(capsys.readouterr().out.split())
        before, after = (" of the model before the refit", " of the refitted model") if trained_anew else ("", "")
        for said in (
            f"reached (validation part): routed all 75.0% held out by wording{before} reached (test part):",
            f"reached (test part): routed all 75.0% held out by image{after} memory:",
            "memory: fitted on 99 questions heads alone 50.0% with it 62.5%, parameters cross-fitted: of questions "
            f"about other images held out by wording{before} calibration:",
            f"so that at most 10.0% of the answers are wrong{before}",
        ):
            assert said in shown, shown
        assert ("refit 1,320 questions about 330 images: those of the validation" in shown) == bool(trained_anew)
    config["model_card"] |= {"memory": {**memory, "with": None}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    main(["info", folder])
    assert "not measured: all questions are about one image" in capsys.readouterr().out
    config["model_card"] |= {"memory": None, "cross_fit": {"folds": 3}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    main(["info", folder])
    assert "its parameters are the medians of those of 3 folds' models" in capsys.readouterr().out


def test_damaged_weights_are_named(saved, tmp_path):
    _, folder = saved
    (tmp_path / "model" / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(SystemExit, match="model.safetensors is damaged: its header can't be read"):
        main(["info", folder])
    (tmp_path / "model" / "config.json").write_text("[")
    with pytest.raises(SystemExit, match="config.json is damaged"):
        main(["info", folder])


def test_the_size_of_images_is_that_of_the_crop_where_there_is_one():
    size, crop = {"height": 40, "width": 30}, {"height": 32, "width": 32}
    assert image_size({"size": size}) == (40, 30) and image_size({}) is None
    assert image_size({"size": {"shortest_edge": 36}, "do_center_crop": True, "crop_size": crop}) == 32
