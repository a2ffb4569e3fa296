"""The optimizer of a run, with a learning rate for each tower and one for the rest."""


def build_optimizer(trainer, model):
    """The optimizer that the arguments of a Trainer name; each of its groups has the `part` that it is of.

    Args:
        trainer: for its arguments, and for what it leaves without weight decay.
        model: whose parameters are trained where they are not frozen.
    """
    args = trainer.args
    rates = {
        "vision_encoder": ("vision_", args.vision_learning_rate),
        "text_encoder": ("text_", args.text_learning_rate),
    }
    decayed = set(trainer.get_decay_parameter_names(model))
    groups = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, rate = next((found for tower, found in rates.items() if tower in name.split(".")), ("", None))
        rate = args.learning_rate if rate is None else rate
        decay = args.weight_decay if name in decayed else 0.0
        group = {"params": [], "part": part, "lr": rate, "weight_decay": decay}
        groups.setdefault((part, decay), group)["params"].append(parameter)
    optimizer_class, options = trainer.get_optimizer_cls_and_kwargs(args, model)
    return optimizer_class(list(groups.values()), **options)
