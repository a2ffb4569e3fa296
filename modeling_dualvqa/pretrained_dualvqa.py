"""How a DualVQA model starts, is loaded whole or not at all, and is saved with its card."""

import contextlib
import math
import os

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .configuration_dualvqa import DualVQAConfig
from .encoders_dualvqa import TorchvisionEncoder, tell_kept_attention
from .familiarity_dualvqa import TOWERS, Familiarity, TowerFamiliarity
from .handler_dualvqa import write_handler
from .memory_dualvqa import Memory
from .memory_examples_dualvqa import check_weights, in_half_precision, same_weights, weights_digest
from .memory_texts_dualvqa import FILE as TEXTS_FILE
from .memory_texts_dualvqa import read_texts, with_digest, write_texts
from .model_card_dualvqa import card_tags, write_model_card
from .weights_dualvqa import check_names, check_shapes

logger = logging.get_logger(__name__)

AUTO_CLASSES = ("AutoModel", "AutoModelForVisualQuestionAnswering")  # that load a saved folder


@contextlib.contextmanager
def undecorated(model):
    """Gives back the class that FSDP2 has replaced by one of its own: a saved folder has the code of that class."""
    kind = type(model)
    model.__class__ = next(base for base in kind.__mro__ if base.__name__ == kind.__name__.removeprefix("FSDP"))
    try:
        yield
    finally:
        model.__class__ = kind


class DualVQAPreTrainedModel(PreTrainedModel):
    """How models of DualVQA are initialised, loaded, saved and pushed: everything of them that is transformers' own."""

    config_class = DualVQAConfig
    base_model_prefix = "dualvqa"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _keys_to_ignore_on_load_unexpected = [r"^auxiliary_heads\."]  # of checkpoints: only training has them
    # What has a residual connection inside stays on one device: DistilBERT's and our blocks, and torchvision's.
    _no_split_modules = [
        "TransformerBlock",
        "AttentionBlock",
        "InvertedResidual",
        "BasicBlock",
        "Bottleneck",
        "MBConv",
        "CNBlock",
        "SwinTransformerBlock",
    ]

    @property
    def is_gradient_checkpointing(self):
        """As in transformers 5.23, without its warning of the name: PEFT asks by it, which no user can change."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def set_attn_implementation(self, attn_implementation, **kwargs):
        """As in transformers, and a name for the whole model leaves a tower as it is that has no such attention.

        A tower that is named itself, `{"vision_config": "sdpa"}`, raises a ValueError then, as in transformers.
        """
        towers = {"vision_config": self.vision_encoder, "text_config": self.text_encoder}
        wanted = attn_implementation
        if isinstance(wanted, str) and wanted == "sdpa":
            attn_implementation = {"": wanted, **dict.fromkeys(towers, wanted)}
            for key, encoder in towers.items():
                tower = getattr(encoder, "model", None)  # torchvision's have none
                if tower is not None and not tower._supports_sdpa:
                    attn_implementation[key] = tower.config._attn_implementation
                    tell_kept_attention(type(tower).__name__, attn_implementation[key], wanted)
        super().set_attn_implementation(attn_implementation, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        """Starts convolutions as torchvision does, the rest as transformers does. Loaded tensors are left alone."""
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # He et al. 2015
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (Familiarity, TowerFamiliarity, Memory)):
            for buffer in module.buffers():
                init.zeros_(buffer)
        else:
            super()._init_weights(module)

    def initialize_weights(self):
        """As in transformers, and then what no rule for a layer covers."""
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, TorchvisionEncoder):
                module.reset_bare_tensors()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info=False, **kwargs):
        """As in transformers, but weights that lack tensors of the model, or have others, are refused.

        With `output_loading_info` they are loaded, and what came back says which: for those who look at it.

        Raises:
            OSError: the weights file is damaged.
            ValueError: tensors are missing, have no place, or have other shapes, unless `ignore_mismatched_sizes`.
        """
        ignored = kwargs.pop("ignore_mismatched_sizes", False)
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path,
                *args,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # for transformers to say which they are
                **kwargs,
            )
        except SafetensorError as error:
            raise OSError(
                f"the weights of {pretrained_model_name_or_path} are damaged or incomplete ({error}); copy the folder "
                f"again, or download it again with force_download=True"
            ) from error
        if not ignored:
            check_shapes(pretrained_model_name_or_path, info["mismatched_keys"])
        if model.memory is not None:
            model.check_memory(pretrained_model_name_or_path)
            model.memory.texts = read_texts(pretrained_model_name_or_path, model.memory.settings, kwargs)
        if output_loading_info:
            return model, info
        if kwargs.get("state_dict") != {}:  # with none at all everything is to start anew
            advice = (
                "Load the folder as it was saved and change the model then, or copy the folder again where files are "
                "lost; output_loading_info=True loads what there is, and says what isn't"
            )
            check_names(pretrained_model_name_or_path, info["missing_keys"], info["unexpected_keys"], advice)
        return model

    def check_memory(self, source):
        """Refuses a memory that the weights it came with didn't make.

        Raises:
            ValueError: as said.
        """
        try:
            check_weights(self.memory, self)
        except ValueError as error:
            raise ValueError(f"{source} was saved with a memory that isn't the model's: {error}") from error

    def save_pretrained(self, save_directory, is_main_process=True, save_original_format=False, **kwargs):
        """As in transformers, and the model card: see `model_card_dualvqa`.

        The weights keep the model's own names. Under those that a tower's first version had (`save_original_format`)
        only `from_pretrained` finds them again, and no Trainer that resumes or takes up its best checkpoint.
        """
        # Loading sets the sub-configurations' dtype too; set here, a folder loaded and saved again is the same folder.
        for config in (self.config.vision_config, self.config.text_config):
            config.dtype = self.dtype
        kwargs["save_original_format"] = save_original_format
        self.record_tags(self.model_tags or [])
        if self.memory is not None and not same_weights(self.memory, self):
            logger.warning("the memory is not saved: it is of the weights before they were changed; make it anew")
            self.forget_memory()
        if self.memory is not None:
            settings = with_digest(self.memory.settings, self.memory.texts)
            if self.dtype == torch.float16:  # the folder's weights are rounded ones, whatever they are loaded as
                settings["weights"] = weights_digest(self, as_saved=True)
            self.memory.settings = self.config.memory = settings
        if self.memory is not None or isinstance(self.config.familiarity, dict):
            kept = "memory.", *(f"familiarity.{tower}." for tower in TOWERS)
            kwargs["state_dict"] = in_half_precision(kwargs.get("state_dict") or self.state_dict(), kept)
        with undecorated(self):
            # transformers enters the one Auto class that it copies the code for; others need no more than an entry.
            code = f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"
            entries = dict.fromkeys(AUTO_CLASSES, code)
            self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **entries}
            super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process and os.path.isfile(os.path.join(save_directory, "config.json")):  # none beside an adapter
            write_handler(save_directory)
            write_model_card(save_directory, self.config, self.parameter_counts())
            write_texts(save_directory, self.memory)

    def _upload_modified_files(self, working_dir, repo_id, files_timestamps, *args, **kwargs):
        """The last step of every push: the card that goes to the Hub knows where it goes.

        The texts of the memory stay where they are, unless `model.memory.push_texts` is True.
        """
        if self.memory is None or not self.memory.push_texts:
            files_timestamps = {**files_timestamps, TEXTS_FILE: math.inf}  # not modified since: left out
        if os.path.isfile(os.path.join(working_dir, "config.json")):
            self.record_tags(card_tags(working_dir))  # of the Hub's card and of this push
            self.config.model_card = {**(self.config.model_card or {}), "repo_id": repo_id}
            self.config.save_pretrained(working_dir)
            write_model_card(working_dir, self.config, self.parameter_counts())
        return super()._upload_modified_files(working_dir, repo_id, files_timestamps, *args, **kwargs)

    def record_tags(self, tags):
        """Keeps tags that a person gave in the configuration, for this model's cards."""
        known = (self.config.model_card or {}).get("tags") or []
        if set(tags) - set(known):
            tags = list(dict.fromkeys([*known, *tags]))
            self.config.model_card = {**(self.config.model_card or {}), "tags": tags}

    def parameter_counts(self):
        """Number of parameters by part, in order, and their total; without parts that have none, as a memory."""
        # ds_numel: what DeepSpeed has spread over several processes counts as a whole.
        sizes = {
            name: sum(getattr(p, "ds_numel", p.numel()) for p in part.parameters())
            for name, part in self.named_children()
        }
        return {**{name: size for name, size in sizes.items() if size}, "total": sum(sizes.values())}
