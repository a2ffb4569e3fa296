"""A tiny tower of every family: what the standards of transformers are asked of. All take images of 32x32 pixels."""

SMALL = {"image_size": 32, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = {**SMALL, "intermediate_size": 32}
STAGES = {"depths": [1, 1], "image_size": 32}
VISION = {
    "torchvision_mobilenet": {"architecture": "mobilenet_v3_small", "image_size": 32},
    "vit": VIT,
    "deit": VIT,
    "beit": VIT,
    "dinov2": {**SMALL, "mlp_ratio": 2},
    "dinov2_with_registers": {**SMALL, "mlp_ratio": 2, "num_register_tokens": 2},
    "dinov3_vit": {**VIT, "num_register_tokens": 2},
    "ijepa": VIT,
    "swin": {**STAGES, "patch_size": 4, "embed_dim": 8, "num_heads": [2, 2], "window_size": 4},
    "convnext": {**STAGES, "hidden_sizes": [8, 16], "num_stages": 2},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 24], "depths": [1, 1], "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.25, "image_size": 32},
    "efficientnet": {
        "width_coefficient": 0.5,
        "depth_coefficient": 1.0,
        "image_size": 32,
        "kernel_sizes": [3, 5],
        "in_channels": [32, 16],
        "out_channels": [16, 24],
        "strides": [1, 2],
        "num_block_repeats": [1, 2],
        "expand_ratios": [1, 6],
        "hidden_dim": 640,
    },
    "clip_vision_model": VIT,
    "siglip_vision_model": VIT,
    "timm_wrapper": {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2},
    },
}

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = {
    "distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2},
    "bert": SIZES,
    "roberta": {**SIZES, "max_position_embeddings": 32},
    "electra": {**SIZES, "embedding_size": 8},
    "albert": {**SIZES, "embedding_size": 8},
    "mpnet": SIZES,
    "modernbert": {**SIZES, "pad_token_id": 0},
    "clip_text_model": SIZES,
}


def vision_config(family):
    """The `vision_config` of a family's tiny tower."""
    model_type = {} if family == "torchvision_mobilenet" else {"model_type": family}
    return {**model_type, **VISION[family]}


def text_config(family, vocabulary):
    """The `text_config` of a family's tiny tower for so many tokens."""
    return {"model_type": family, "max_position_embeddings": 16, **TEXT[family], "vocab_size": vocabulary}
