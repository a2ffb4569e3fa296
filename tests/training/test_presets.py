"""Which preset some data get, what it fills in, and what stays as it was given."""

import logging

import pytest
import yaml
from helpers import ROOT

from dualvqa import DataArguments, DualVQATrainer, DualVQATrainingArguments, build_model, choose_preset
from dualvqa.run.flags import load_flags
from dualvqa.training.building import NewModelArguments
from dualvqa.training.presets import PRESETS, Preset, TrainingFacts, differing, load_preset, name_for
from modeling_dualvqa import DualVQAConfig
from processing.summary import summarise

BOTH = frozenset({"vision", "text"})


def facts(questions=1000, pretrained=BOTH, **others):
    return TrainingFacts(questions, 100, 50, 0.5, pretrained, **others)


@pytest.mark.parametrize(
    ("questions", "pretrained", "name"),
    [
        (1, BOTH, "few"),
        (499, BOTH, "few"),
        (500, BOTH, "some"),
        (2499, BOTH, "some"),
        (2500, BOTH, "many"),
        (49_999, {"text"}, "many"),
        (50_000, {"text"}, "large"),
        (500, {"vision"}, "scratch"),
        (10**7, set(), "scratch"),
    ],
)
def test_the_preset_depends_on_the_number_of_questions_and_on_the_text_tower(questions, pretrained, name):
    assert name_for(facts(questions, frozenset(pretrained))) == name


def test_the_facts_are_those_of_the_training_part():
    answers = ["yes", "No", "red", "red", "two"]
    found = TrainingFacts.of(summarise((("what?", answer) for answer in answers), images=3), text="some/tower")
    assert found == TrainingFacts(5, 3, 2, 0.4, frozenset({"text"}))
    assert str(found) == "5 questions about 3 images, 40% yes/no, 2 open-ended answers, a pretrained text tower"


@pytest.mark.parametrize("name", PRESETS)
def test_every_shipped_preset_has_known_settings_of_the_right_types(name):
    settings = yaml.safe_load((ROOT / "recipes" / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(settings.pop("config")) <= set(DualVQAConfig.__annotations__)
    flags = load_flags()
    for setting, value in settings.items():
        assert flags[setting].read(value) == value, setting  # a number that YAML 1.1 takes for text would be refused


def test_what_means_nothing_to_the_towers_or_to_a_stream_is_left_out():
    assert load_preset(facts()).config["freeze_vision"] is True
    text_alone = load_preset(facts(pretrained=frozenset({"text"}), streamed=True))
    assert "freeze_vision" not in text_alone.config and "text_learning_rate" in text_alone.training
    assert not {"questions_per_image", "memory"} & set(text_alone.training)
    assert load_preset(facts()).model == {"image_crop": False} and not text_alone.model


def test_all_of_an_image_is_seen_unless_the_crop_is_asked_for():
    preset = load_preset(facts())
    crops = [preset.new_model_arguments(NewModelArguments(image_crop=crop)).image_crop for crop in (None, True, False)]
    assert crops == [False, True, False]
    new = load_preset(facts(pretrained=frozenset()), "some")
    assert "text_learning_rate" not in new.training and "freeze_parameters" not in new.training
    assert "text_config" not in load_preset(facts(), "scratch").config
    assert load_preset(facts(), "none") is None
    with pytest.raises(ValueError, match="one of auto, none, few, some, many, large, scratch; found 'lots'"):
        load_preset(facts(), "lots")


def test_a_preset_fills_in_arguments_that_are_at_their_default_and_no_others(tmp_path):
    args = DualVQATrainingArguments(str(tmp_path), num_train_epochs=2, lr_scheduler_type="constant", use_cpu=True)
    assert {"num_train_epochs", "lr_scheduler_type"} <= differing(args) and "learning_rate" not in differing(args)
    values = {"num_train_epochs": 10, "lr_scheduler_type": "cosine", "learning_rate": 1e-3, "save_strategy": "epoch"}
    preset = Preset("some", "", {}, values)
    filled = preset.training_arguments(args)
    assert (filled.num_train_epochs, filled.lr_scheduler_type, filled.learning_rate) == (2, "constant", 1e-3)
    assert filled.save_strategy == "epoch" and args.learning_rate == 5e-5
    assert preset.training_arguments(args, given={"learning_rate"}).learning_rate == 5e-5


def test_fields_that_are_given_win_and_pooled_vectors_keep_their_fusion():
    preset = Preset("some", "", {"fusion_type": "cross_attention", "head_dropout": 0.3, "text_config": {"dim": 128}})
    assert preset.model_fields({"head_dropout": 0.1, "text_config": {"n_layers": 2}}) == {
        "fusion_type": "cross_attention",
        "head_dropout": 0.1,
        "text_config": {"n_layers": 2},
    }
    assert "fusion_type" not in preset.model_fields({"fusion_pooling": "product"})
    assert preset.model_fields({"fusion_type": "gated", "fusion_pooling": "mean"})["fusion_type"] == "gated"


@pytest.mark.slow
def test_a_model_built_in_python_has_its_preset_and_says_so(image_folder, caplog):
    rows, read = str(image_folder / "train.jsonl"), {"data_args": DataArguments(image_dir=str(image_folder))}
    tiny = {**read, "image_size": 32, "fusion_hidden_size": 16, "fusion_num_attention_heads": 2}
    caplog.set_level(logging.INFO)
    model, _ = build_model(rows, **tiny)
    assert model.config.fusion_type == "cross_attention" and model.start.preset.name == "scratch"
    assert "preset scratch (16 questions about 8 images, " in caplog.text and "--preset none" in caplog.text
    assert choose_preset(rows, **read) == model.start.preset
    plain, _ = build_model(rows, preset="none", **tiny, text_config={"n_layers": 1})
    assert plain.config.fusion_type == "attention" and plain.start.preset is None
    with pytest.raises(ValueError, match="preset must be one of"):
        build_model(rows, preset="lots", **tiny)


def test_a_trainer_in_python_takes_the_arguments_of_the_models_preset_and_says_so(image_folder, tmp_path, caplog):
    rows, read = str(image_folder / "train.jsonl"), {"data_args": DataArguments(image_dir=str(image_folder))}
    args = DualVQATrainingArguments(str(tmp_path / "run"), num_train_epochs=2, use_cpu=True, report_to="none")
    for preset, learning_rate in (("auto", 1e-3), ("none", 5e-5)):
        model, processor = build_model(rows, preset=preset, image_size=32, text_config={"n_layers": 1}, **read)
        trainer = DualVQATrainer(model=model, processing_class=processor, args=args, train_dataset=rows, **read)
        assert (trainer.args.learning_rate, trainer.args.num_train_epochs) == (learning_rate, 2)
        filled = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert any(f"learning_rate={learning_rate}" in text for text in filled) == (preset != "none"), filled
        caplog.clear()
        assert args.learning_rate == 5e-5, "those given are not changed"
