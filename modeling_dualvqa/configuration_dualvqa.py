"""Configuration of DualVQA: one nested configuration per tower, and the fusion and heads on top."""

import dataclasses
import inspect

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, GenerationConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .values_dualvqa import checked, hint, refuse_unknown, within

HEADS = ("binary", "open_ended")
POOLINGS = ("mean", "product")
TEXT_POOLINGS = ("first", "mean")

# What transformers' configurations take beside their fields.
TAKEN = {"model_type", "torch_dtype", "attn_implementation", "output_attentions", "experts_implementation"}
TAKEN |= {"num_labels", "name_or_path", "auto_map", "custom_pipelines", "per_layer_config", "tokenizer_class"}

# Ranges of the fields of a tower by the end of their names.
TOWER_LIMITS = {
    ">= 0, < 1": ("dropout", "_prob", "drop_path_rate"),
    ">= 0": ("initializer_range",),
    "> 0": ("_eps", "epsilon"),
    ">= 1": ("_size", "_heads", "dim", "_positions", "_embeddings", "channels"),
    ">= 1, <= 1000": ("_layers",),
}


TASK, SHORT_TASK = "visual-question-answering", "vqa"


class Pipelines(dict):
    """The pipelines of a saved folder by task. Ours left transformers in version 5; its entry brings it back.

    It is found under its short name too, but listed once: of several transformers chooses none when no task is given.
    """

    def __init__(self, others):
        super().__init__({task: entry for task, entry in others.items() if task != SHORT_TASK})
        self.setdefault(TASK, {"impl": "pipeline_dualvqa.DualVQAPipeline", "pt": ["AutoModel"], "type": "multimodal"})

    def __contains__(self, task):
        return super().__contains__(TASK if task == SHORT_TASK else task)

    def __missing__(self, task):
        if task != SHORT_TASK:
            raise KeyError(task)
        return self[TASK]


class CheckedConfig(PreTrainedConfig):
    """A configuration whose fields have the types they are declared with, and keep to `limits`."""

    limits = {}

    def __setattr__(self, name, value):
        field = type(self).__dataclass_fields__.get(name)
        if field is not None:
            value = checked(name, value, field.type, self.limits.get(name))
        try:
            super().__setattr__(name, value)
        except StrictDataclassError as error:
            raise ValueError(" ".join(str(error).split())) from error

    def __post_init__(self, **kwargs):
        # The file of a saved configuration, which says what wrote it, may have fields of another version.
        if self.transformers_version is None:
            given = [name for name in kwargs if not name.startswith("_")]
            refuse_unknown(given, known_names(type(self)), type(self).__name__)
        try:
            super().__post_init__(**kwargs)
        except (AttributeError, KeyError, TypeError) as error:  # what transformers says of its own fields
            raise ValueError(f"{type(self).__name__}: {' '.join(str(error).split())}") from error


def defaults_of(config_class):
    """The values of a configuration that is given nothing; none of a class that needs something."""
    try:
        return config_class().to_dict()
    except (TypeError, ValueError, ImportError):
        return {}


def known_names(config_class):
    """What a configuration class can be given."""
    names = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map) | TAKEN
    names |= set(inspect.signature(config_class.__init__).parameters) - {"self", "args", "kwargs"}
    return names | set(GenerationConfig._get_default_generation_params())


def tower_fields(name, config_class, fields, saved=False):
    """The fields of a tower's configuration, brought to their types.

    Args:
        name: "vision_config" or "text_config", for messages.
        config_class: the tower's.
        fields: a dict.
        saved: whether they come from a file, which may also have what older and newer versions write.

    Raises:
        ValueError: a name that the class doesn't have, or a value that doesn't fit.
    """
    declared = {field.name: field.type for field in dataclasses.fields(config_class)}
    defaults = {} if saved else defaults_of(config_class)
    if not saved:
        refuse_unknown(fields, known_names(config_class) | set(defaults), name)
    found = {}
    for key, value in fields.items():
        field = config_class.attribute_map.get(key, key)
        if field in declared:
            limits = None if saved else tower_limits(config_class, field, defaults.get(field))
            value = checked(f"{name}.{key}", value, declared[field], limits)
        found[key] = value
    return found


def tower_limits(config_class, field, default):
    """The range of a tower's field: its own, or what its name implies, if the default keeps to it."""
    if issubclass(config_class, CheckedConfig):
        return config_class.limits.get(field)
    limits = next((limits for limits, endings in TOWER_LIMITS.items() if field.endswith(endings)), None)
    return limits if within(default, limits) else None


def build_tower_config(name, fields, default_type, saved):
    """The configuration of a tower from a dict; see `tower_fields`."""
    model_type = checked(f"{name}.model_type", fields.get("model_type", default_type), str)
    config_class = TorchvisionEncoderConfig
    if model_type != TorchvisionEncoderConfig.model_type:
        if model_type not in CONFIG_MAPPING:
            raise ValueError(
                f"{name}.model_type must be {TorchvisionEncoderConfig.model_type} or one of transformers' model types; "
                f"found {model_type!r}{hint(str(model_type), list(CONFIG_MAPPING))}"
            )
        config_class = CONFIG_MAPPING[model_type]
    fields = tower_fields(name, config_class, {k: v for k, v in fields.items() if k != "model_type"}, saved)
    later = {}
    if saved and issubclass(config_class, CheckedConfig):
        later = {key: fields.pop(key) for key in set(fields) - known_names(config_class)}
    try:
        config = config_class(**fields)
        for key, value in later.items():
            setattr(config, key, value)
        return config
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except (StrictDataclassError, TypeError, AttributeError, KeyError, ImportError) as error:
        raise ValueError(f"{name} can't be a {config_class.__name__}: {' '.join(str(error).split())}") from error


class TorchvisionEncoderConfig(CheckedConfig):
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

    limits = {"image_size": ">= 1, <= 16384", "hidden_size": ">= 1", "batch_norm_momentum": "> 0, <= 1"}


class DualVQAConfig(CheckedConfig):
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
        familiarity: sizes of what the model has learned of its training states, by "image" and "question", see
            `familiarity_dualvqa.TowersFamiliarity`; true for the one Gaussian of earlier versions, false for nothing.
        memory: sizes and parameters of the memory of answered questions that the model has, see
            `memory_examples_dualvqa`; None without one.
        layer_norm_eps: epsilon of the layer norms of fusion and heads.
        initializer_range: standard deviation of the linear layers of fusion and heads at the start.
        model_card: what the README.md of a saved folder says of training and results; see `model_card_dualvqa`.

    Raises:
        ValueError: a field that doesn't exist, of the towers' too, or a value that isn't of its type or range (see
            `limits`); a width that the number of attention heads doesn't divide, experts in a fusion without blocks, or
            more of them per question than there are.
    """

    model_type = "dualvqa"
    # The Trainer keeps the logits of an evaluation, and not what is large and serves no metric.
    keys_to_ignore_at_inference = [
        "fused_state",
        "fusion_gates",
        "expert_logits",
        *(f"memory_{name}" for name in ("indices", "weights", "similarities", "share")),
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
    heads: list[str] | tuple[str, ...] = HEADS
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
    binary_head_sizes: list[int] | None = None
    open_ended_head_sizes: list[int] | None = None
    head_dropout: float = 0.3
    freeze_vision: bool = False
    freeze_text: bool = False
    focal_gamma: float = 2.5
    binary_loss_weight: float = 1.0
    open_ended_loss_weight: float = 1.0
    question_type_loss_weight: float = 0.1
    load_balancing_loss_weight: float = 0.01
    familiarity: bool | dict = False
    memory: dict | None = None
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    model_card: dict | None = None

    limits = {
        "num_answers": ">= 0",
        "heads": HEADS,
        "text_pooling": TEXT_POOLINGS,
        "fusion_hidden_size": ">= 1",
        "fusion_num_attention_heads": ">= 1",
        "fusion_intermediate_size": ">= 1",
        "fusion_num_layers": ">= 1, <= 1000",
        "fusion_dropout": ">= 0, < 1",
        "fusion_pooling": POOLINGS,
        "fusion_num_experts": ">= 0, <= 1000",
        "fusion_experts_per_question": ">= 1",
        "binary_head_sizes": ">= 1",
        "open_ended_head_sizes": ">= 1",
        "head_dropout": ">= 0, < 1",
        "focal_gamma": ">= 0",
        "binary_loss_weight": ">= 0",
        "open_ended_loss_weight": ">= 0",
        "question_type_loss_weight": ">= 0",
        "load_balancing_loss_weight": ">= 0",
        "layer_norm_eps": "> 0",
        "initializer_range": ">= 0",
    }

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "heads":  # their order means nothing, and everything else names them in this one
            found = [head for head in HEADS if head in self.heads]
            if not found or len(found) < len(self.heads):
                raise ValueError(f"heads must be one or both of {', '.join(HEADS)}, each once, found {list(value)}")
            self.__dict__["heads"] = found

    def __post_init__(self, **kwargs):
        for name, specification in self.sub_configs_defaults.items():
            fields = getattr(self, name)
            if isinstance(fields, dict):
                saved = self.transformers_version is not None
                setattr(self, name, build_tower_config(name, fields, specification.model_type, saved))
        width = self.fusion_hidden_size
        self.fusion_intermediate_size = self.fusion_intermediate_size or 2 * width
        if self.binary_head_sizes is None:
            self.binary_head_sizes = [width // 2, 64]
        if self.open_ended_head_sizes is None:
            self.open_ended_head_sizes = [width, width // 2]
        kwargs["custom_pipelines"] = Pipelines(kwargs.get("custom_pipelines") or {})
        super().__post_init__(**kwargs)
        if width % self.fusion_num_attention_heads:
            raise ValueError(
                f"fusion_hidden_size {width} is not divisible by fusion_num_attention_heads "
                f"{self.fusion_num_attention_heads}; choose a multiple"
            )
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

    def to_dict(self):
        """As in transformers; nothing about a memory that isn't there."""
        fields = super().to_dict()
        return {name: value for name, value in fields.items() if name != "memory" or value is not None}

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
