"""Batch norms of a vision tower folded into the convolutions before them: the same numbers in less time."""

import copy
from collections import Counter

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(tower):
    """Puts each batch norm of a tower into the convolution that it follows, whose weights become channels last.

    Which one follows which is seen while an image goes through: the order in which a network names its layers is not
    always that of computation. A tower that gives something else afterwards, such as one that needs a convolution's
    maps as they were too, keeps its batch norms.

    Args:
        tower: in evaluation mode; it is changed. Its weights may be shared with another tower, and stay as they are.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in tower.modules()):
        return
    pixels = example(tower)
    with torch.no_grad():
        pairs, expected = followers(tower, pixels)
        before = [(module, dict(module._parameters), dict(module._modules)) for module in tower.modules()]
        for convolution, norm in pairs:
            fold(convolution, norm)
        replaced = {norm: what_is_left(norm) for _, norm in pairs}
        for module, _, children in before:
            for name, child in children.items():
                if child in replaced:
                    setattr(module, name, replaced[child])
        found = tower(pixels).states
        rounding = max(1e-3, 16 * torch.finfo(expected.dtype).eps)
        if not torch.allclose(found, expected, rtol=rounding, atol=rounding * float(expected.abs().max())):
            for module, parameters, children in before:
                module._parameters.update(parameters)
                module._modules.update(children)


def folded(tower):
    """Another tower with the batch norms of this one folded; the weights of all other layers are shared."""
    memo = {id(parameter): parameter for parameter in (*tower.parameters(), *tower.buffers())}
    twin = copy.deepcopy(tower, memo)
    fold_batch_norms(twin)
    return twin


def example(tower):
    """Noise (1, 3, H, W) of the size and kind that a tower takes."""
    size = getattr(getattr(tower, "config", None) or tower.model.config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    weight = next(tower.parameters())
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return noise.to(weight.device, weight.dtype)


def followers(tower, pixels):
    """(convolution, batch norm) where the one's output is the other's input, and the tower's states."""
    made, pairs, hooks = {}, [], []

    def keep(convolution, _, output):
        made[id(output)] = convolution, output  # the output too: while it is there, its id is no other's

    def look(norm, inputs):
        convolution, _ = made.get(id(inputs[0]), (None, None))
        if convolution is not None:
            pairs.append((convolution, norm))

    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(keep))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_pre_hook(look))
    try:
        states = tower(pixels).states
    finally:
        for hook in hooks:
            hook.remove()
    used = Counter(part for pair in pairs for part in pair)
    return [pair for pair in pairs if max(used[part] for part in pair) == 1], states


def fold(convolution, norm):
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)


def what_is_left(norm):
    """What a batch norm does besides: those of timm have the activation in them."""
    return nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))
