import pytest
from transformers import BertConfig, ResNetConfig

from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering, TorchvisionEncoderConfig


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


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"heads": ["yes"]}, "heads must be one or both"),
        ({"heads": []}, "heads must be one or both"),
        ({"fusion_hidden_size": 250, "fusion_num_attention_heads": 4}, "250 is not divisible"),
    ],
)
def test_values_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAConfig(**fields)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"fusion_type": "crossattention"}, "fusion_type must be one of attention, cross_attention"),
        ({"vision_config": {"architecture": "mobilenet_v3_smal"}}, "did you mean one of mobilenet_v3_small"),
        ({"vision_config": {"architecture": "vit_b_16"}}, "from transformers or timm"),
        ({"text_config": {"model_type": "t5"}}, "encoder-decoder"),
    ],
)
def test_parts_that_do_not_exist_are_named(tiny_config, fields, message):
    with pytest.raises(ValueError, match=message):
        DualVQAForQuestionAnswering(tiny_config(**fields))
