"""DualVQA: two towers, one fusion, a yes/no head and an open-ended head, and a router that chooses between them."""

import contextlib

import torch
from torch import nn
from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import logging

from .encoders_dualvqa import (
    TextEncoder,
    TowerOutput,
    build_vision_encoder,
    given,
    is_torchvision_name,
    load_torchvision_weights,
)
from .familiarity_dualvqa import build_familiarity, novelties
from .feed_forward_dualvqa import load_balancing_loss
from .fusion_dualvqa import build_fusion, masked_mean
from .loss_dualvqa import dual_head_loss
from .memory_dualvqa import Memory
from .memory_examples_dualvqa import check_weights
from .output_dualvqa import DualVQAOutput
from .pipeline_dualvqa import DualVQAPipeline
from .pretrained_dualvqa import AUTO_CLASSES, DualVQAPreTrainedModel
from .weights_dualvqa import load_tower, vision_text_config

logger = logging.get_logger(__name__)


class AnswerHead(nn.Sequential):
    """Linear, LayerNorm, GELU, Dropout for each hidden width, then a linear layer to the answers."""

    def __init__(self, config, hidden_sizes, num_labels):
        layers, width = [], config.fusion_hidden_size
        for size in hidden_sizes:
            layers += [
                nn.Linear(width, size),
                nn.LayerNorm(size, eps=config.layer_norm_eps),
                nn.GELU(),
                nn.Dropout(config.head_dropout),
            ]
            width = size
        super().__init__(*layers, nn.Linear(width, num_labels))


class DualVQAForQuestionAnswering(DualVQAPreTrainedModel):
    """Answers questions about images by classification, with one head per question type.

    The configuration alone decides what is built; `from_vision_text_pretrained` starts from pretrained towers.

    transformers' own Trainer takes the names of the labels from this class, and evaluates a batch that lacks one of
    them without a loss. A model with one head needs no more than its own: for batches that have these alone give
    `TrainingArguments(label_names=["binary_labels"])`, or `["open_ended_labels"]`. [`DualVQATrainer`] asks the heads.
    """

    def __init__(self, config):
        super().__init__(config)
        self.vision_encoder = build_vision_encoder(config.vision_config)
        self.text_encoder = TextEncoder(config.text_config)
        self.visual_projection = nn.Linear(self.vision_encoder.hidden_size, config.fusion_hidden_size)
        self.text_projection = nn.Linear(self.text_encoder.hidden_size, config.fusion_hidden_size)
        self.fusion = build_fusion(config)
        self.binary_head = self.open_ended_head = self.question_type_head = None
        if "binary" in config.heads:
            self.binary_head = AnswerHead(config, config.binary_head_sizes, 2)
        if "open_ended" in config.heads:
            self.open_ended_head = AnswerHead(config, config.open_ended_head_sizes, config.num_answers)
        if len(config.heads) == 2:
            self.question_type_head = nn.Linear(self.text_encoder.hidden_size, 2)
        self.familiarity = build_familiarity(config.familiarity, config.fusion_hidden_size)
        self.memory = Memory(config.memory) if config.memory else None
        self.post_init()
        present = {type(module).__name__ for module in self.modules()}  # FSDP refuses the names of classes that aren't
        self._no_split_modules = [name for name in self._no_split_modules if name in present]
        self.freeze_encoders(vision=config.freeze_vision, text=config.freeze_text)

    def get_input_embeddings(self):
        return self.text_encoder.model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.text_encoder.model.set_input_embeddings(value)

    def enable_input_require_grads(self):
        """As in transformers 5.23, and where embeddings give more than a tensor (Swin: sizes) too."""

        def require_grads(module, inputs, output):
            (output[0] if isinstance(output, tuple) else output).requires_grad_(True)

        towers = (getattr(encoder, "model", None) for encoder in (self.text_encoder, self.vision_encoder))
        self._require_grads_hooks = []
        for tower in towers:
            with contextlib.suppress(NotImplementedError, AttributeError):  # torchvision's and convolutional ones
                hook = tower.get_input_embeddings().register_forward_hook(require_grads)
                self._require_grads_hooks.append(hook)
        self._require_grads_hook = self._require_grads_hooks[0]

    @classmethod
    def from_vision_text_pretrained(cls, vision=None, text=None, vision_weights=None, **overrides):
        """Builds a model with pretrained towers and a new fusion and new heads.

        Args:
            vision: a torchvision classifier's name ("mobilenet_v3_small", with its ImageNet weights), or a
                transformers vision model or DualVQA model: Hub id or local folder. A new tower when left out.
            text: a transformers text encoder or DualVQA model: Hub id or local folder. A new tower when left out.
            vision_weights: file with the torchvision classifier's state dict, in place of the download.
            **overrides: fields of [`DualVQAConfig`]. `vision_config` and `text_config` are dicts here; their fields
                replace those of the pretrained tower's configuration.

        Raises:
            ValueError: the weights don't fit the tower.
            OSError: no such Hub id or folder.
        """
        model = cls(vision_text_config(vision, text, **overrides))
        if vision is not None and is_torchvision_name(vision):
            load_torchvision_weights(model.vision_encoder, vision_weights)
        elif vision is not None:
            load_tower(vision, "vision_encoder", model)
        if text is not None:
            load_tower(text, "text_encoder", model)
        return model

    def reset_open_ended_head(self, num_answers):
        """Replaces the open-ended head by a new one for another vocabulary; everything else keeps its weights.

        Raises:
            ValueError: the model has no open-ended head.
        """
        if self.open_ended_head is None:
            raise ValueError(f"a model with heads={self.config.heads} has no open-ended head to replace")
        self.forget_memory()
        self.config.num_answers = num_answers
        head = AnswerHead(self.config, self.config.open_ended_head_sizes, num_answers)
        self.open_ended_head = head.apply(self._initialize_weights).to(self.device, self.dtype)

    def set_familiarity(self, familiarity):
        """Lets the model say how far images and questions are from those of training; it is saved with the weights.

        Args:
            familiarity: a `TowersFamiliarity`, see `dualvqa.trust.familiarity.fit_towers`.
        """
        self.config.familiarity = familiarity.settings
        self.familiarity = familiarity.to(self.device)

    def forget_familiarity(self):
        """Undoes `set_familiarity`: after more training the states are others."""
        self.config.familiarity, self.familiarity = False, None

    def set_memory(self, memory):
        """Lets examples that are like a question answer beside the heads, in evaluation mode; it is saved with the
        weights. The processor's `memory_answers` must be those that the memory's indices mean.

        Args:
            memory: a [`Memory`], see `Memory.of`.

        Raises:
            ValueError: it was made with other weights, or by a model of other widths.
        """
        check_weights(memory, self)
        self.memory, self.config.memory = memory.to(self.device), memory.settings

    def forget_memory(self):
        """Undoes `set_memory`: after more training the states are others."""
        self.config.memory, self.memory = None, None

    def freeze_encoders(self, vision=True, text=True):
        """Freezes (True) or thaws (False) each tower: no gradients, and no moving statistics or dropout in training.

        The choice is kept in the configuration, so a saved model comes back frozen.
        """
        self.config.freeze_vision, self.config.freeze_text = vision, text
        self.vision_encoder.requires_grad_(True)
        self.text_encoder.requires_grad_(True)
        self.train(self.training)

    def train(self, mode=True):
        """As in torch, but frozen towers stay in evaluation mode.

        They are frozen here and not once for all, because `from_pretrained` makes new parameters and ends in `eval()`.
        """
        super().train(mode)
        for tower, frozen in (
            (self.vision_encoder, self.config.freeze_vision),
            (self.text_encoder, self.config.freeze_text),
        ):
            if frozen:
                tower.eval().requires_grad_(False)
        return self

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        question_index: torch.LongTensor | None = None,
        image_embeds: torch.FloatTensor | None = None,
        text_embeds: torch.FloatTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        binary_labels: torch.LongTensor | None = None,
        open_ended_labels: torch.LongTensor | None = None,
        question_type_labels: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> tuple | DualVQAOutput:
        """
        Args:
            input_ids, attention_mask: (V, T) the questions.
            pixel_values: (U, 3, H, W) each different image once.
            image_index: (B,) which image each question is about; 0..B-1 when left out.
            question_index: (B,) which question is asked in each row; 0..B-1 when left out.
            image_embeds, text_embeds: as in [`DualVQAOutput`], in place of pixels and ids; pooled vectors may come as
                (U, C_vision) and (V, C_text).
            token_type_ids: (V, T) as a tokenizer gives them; ignored by a text tower that has no such types.
            inputs_embeds: (V, T, C) the embeddings of tokens, in place of `input_ids`.
            binary_labels: (B,) 0 no, 1 yes, -100 not a yes/no question; or (B, 2) each one's share, see SoftLabels.
            open_ended_labels: (B,) index in the vocabulary, or -100; or (B, N) how right each answer is, or -100.
            question_type_labels: (B,) 0 yes/no, 1 open-ended.
            output_attentions, output_hidden_states, return_dict: as in transformers; the configuration's when left out.
                A number or a list of them for `output_hidden_states` chooses layers; the others are None.

        Raises:
            ValueError: neither or both of an input and its embedding, pooled vectors for a fusion that reads
                sequences, or image and question counts that don't match.
        """
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions and self.config._attn_implementation != "eager":
            logger.warning_once(
                f"{self.config._attn_implementation} attention gives no attention weights, so the output has none: "
                f"give attn_implementation='eager' to from_pretrained, or call model.set_attn_implementation('eager')"
            )
        if input_ids is not None and inputs_embeds is not None:
            raise ValueError("give exactly one of input_ids and inputs_embeds; found both")
        wanted = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        image = self.encode("pixel_values", pixel_values, image_embeds, **wanted)
        tokens = inputs_embeds if input_ids is None else input_ids
        masks = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        text = self.encode("input_ids", tokens, text_embeds, **masks, **wanted)
        logits, fusion = self.fuse_and_answer(image.states, text.states, attention_mask, image_index, question_index)
        balance = None
        if self.config.fusion_num_experts:
            balance = load_balancing_loss(fusion.expert_logits, self.config.fusion_experts_per_question)
        labels = {
            "binary": binary_labels,
            "open_ended": open_ended_labels,
            "question_type": question_type_labels,
        }
        loss = None
        if any(label is not None for label in labels.values()):
            loss, _ = dual_head_loss(logits, labels, self.config.loss_weights, gamma=self.config.focal_gamma)
            loss = loss if balance is None else loss + self.config.load_balancing_loss_weight * balance
        found, mixture, states = None, None, (text.states, image.states)
        if self.memory is not None and not self.training:
            logits, found, mixture = self.memory(logits, *states, attention_mask, image_index, question_index)
        output = DualVQAOutput(
            loss=loss,
            **{f"{task}_logits": scores for task, scores in logits.items()},
            **novelties(self.familiarity, fusion.state, *states, attention_mask, image_index, question_index),
            memory_indices=None if found is None else found.indices,
            memory_weights=None if found is None else mixture.weights,
            memory_similarities=None if found is None else mixture.similarities,
            memory_share=None if found is None else mixture.share,
            fused_state=fusion.state,
            image_embeds=image.states,
            text_embeds=text.states,
            fusion_gates=fusion.gates,
            expert_logits=fusion.expert_logits if self.config.fusion_num_experts else None,
            load_balancing_loss=balance,
            fusion_attentions=(given(fusion.attentions) or ()) if output_attentions else None,
            text_attentions=text.attentions,
            image_attentions=image.attentions,
            fusion_hidden_states=(
                (given(fusion.hidden_states, output_hidden_states) or ()) if output_hidden_states else None
            ),
            text_hidden_states=text.hidden_states,
            image_hidden_states=image.hidden_states,
        )
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def encode_images(self, pixel_values):
        """The `image_embeds` of [`DualVQAOutput`] for (U, 3, H, W) pixels, to be asked about as often as wanted."""
        return self.encode("pixel_values", pixel_values, None).states

    def encode_questions(self, input_ids, attention_mask=None, token_type_ids=None):
        """The `text_embeds` of [`DualVQAOutput`] for (V, T) token ids."""
        masks = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.encode("input_ids", input_ids, None, **masks).states

    def answer(self, image_embeds, text_embeds, attention_mask=None, image_index=None, question_index=None, **kwargs):
        """[`DualVQAOutput`] from what `encode_images` and `encode_questions` gave; no tower is run.

        Args:
            image_embeds: (U, 1 + S, C_vision), or (U, 1, C_vision) where the fusion reads pooled vectors.
            text_embeds: (V, T, C_text), or (V, 1, C_text) likewise.
            attention_mask: (V, T), 0 where a question is padded; not needed for pooled vectors.
            image_index, question_index: (B,) as in `forward`. For every question about every image:
                `torch.arange(U).repeat_interleave(V)` and `torch.arange(V).repeat(U)`.
            **kwargs: as in `forward`.
        """
        return self(
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            attention_mask=attention_mask,
            image_index=image_index,
            question_index=question_index,
            **kwargs,
        )

    def fuse_and_answer(self, image_states, text_states, attention_mask=None, image_index=None, question_index=None):
        """Everything behind the towers: logits by head, and what the fusion gives."""
        images = (image_states if image_index is None else image_index).shape[0]  # len() would fix it in an export
        questions = (text_states if question_index is None else question_index).shape[0]
        if images != questions:
            raise ValueError(
                f"{questions} questions and {images} images: give image_index (B,), the image of each question, or one "
                f"image per question; and question_index (B,) where a question is asked several times"
            )
        # Projected first and then repeated: each different image and question costs once.
        vision = repeat_rows(self.visual_projection(image_states), image_index)  # (B, 1 + S, D)
        text = repeat_rows(self.text_projection(text_states), question_index)  # (B, T, D)
        mask = repeat_rows(attention_mask, question_index) if self.fusion.uses_sequences else None
        fusion = self.fusion(vision, text, mask)
        fused = fusion.state  # (B, D)
        logits = {
            "binary": self.binary_head(fused) if self.binary_head is not None else None,
            "open_ended": self.open_ended_head(fused) if self.open_ended_head is not None else None,
            "question_type": None,
        }
        if self.question_type_head is not None:
            logits["question_type"] = repeat_rows(self.question_type_head(text_states[:, 0]), question_index)
        return logits, fusion

    def encode(self, name, inputs, embeds, **options):
        """[`TowerOutput`] of one tower, from its inputs or from embeddings computed before, as the fusion reads it."""
        if (inputs is None) == (embeds is None):
            found = "neither" if inputs is None else "both"
            other = {"pixel_values": "image_embeds", "input_ids": "text_embeds"}[name]
            raise ValueError(f"give exactly one of {name} and {other}; found {found}")
        if embeds is not None:
            tower = TowerOutput(self.check_embeds(name, embeds))
        elif name == "pixel_values":
            try:
                tower = self.vision_encoder(inputs.to(self.dtype), **options)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise ValueError(
                    f"pixel_values {tuple(inputs.shape)} is one image whose feature maps come down to one pixel, and "
                    f"batch norm in training needs more: give several or larger images, call model.eval(), or freeze "
                    f"the vision tower"
                ) from error
        else:
            tower = self.text_encoder(inputs, **options)
        if self.fusion.uses_sequences:
            return tower
        mean = name == "input_ids" and self.config.text_pooling == "mean" and tower.states.shape[1] > 1
        states = masked_mean(tower.states, options.get("attention_mask"))[:, None] if mean else tower.states[:, :1]
        return tower._replace(states=states)

    def check_embeds(self, name, embeds):
        if embeds.ndim == 2:
            embeds = embeds[:, None]  # (N, 1, C)
        if self.fusion.uses_sequences and embeds.shape[1] == 1:
            raise ValueError(
                f"the {self.config.fusion_type} fusion reads sequences (N, 1 + S, C), found pooled vectors of shape "
                f"{tuple(embeds.shape)} in place of {name}; encode with this model's own towers"
            )
        return embeds.to(self.dtype)


def repeat_rows(tensor, index):
    """The rows of `tensor` that `index` (B,) names; all of them in order without one."""
    return tensor if index is None or tensor is None else tensor.index_select(0, index)


DualVQAForQuestionAnswering.register_for_auto_class(AUTO_CLASSES[0])

# pipeline("visual-question-answering", ...) finds its code through the path of a saved folder. For a model instance
# transformers looks only here, and refuses that name before it does.
if "dualvqa" not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline("dualvqa", pipeline_class=DualVQAPipeline, pt_model=AutoModel)

__all__ = ["DualVQAForQuestionAnswering", "DualVQAOutput", "DualVQAPreTrainedModel"]
