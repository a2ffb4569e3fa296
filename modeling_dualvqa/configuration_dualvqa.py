"""Configuration of DualVQA: one nested configuration per tower, and the fusion and heads on top."""

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

HEADS = ("binary", "open_ended")
POOLINGS = ("mean", "product")
TEXT_POOLINGS = ("first", "mean")


class TorchvisionEncoderConfig(PreTrainedConfig):
    """A torchvision classifier without its pooling and classification layers.

    Args:
        architecture: name of a classification model in `torchvision.models`.
        image_size: height and width in pixels that the processor resizes to.
        hidden_size: number of channels of the last feature map; inferred from the architecture when left out.
        model_kwargs: keyword arguments of the torchvision builder, such as `{"dilated": True}`.
        batch_norm_momentum: replaces the architecture's own momentum; torchvision's MobileNetV3 has 0.01, too slow
            for short training from scratch.
    """

    model_type = "torchvision_encoder"

    architecture: str = "mobilenet_v3_small"
    image_size: int = 224
    hidden_size: int | None = None
    model_kwargs: dict | None = None
    batch_norm_momentum: float | None = None


class DualVQAConfig(PreTrainedConfig):
    """Configuration of [`DualVQAForQuestionAnswering`].

    Args:
        vision_config: [`TorchvisionEncoderConfig`], or the configuration of any transformers vision model, or a dict
            of either; its `model_type` says which. MobileNetV3-Small when left out.
        text_config: configuration of any transformers text encoder, or a dict of it. DistilBERT when left out.
        num_answers: size N of the answer vocabulary, the width of the open-ended head.
        heads: which of "binary" and "open_ended" the model has.
        fusion_type: name of a fusion module in `fusion_dualvqa.FUSIONS`.
        text_pooling: what fusions over pooled vectors, and the router, read of a question: the state of its "first"
            token, [CLS], or the "mean" of all.
        fusion_hidden_size: width D of the projections and the fusion.
        fusion_num_attention_heads: attention heads of the fusion; must divide `fusion_hidden_size`.
        fusion_intermediate_size: width of the fusion's feed-forward network, 2 D when left out.
        fusion_num_layers: how many fusion blocks are stacked.
        fusion_dropout: dropout inside the fusion.
        fusion_pooling: how "attention" makes one vector of its states: "mean" or elementwise "product".
        fusion_product_vector: whether in "attention" the product of image and question takes part as a third vector.
        fusion_bidirectional: whether in "cross_attention" the image attends to the question too.
        fusion_num_experts: feed-forward networks E of each fusion block of which every question takes some; 0 for one
            that all share. See `feed_forward_dualvqa.MixtureOfExperts`.
        fusion_experts_per_question: how many of them a question takes.
        binary_head_sizes, open_ended_head_sizes: widths of the hidden layers of each head;
            [D/2, 64] and [D, D/2] when left out, one linear layer with [].
        head_dropout: dropout after each hidden layer of the heads.
        freeze_vision, freeze_text: towers that training leaves alone; see `freeze_encoders`.
        focal_gamma: focusing parameter of the focal loss (Lin et al. 2017, equation 4); 0 is cross-entropy.
        binary_loss_weight, open_ended_loss_weight, question_type_loss_weight: weights of the three loss terms.
        load_balancing_loss_weight: weight of the loss that spreads questions over the experts.
        familiarity: whether the model has the mean and covariance of its training states; see
            `familiarity_dualvqa.Familiarity`.
        layer_norm_eps: epsilon of the layer norms of fusion and heads.
        initializer_range: standard deviation of the linear layers of fusion and heads at the start.
        model_card: what the README.md of a saved folder says of training and results; see `model_card_dualvqa`.

    Raises:
        ValueError: a head or pooling that doesn't exist, a width that the number of attention heads doesn't divide,
            experts in a fusion without blocks, or more of them per question than there are.
    """

    model_type = "dualvqa"
    # The Trainer keeps the logits of an evaluation, and not what is large and serves no metric.
    keys_to_ignore_at_inference = [
        "fused_state",
        "fusion_gates",
        "expert_logits",
        "load_balancing_loss",
        *(f"{tower}_embeds" for tower in ("image", "text")),
        *(f"{part}_{kind}" for part in ("fusion", "text", "image") for kind in ("attentions", "hidden_states")),
    ]
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=TorchvisionEncoderConfig),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="distilbert"),
    }

    vision_config: PreTrainedConfig | dict | None = None
    text_config: PreTrainedConfig | dict | None = None
    num_answers: int = 1000
    heads: list | tuple = HEADS
    fusion_type: str = "attention"
    text_pooling: str = "first"
    fusion_hidden_size: int = 256
    fusion_num_attention_heads: int = 4
    fusion_intermediate_size: int | None = None
    fusion_num_layers: int = 1
    fusion_dropout: float = 0.1
    fusion_pooling: str = "mean"
    fusion_product_vector: bool = False
    fusion_bidirectional: bool = False
    fusion_num_experts: int = 0
    fusion_experts_per_question: int = 1
    binary_head_sizes: list | None = None
    open_ended_head_sizes: list | None = None
    head_dropout: float = 0.3
    freeze_vision: bool = False
    freeze_text: bool = False
    focal_gamma: float = 2.5
    binary_loss_weight: float = 1.0
    open_ended_loss_weight: float = 1.0
    question_type_loss_weight: float = 0.1
    load_balancing_loss_weight: float = 0.01
    familiarity: bool = False
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    model_card: dict | None = None

    def __post_init__(self, **kwargs):
        if isinstance(self.vision_config, dict):
            model_type = self.vision_config.get("model_type", TorchvisionEncoderConfig.model_type)
            if model_type != TorchvisionEncoderConfig.model_type:
                fields = {key: value for key, value in self.vision_config.items() if key != "model_type"}
                self.vision_config = AutoConfig.for_model(model_type, **fields)
        width = self.fusion_hidden_size
        self.heads = list(self.heads)
        self.fusion_intermediate_size = self.fusion_intermediate_size or 2 * width
        if self.binary_head_sizes is None:
            self.binary_head_sizes = [width // 2, 64]
        if self.open_ended_head_sizes is None:
            self.open_ended_head_sizes = [width, width // 2]
        # The pipeline left transformers in version 5; these entries bring it back for saved folders.
        pipeline = {"impl": "pipeline_dualvqa.DualVQAPipeline", "pt": ["AutoModel"], "type": "multimodal"}
        kwargs.setdefault("custom_pipelines", {"visual-question-answering": pipeline, "vqa": pipeline})
        super().__post_init__(**kwargs)
        if not self.heads or not set(self.heads) <= set(HEADS):
            raise ValueError(f"heads must be one or both of {HEADS}, found {self.heads}")
        if width % self.fusion_num_attention_heads:
            raise ValueError(
                f"fusion_hidden_size {width} is not divisible by fusion_num_attention_heads "
                f"{self.fusion_num_attention_heads}; choose a multiple"
            )
        for name, known in (("fusion_pooling", POOLINGS), ("text_pooling", TEXT_POOLINGS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; found {getattr(self, name)!r}")
        if self.fusion_num_experts < 0:
            raise ValueError(f"fusion_num_experts must not be negative, found {self.fusion_num_experts}")
        if self.fusion_num_experts and "attention" not in self.fusion_type:
            raise ValueError(
                f"experts are the feed-forward networks of attention and cross_attention; a {self.fusion_type} fusion "
                f"has none, found fusion_num_experts {self.fusion_num_experts}"
            )
        if self.fusion_num_experts and not 1 <= self.fusion_experts_per_question <= self.fusion_num_experts:
            raise ValueError(
                f"fusion_experts_per_question must be from 1 to fusion_num_experts {self.fusion_num_experts}, found "
                f"{self.fusion_experts_per_question}"
            )

    @property
    def loss_weights(self):
        """Weight of each loss term by task."""
        return {
            "binary": self.binary_loss_weight,
            "open_ended": self.open_ended_loss_weight,
            "question_type": self.question_type_loss_weight,
        }


DualVQAConfig.register_for_auto_class()

__all__ = ["DualVQAConfig", "TorchvisionEncoderConfig"]
