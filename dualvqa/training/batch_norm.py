"""Batch norm in training, where it can't or mustn't take its statistics from the batch."""

import logging

from torch.nn.modules.batchnorm import _BatchNorm

from processing.wording import worded

logger = logging.getLogger(__name__)


def use_running_statistics(model):
    """Lets a batch norm in training take its running statistics where it gets one value of each channel.

    That is what the last batch of an epoch comes to that has a single image of 32 pixels, whose last feature maps have
    one. What is left of one value without its own mean is nothing, and torch stops the run there with an error.

    With adapters (PEFT) those whose parameters are frozen do so always: an adapter is saved without the statistics, and
    the model that it is loaded into would not be the one that was trained.

    Returns:
        A function that takes this back.
    """
    held, warned, adapters = set(), [], bool(getattr(model, "peft_config", None))

    def before(module, inputs):
        values = inputs[0]
        single = values.numel() == values.shape[1]
        if module.training and (single or (adapters and not any(p.requires_grad for p in module.parameters()))):
            if single and not warned:
                warned.append(True)
                logger.warning(
                    "a training batch has a single image, and its feature maps are of one pixel: batch norms take "
                    "their running statistics for such a batch. Larger images, %s",
                    worded(
                        "more images in a batch (--per_device_train_batch_size), or --dataloader_drop_last true for "
                        "the last one avoid that"
                    ),
                )
            held.add(module)
            module.training = False

    def after(module, inputs, output):
        if module in held:
            held.remove(module)
            module.training = True

    hooks = []
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after, always_call=True))

    def take_back():
        for hook in hooks:
            hook.remove()

    return take_back
