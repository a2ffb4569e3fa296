"""What the model of a fold was trained from and how, kept beside it: folds of another training are never taken up."""

import hashlib
import json
import logging
import math
import os
import re
import shutil

from dualvqa.training.checkpoints import architecture_of, flatten, read_json, refuse_differences
from dualvqa.training.teacher import checksum

logger = logging.getLogger(__name__)

NAME = "origin.json"
# Arguments that change where things are written, what is told and how fast, and not what is learned; and those of the
# size of a step, which may be cut in another way.
ANY_VALUE = re.compile(
    r"(logging|log|save|eval|hub|push|report|trackio|dataloader_(?!drop)|image_cache|ddp|do|skip|include)_.*|image_cache|"
    r"output_dir|run_name|project|disable_tqdm|re(sume|store)_.*|cache_embeddings|license|local_rank|debug|memory_texts|"
    r"load_best_model_at_end|metric_for_best_model|greater_is_better|early_stopping_patience|batch_eval_metrics|"
    r"prediction_loss_only|enable_jit_checkpoint|torch_empty_cache_steps|gradient_checkpointing.*|use_cpu|"
    r"per_device_.*|gradient_accumulation_steps|(bf16|fp16)_full_eval"
)
OF_DATA = ("split_seed", "min_answer_frequency", "target", "soft_score")


def origin_of(trainer, start):
    """What decides the outputs of all folds' models, as JSON keeps it.

    Weights count where they are known before: of a saved model all, else those of pretrained towers. What is drawn at
    random is of no account.

    Args:
        trainer: a `DualVQATrainer` that hasn't trained yet.
        start: the model as it starts.
    """
    processor, arguments = trainer.processing_class, trainer.args.to_dict()
    read = (processor.image_processor.to_json_string(), json.dumps(list(processor.answers)))
    rows = trainer.describe_rows()
    found = {
        "training questions": f"{rows['questions']} ({rows['digest']})",
        **{name: value for name, value in sorted(arguments.items()) if not ANY_VALUE.fullmatch(name)},
        **{name: getattr(trainer.data_args, name) for name in OF_DATA},
        "questions per step": math.prod(trainer.plan().values()),
        "image processor and answers": hashlib.sha256("\n".join(read).encode()).hexdigest()[:12],
        "trained parameters": sum(values.numel() for values in start.parameters() if values.requires_grad),
        "weights": {name: checksum(part.state_dict())[:12] for name, part in known_parts(start).items()},
        "config": architecture_of(start.config),
    }
    return flatten(json.loads(json.dumps(found, default=str)))


def known_parts(model):
    """The parts of a model that don't begin at random, by name."""
    start = getattr(model, "start", None)
    if getattr(start, "continued_from", None) or model.config.name_or_path:
        return {"model": model}
    towers = {"vision_encoder": getattr(start, "vision", None), "text_encoder": getattr(start, "text", None)}
    return {name: getattr(model, name) for name, source in towers.items() if source}


def take_up(folder, origin):
    """Looks at what an earlier run has left of a fold; what doesn't say where it comes from is done again.

    Raises:
        ValueError: it is of another training; the message says what differs.
    """
    if not os.path.isdir(folder):
        return
    saved = read_json(folder, NAME)
    if saved:
        refuse_differences(folder, saved, origin, "another training")
    elif os.listdir(folder):
        logger.warning("%s doesn't say what training it is from, and is done again", folder)
        shutil.rmtree(folder, ignore_errors=True)  # of several processes each comes here


def begin(folder, origin):
    """An empty folder for a fold, or the one that was taken up, that says where its content comes from."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, NAME), "w", encoding="utf-8") as file:
        json.dump(origin, file, indent=1)
