"""A run that diverges stops at the first loss, gradient or weight that is not finite, and what it had written stays."""

import math

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import TrainerCallback


class DivergedError(ValueError):
    """Training has diverged."""


def diverged(trainer, step, what):
    """The error of a run whose step led to something that is not finite."""
    good, last = trainer.last_checkpoint(trainer.proven), trainer.last_checkpoint()
    kept = f"The last good checkpoint is {good}: start a new run from it with --model_name_or_path, and" if good else ""
    if last and last != good:
        kept = f"{last} may be spoilt already: no step after it was finite. {kept}".rstrip()
    if not good:
        kept = f"{kept} Start again, and" if last else "No checkpoint was written yet: start again, and"
    return DivergedError(
        f"training diverged at step {step}: {what}. {kept} try a lower --learning_rate (it is "
        f"{trainer.args.learning_rate}), a longer --warmup_steps, or --bf16 in place of --fp16"
    )


class StopAtDivergence(TrainerCallback):
    """Looks at each step's loss and gradient before the weights change.

    Reading them waits for the device once a step. The Trainer's own filter of such losses, which is off, would wait
    for it in each micro-batch.
    """

    def __init__(self, trainer):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        trainer, scaler = self.trainer, getattr(self.trainer.accelerator, "scaler", None)
        problems = []
        loss = trainer._tr_loss.item()  # the sum since the last logging step: once it is nan it stays so
        if not math.isfinite(loss):
            problems.append(f"the loss is {loss}")
        norm = trainer.grad_norm
        norm = float(norm) if norm is not None and not trainer.is_deepspeed_enabled else 0.0
        # With fp16 the scaler skips such a step and halves its scale. Below 1 it isn't the scale that is too large.
        if not math.isfinite(norm) and (scaler is None or scaler.get_scale() < 1):
            problems.append(f"the norm of the gradient is {norm}")
        anywhere = trainer.over_processes(torch.tensor(float(len(problems)), device=args.device))
        if anywhere > 0:
            what = " and ".join(problems) or "the loss or the gradient of another process is not finite"
            raise diverged(trainer, state.global_step + 1, what)
        trainer.proven = list(trainer.written)  # what was written before this step led to a finite one


def check_finite(trainer):
    """Refuses to keep a model that a step with a finite loss and gradient has spoilt.

    While a run is at work its last batch shows whether finite weights have become too large to compute with.

    Raises:
        DivergedError: parameters, batch-norm statistics or outputs that are not finite.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    tensors = dict(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            tensors |= {f"{name}.running_mean": module.running_mean, f"{name}.running_var": module.running_var}
    tensors = {name: getattr(tensor, "_local_tensor", tensor) for name, tensor in tensors.items()}  # of a shard
    finite = {name: torch.isfinite(t).all() for name, t in tensors.items() if t.is_floating_point() and t.numel()}
    if finite and not torch.stack([flag.to(trainer.args.device) for flag in finite.values()]).all():
        bad = [name for name, flag in finite.items() if not flag]
        what = f"{len(bad)} of {len(finite)} tensors of the model are not finite, first {bad[0]}"
        raise diverged(trainer, trainer.state.global_step, what)
    if trainer.last_batch is not None:
        check_outputs(trainer, answers_of(trainer, trainer.last_batch))


@torch.no_grad()
def answers_of(trainer, batch):
    """Loss and outputs for a batch of training as in evaluation; nothing is counted."""
    model = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
    training, used = model.training, trainer.expert_use
    model.eval()
    trainer.expert_use = {}
    try:
        with trainer.compute_loss_context_manager():
            loss, outputs = trainer.compute_loss(model, trainer._prepare_inputs(batch), return_outputs=True)
    finally:
        model.train(training)
        trainer.expert_use, trainer.fused_state = used, None
    return [loss, *outputs.values()]


def check_outputs(trainer, outputs):
    """Refuses outputs of the model that is trained, or means of them, that are not finite.

    Args:
        outputs: tensors, arrays or numbers; what isn't one of floats is fine.

    Raises:
        DivergedError: in any of the processes.
    """
    tensors = [torch.as_tensor(found) for found in outputs if not isinstance(found, (tuple, type(None)))]
    bad = not all(bool(tensor.isfinite().all()) for tensor in tensors)
    if trainer.over_processes(torch.tensor(float(bad), device=trainer.args.device)) > 0:
        what = "the weights have become so large that the model's outputs are not finite"
        raise diverged(trainer, trainer.state.global_step, what)
