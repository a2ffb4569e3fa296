"""What DeepSpeed and FSDP, which spread a model over processes, can't do."""


def check_sharding(trainer):
    """Refuses it before anything is trained.

    Raises:
        ValueError: as said.
    """
    args = trainer.args
    if trainer.is_deepspeed_enabled and trainer.criterion.task_weighting.reads_fused_state:
        raise ValueError(
            f"task_weighting {args.task_weighting} needs a backward pass through the heads alone, which DeepSpeed "
            f"doesn't have; use another weighting, or DDP or FSDP"
        )
    if args.average_checkpoints and (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):
        raise ValueError("average_checkpoints works on one device or with DDP, not with DeepSpeed or FSDP")
    if args.average_checkpoints and getattr(trainer.model, "peft_config", None):
        raise ValueError("average_checkpoints takes the weights of whole models, found adapters (PEFT): leave it out")
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if trainer.is_fsdp_enabled and "FULL" not in str(plugin.state_dict_type):
        raise ValueError(
            f"checkpoints are written and resumed with fsdp_state_dict_type FULL_STATE_DICT, found "
            f"{plugin.state_dict_type}: see launch/fsdp2.yaml"
        )
