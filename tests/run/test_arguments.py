"""Which settings of a run are refused before any data are read, and with which words."""

import numpy as np
import pytest
from transformers import BertConfig, EvalPrediction, RobertaConfig

from dualvqa.run import main as run_vqa
from dualvqa.run.arguments import parse_arguments
from dualvqa.run.flags import config_fields
from dualvqa.training.new_model_checks import check_new_model, text_positions
from dualvqa.training.selection import check_selection
from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import AnswerMetrics
from processing.metrics import figure_names


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--per_device_train_batch_size 0", "per_device_train_batch_size must be a whole number, at least 1; found 0"),
        ("--per_device_eval_batch_size -4", "per_device_eval_batch_size must be a whole number, at least 1; found -4"),
        ("--gradient_accumulation_steps 0", "gradient_accumulation_steps must be a whole number, at least 1; found 0"),
        ("--num_train_epochs -1", "num_train_epochs must be a finite number, above 0; found -1"),
        ("--learning_rate -1", "learning_rate must be a finite number, at least 0; found -1"),
        ("--text_learning_rate nan", "text_learning_rate must be a finite number or null, at least 0; found nan"),
        ("--weight_decay nan", "weight_decay must be a finite number, at least 0; found nan"),
        ("--max_grad_norm inf", "max_grad_norm must be a finite number, at least 0; found inf"),
        ("--validation_fraction nan", "validation_fraction must be"),
        ("--color_jitter nan", "color_jitter must be a finite number, at least 0 and at most 1; found nan"),
        ("--random_rotation -5", "random_rotation must be a finite number, at least 0 and at most 180; found -5"),
        ("--image_std 0 1 1", "image_std must be a list of finite numbers or null, above 0"),
        ("--image_mean 0.5", "image_mean must be three numbers"),
        ("--image_size 0", "image_size must be a whole number or null, at least 8 and at most 16384; found 0"),
        ("--max_question_length 2", "max_question_length must be a whole number, at least 3; found 2"),
        ("--top_k 0", "top_k must be a whole number, at least 1; found 0"),
        ("--max_answers -1", "max_answers must be a whole number or null, at least 1; found -1"),
        ("--ensemble_average mean", "ensemble_average must be one of logits, probabilities; found 'mean'"),
        ("--eval_do_concat_batches false", "eval_do_concat_batches must stay on"),
        ("--learning_ratte 1", "unknown argument --learning_ratte; did you mean --learning_rate"),
    ],
)
def test_a_value_outside_its_range_is_named(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *flags.split()])


EVALUATED = "--eval_strategy epoch --save_strategy epoch --load_best_model_at_end true"


@pytest.mark.parametrize(
    "flags, message",
    [
        (f"{EVALUATED} --metric_for_best_model routed_acuracy", "routed_acuracy'; did you mean routed_accuracy"),
        (f"{EVALUATED} --metric_for_best_model f1", "metric_for_best_model must be one of loss, .*routed_accuracy"),
        ("--early_stopping_patience 2", "patience 2 needs evaluations while training"),
        ("--early_stopping_patience 2 --eval_strategy epoch", "patience 2 needs metric_for_best_model"),
        (
            "--early_stopping_patience 2 --eval_strategy epoch --metric_for_best_model routed_accuracy",
            "patience 2 needs load_best_model_at_end",
        ),
    ],
)
def test_a_best_state_needs_a_figure_that_there_is(tmp_path, flags, message):
    flags = ["--do_train", "--dataset_name", "easy_vqa", "--output_dir", str(tmp_path), "--use_cpu", *flags.split()]
    with pytest.raises(SystemExit, match=message):
        run_vqa.main(flags)
    settings = parse_arguments([*flags, "--do_train", "false"])
    check_selection(settings.training)  # it only evaluates


def test_every_figure_that_may_be_asked_for_is_given(processor):
    arrays = (np.array([[0.0, 1.0]] * 2), np.zeros((2, 3)), np.array([[0.0, 1.0]] * 2))
    found = set(AnswerMetrics(processor, ["yes", "red"])(EvalPrediction(arrays, None)))
    losses = {"loss", "binary_loss", "open_ended_loss", "question_type_loss"}
    assert set(figure_names()) == (found | losses) - {"coverage"}
    alone = figure_names(["open_ended"], ["open_ended"])
    assert "open_ended_loss" in alone and not {"router_accuracy", "binary_loss", "routed_binary_accuracy"} & set(alone)


def arguments(tmp_path, *flags):
    return parse_arguments(["--output_dir", str(tmp_path), "--use_cpu", *flags])[0]


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--max_question_length 600", "is 600 tokens and the text tower has 512 positions"),
        ("--config text_config.max_position_embeddings=16", "is 64 tokens and the text tower has 16 positions"),
        ("--config vision_config.architecture=resnet1", "did you mean one of resnet18"),
        ("--config vision_config=5", "vision_config must be names with values or .*; found 5"),
        ("--config text_config=[]", "text_config must be names with values or .*; found \\[\\]"),
        ("--config problem_type=maybe", "with a field of DualVQAConfig, found 'problem_type=maybe'"),
        ("--config vision_config=5 vision_config.image_size=3", "vision_config has a value"),
        ("--config text_config.n_heads=5", "no model can be built with this configuration|n_heads"),
        ("--config text_config.activation=geluu", "no model can be built with this configuration"),
        ("--config text_config.dim=1200000", "the model would have .* parameters, .* GiB, and this machine has"),
        ("--config fusion_num_layers=1000000", "fusion_num_layers must be a whole number, at least 1 and at most 1000"),
        ("--config focal_gamma=-1", "focal_gamma must be a finite number, at least 0; found -1"),
        ("--config text_config.foo=1", "text_config has no field 'foo'"),
        ("--config freeze_vision=maybe", "freeze_vision must be true or false; found 'maybe'"),
        ("--config head_dropout=[", "--config head_dropout is not valid YAML"),
        ("--vision_weights_file gone.pth", "gone.pth: no such file"),
    ],
)
def test_a_model_that_can_not_be_built_is_refused_before_the_data_are_read(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        args = arguments(tmp_path, *flags.split())
        check_new_model(args, config_fields(args.config))


def test_settings_of_the_configuration_are_numbers_where_they_look_like_it():
    fields = config_fields(["layer_norm_eps=1e-6", "text_config.initializer_range=2e-2", "binary_head_sizes=[8]"])
    assert fields == {"layer_norm_eps": 1e-6, "text_config": {"initializer_range": 0.02}, "binary_head_sizes": [8]}


@pytest.mark.parametrize(
    "config, positions",
    [
        (BertConfig(max_position_embeddings=20), 20),
        (RobertaConfig(max_position_embeddings=20, pad_token_id=1), 18),  # it counts from behind its padding
    ],
)
def test_the_positions_of_a_text_tower(tiny_config, config, positions):
    config.update({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8})
    assert text_positions(DualVQAForQuestionAnswering(tiny_config(text_config=config))) == positions
