import json
import math

import numpy as np
import pytest
from transformers import CONFIG_MAPPING, BertConfig, ResNetConfig

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering, TorchvisionEncoderConfig
from modeling_dualvqa.configuration_dualvqa import tower_fields


def test_defaults_are_those_of_the_design():
    config = DualVQAConfig()
    assert config.vision_config.architecture == "mobilenet_v3_small" and config.vision_config.image_size == 224
    assert (config.text_config.n_layers, config.text_config.n_heads, config.text_config.dim) == (6, 12, 768)
    assert config.fusion_type == "attention"
    assert (config.fusion_hidden_size, config.fusion_num_attention_heads, config.fusion_intermediate_size) == (
        256,
        4,
        512,
    )
    assert (config.binary_head_sizes, config.open_ended_head_sizes) == ([128, 64], [256, 128])
    assert (config.head_dropout, config.focal_gamma) == (0.3, 2.5)


def test_sub_configurations_come_back_as_their_classes(tmp_path):
    config = DualVQAConfig(
        vision_config={"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [8, 16]},
        text_config={"model_type": "bert", "hidden_size": 24},
    )
    config.save_pretrained(tmp_path)
    again = DualVQAConfig.from_pretrained(tmp_path)
    assert isinstance(again.vision_config, ResNetConfig) and isinstance(again.text_config, BertConfig)
    assert again.to_dict() == config.to_dict()
    assert isinstance(DualVQAConfig().vision_config, TorchvisionEncoderConfig)


ONE_OR_BOTH = "heads must be one or both of binary, open_ended, each once, found"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"heads": ["yes"]}, r"heads must be a list of some of binary, open_ended; found \['yes'\]"),
        ({"heads": "binary"}, "heads must be a list of some of binary, open_ended; found 'binary'"),
        ({"heads": []}, ONE_OR_BOTH),
        ({"heads": ["binary", "binary"]}, ONE_OR_BOTH),
        ({"fusion_hidden_size": 250, "fusion_num_attention_heads": 4}, "250 is not divisible"),
        ({"fusion_hidden_size": 0}, "fusion_hidden_size must be a whole number, at least 1; found 0"),
        ({"num_answers": 3.5}, "num_answers must be a whole number, at least 0; found 3.5"),
        ({"focal_gamma": -1}, "focal_gamma must be a finite number, at least 0; found -1"),
        ({"focal_gamma": math.nan}, "focal_gamma must be a finite number, at least 0; found nan"),
        ({"binary_loss_weight": "inf"}, "binary_loss_weight must be a finite number, at least 0; found 'inf'"),
        ({"head_dropout": 1.0}, "head_dropout must be a finite number, at least 0 and below 1; found 1.0"),
        ({"head_dropout": "much"}, "head_dropout must be a finite number, at least 0 and below 1; found 'much'"),
        ({"freeze_vision": "maybe"}, "freeze_vision must be true or false; found 'maybe'"),
        ({"freeze_vision": 1}, "freeze_vision must be true or false; found 1"),
        ({"binary_head_sizes": [8, 0]}, "binary_head_sizes must be a list of whole numbers or null, at least 1; found"),
        ({"text_pooling": "frist"}, "text_pooling must be one of first, mean; found 'frist'; did you mean first"),
        ({"return_dict": "maybe"}, "return_dict must be true or false or null; found 'maybe'"),
        ({"dtype": "float23"}, "float23"),
        ({"focal_gama": 1}, "DualVQAConfig has no field 'focal_gama'; did you mean focal_gamma"),
        ({"text_config": {"foo": 1}}, "text_config has no field 'foo'"),
        ({"text_config": {"n_layer": 1}}, "text_config has no field 'n_layer'; did you mean n_layers"),
        ({"text_config": {"n_layers": "two"}}, "text_config.n_layers must be a whole number, .*; found 'two'"),
        ({"text_config": {"dropout": 1.5}}, "text_config.dropout must be a finite number, at least 0 and below 1"),
        ({"text_config": {"dtype": "float23"}}, "text_config can't be a DistilBertConfig: .*float23"),
        ({"text_config": {"model_type": ["bert"]}}, r"text_config.model_type must be text; found \['bert'\]"),
        ({"text_config": "bert"}, "text_config must be .*; found 'bert'"),
        (
            {"vision_config": {"model_type": "vitt"}},
            "model_type must be .*; found 'vitt'; did you mean vit",
        ),
        (
            {"vision_config": {"image_size": 0}},
            "vision_config.image_size must be a whole number, .*; found 0",
        ),
        ({"vision_config": {"architektur": "resnet18"}}, "vision_config has no field .* did you mean architecture"),
    ],
)
def test_values_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAConfig(**fields)


def test_numbers_that_yaml_takes_for_text_are_numbers():
    config = DualVQAConfig(
        head_dropout="1e-1",
        layer_norm_eps="1e-6",
        binary_head_sizes=["16", 8.0],
        freeze_text="true",
        text_config={"model_type": "bert", "layer_norm_eps": "1e-6", "hidden_size": "24"},
    )
    assert (config.head_dropout, config.layer_norm_eps, config.binary_head_sizes) == (0.1, 1e-6, [16, 8])
    assert (config.freeze_text, config.text_config.layer_norm_eps, config.text_config.hidden_size) == (True, 1e-6, 24)
    assert DualVQAConfig(focal_gamma=np.float32(0.5), num_answers=np.int64(7)).num_answers == 7


def test_a_value_that_is_set_later_is_checked_too(tmp_path):
    config = DualVQAConfig()
    with pytest.raises(ValueError, match="focal_gamma must be a finite number"):
        config.focal_gamma = math.inf
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="focal_gamma must be a finite number"):
        DualVQAConfig.from_pretrained(tmp_path, focal_gamma=-1)


def test_the_order_of_the_heads_means_nothing(tiny_model, tmp_path):
    """Outputs, losses and saved files name the heads in one order."""
    assert DualVQAConfig(heads=["open_ended", "binary"]).heads == ["binary", "open_ended"]
    tiny_model().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "heads": ["open_ended", "binary"]}))
    model = DualVQAForQuestionAnswering.from_pretrained(tmp_path)
    assert model.config.heads == ["binary", "open_ended"]


def test_a_saved_configuration_of_another_version_is_read(tmp_path):
    """Names that this version doesn't know are kept, values of those that it knows are checked."""
    config = DualVQAConfig(text_config={"model_type": "bert", "hidden_size": 24})
    config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    saved |= {"a_new_field": 1}
    saved["text_config"]["gradient_checkpointing"] = saved["vision_config"]["a_new_field"] = False
    path.write_text(json.dumps(saved))
    again = DualVQAConfig.from_pretrained(tmp_path)
    assert again.a_new_field == 1 and again.vision_config.a_new_field is False and again.text_config.hidden_size == 24
    path.write_text(json.dumps({**saved, "focal_gamma": "much"}))
    with pytest.raises(ValueError, match="focal_gamma must be a finite number, at least 0; found 'much'"):
        DualVQAConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "vit", "swin", "resnet", "dinov2", "timm_wrapper"])
def test_what_a_tower_says_of_itself_fits(name):
    config = CONFIG_MAPPING[name]()
    fields = {key: value for key, value in config.to_dict().items() if key != "transformers_version"}
    assert tower_fields("text_config", type(config), fields).keys() == fields.keys()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"fusion_type": "crossattention"}, "fusion_type must be one of attention, cross_attention"),
        ({"vision_config": {"architecture": "mobilenet_v3_smal"}}, "did you mean one of mobilenet_v3_small"),
        ({"vision_config": {"architecture": "vit_b_16"}}, "from transformers or timm"),
        ({"text_config": {"model_type": "vit"}}, "can't be a text tower"),
    ],
)
def test_parts_that_do_not_exist_are_named(tiny_config, fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAForQuestionAnswering(tiny_config(**fields))
