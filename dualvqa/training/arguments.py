"""TrainingArguments with what two towers and two heads need besides."""

import math
import os
import re
from dataclasses import dataclass, field

from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from modeling_dualvqa.loss_dualvqa import class_weights
from modeling_dualvqa.values_dualvqa import check_numbers
from processing.collator import AugmentationArguments

from .further_arguments import FurtherArguments
from .task_weighting import DEFAULT_SCHEDULE, TASK_WEIGHTINGS, parse_schedule

TASKS = ("binary", "open_ended", "question_type")

LIMITS = {
    **{f"{name}_loss_weight": ">= 0" for name in (*TASKS, "auxiliary")},
    **{f"{name}learning_rate": ">= 0" for name in ("", "vision_", "text_")},
    **{f"per_device_{part}_batch_size": ">= 1" for part in ("train", "eval")},
    **{f"{moment}_steps": "> 0" for moment in ("logging", "eval", "save")},
    **{name: ">= 0, < 1" for name in ("adam_beta1", "adam_beta2", "label_smoothing_factor", "effective_beta")},
    **{name: ">= 0" for name in ("weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps", "eval_delay")},
    **{name: ">= 0, <= 4294967295" for name in ("seed", "data_seed")},  # numpy's generators take no others
    **{name: ">= 1" for name in ("gradient_accumulation_steps", "eval_accumulation_steps", "save_total_limit")},
    **{name: ">= 1" for name in ("dataloader_prefetch_factor", "torch_empty_cache_steps", "ddp_timeout")},
    **{name: ">= 0" for name in ("dataloader_num_workers", "neftune_noise_alpha", "questions_per_image")},
    "num_train_epochs": "> 0",
    "max_steps": ">= -1",
    "task_weighting_learning_rate": "> 0",
    "distillation_temperature": "> 0",
    "distillation_weight": ">= 0, <= 1",
    "balanced_sampling": ">= 0, <= 1",
    "average_checkpoints": ">= 0",
    "early_stopping_patience": ">= 0",
    "random_crop_scale": "> 0, <= 1",
    "random_rotation": ">= 0, <= 180",
    **{name: ">= 0, <= 1" for name in ("random_shift", "color_jitter", "horizontal_flip")},
    "train_sampling_strategy": ("random", "group_by_length"),
    "task_weighting": tuple(TASK_WEIGHTINGS),
}


MOST_WORKERS = 8  # more hardly make batches faster, and each has its own copy of the rows' index


def usable_cores():
    """Cores that this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(device_type, cores, processes=1):
    """Workers of each process: none on a CPU, whose cores the model uses itself; else all its cores but one."""
    return 0 if device_type == "cpu" else max(0, min(cores // max(processes, 1) - 1, MOST_WORKERS))


@dataclass
class DualVQATrainingArguments(AugmentationArguments, FurtherArguments, TrainingArguments):
    """TrainingArguments with what two towers and two heads need besides."""

    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the vision tower; learning_rate when left out."}
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text tower; learning_rate when left out."}
    )
    freeze_parameters: str | None = field(
        default=None,
        metadata={
            "help": "Regular expression: parameters in whose name it is found are frozen in this run, such as "
            r"'text_encoder\..*(embeddings|layer\.[0-3]\.)'. Batch-norm statistics and dropout go on; freeze_vision "
            "and freeze_text of the configuration freeze whole towers, and stop these too."
        },
    )
    binary_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the yes/no loss; the model configuration's when left out."}
    )
    open_ended_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the open-ended loss, likewise."}
    )
    question_type_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the question-type router's loss, likewise."}
    )
    task_weighting: str = field(
        default="fixed",
        metadata={
            "help": "Weights of the two heads' losses: fixed; schedule, by epoch; uncertainty, learned (Kendall et al. "
            "2018); mgda, from the gradients (Sener and Koltun 2018)."
        },
    )
    task_weighting_schedule: list[str] = field(
        default_factory=lambda: list(DEFAULT_SCHEDULE),
        metadata={"help": "For schedule: FIRST-LAST:YES_NO_WEIGHT/OPEN_ENDED_WEIGHT for epochs from 0 on."},
    )
    task_weighting_linear: bool = field(
        default=False, metadata={"help": "For schedule: linear between the first epochs of its rows, not in steps."}
    )
    task_weighting_learning_rate: float = field(
        default=0.01, metadata={"help": "For uncertainty: learning rate of the two log-variances (Adam)."}
    )
    distillation_temperature: float = field(
        default=2.0, metadata={"help": "With a teacher: what both sides' logits are divided by (Hinton et al. 2015)."}
    )
    distillation_weight: float = field(
        default=0.5, metadata={"help": "With a teacher: its share in each head's loss; the answers have the rest."}
    )
    auxiliary_loss_weight: float = field(
        default=0.3, metadata={"help": "With --auxiliary_columns: weight of the mean of their heads' losses."}
    )
    class_weighting: str = field(
        default="none",
        metadata={
            "help": "Weigh open-ended answers by how rare they are in training: none, inverse, or effective (by the "
            "effective number of samples)."
        },
    )
    effective_beta: float = field(
        default=0.999, metadata={"help": "For effective: from 0, all answers alike, towards 1, as inverse."}
    )
    questions_per_image: int = field(
        default=0,
        metadata={
            "help": "Bring up to so many questions about one image together in a training batch, so that the image is "
            "encoded once for them; 0 shuffles questions one by one."
        },
    )
    balanced_sampling: float = field(
        default=0.0,
        metadata={
            "help": "Draw training questions by their answer's frequency n, each in proportion to n^-P: 0, off; 1, "
            "every answer equally often; 0.5, in between. Yes/no questions keep their share."
        },
    )
    average_checkpoints: int = field(
        default=0,
        metadata={
            "help": "After training, take the mean of the weights of the run's last so many checkpoints (Izmailov et "
            "al. 2018); 0 takes those of the last step. A vision tower that is not frozen has the statistics of its "
            "batch norms averaged too, and not computed anew."
        },
    )
    dataloader_num_workers: int | None = field(
        default=None, metadata={"help": "Processes that make batches; chosen from the machine when left out."}
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "A resumed run goes on counting towards early stopping where it was."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator needs the raw columns."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the log. A run stops at them."}
    )

    def __post_init__(self):
        check_numbers(self, LIMITS)
        self.workers_chosen = self.dataloader_num_workers is None
        self.dataloader_num_workers = self.dataloader_num_workers or 0  # transformers compares it with numbers
        super().__post_init__()
        self.choose_workers()
        self.check()

    def check(self):
        """Refuses values that don't do; also before each training, as a hyperparameter search sets them one by one.

        Raises:
            ValueError: as said.
        """
        check_numbers(self, LIMITS)
        self.check_further()
        if self.device.type == "cpu":  # there is no faster memory to copy to, only a warning about it
            self.dataloader_pin_memory = False
        try:
            re.compile(self.freeze_parameters or "")
        except re.error as error:
            raise ValueError(
                f"freeze_parameters must be a regular expression, found {self.freeze_parameters!r}: {error}"
            ) from error
        class_weights([1], self.class_weighting, self.effective_beta)  # refuses what doesn't exist
        if not self.eval_do_concat_batches:
            raise ValueError("eval_do_concat_batches must stay on: figures and predictions are of all rows at once")
        self.check_task_weighting()
        self.check_averaging()
        if int(os.environ.get("WORLD_SIZE", 1)) > 1 and self.world_size == 1:
            raise ValueError(
                f"{os.environ['WORLD_SIZE']} processes were started, and each would train alone in the same folder: "
                f"there is no GPU for them; add --use_cpu"
            )
        if self.fp16 and self.device.type == "cpu":
            raise ValueError("fp16 has no effect on a CPU; use bf16, or neither")
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must stay off: the collator reads the image and question columns")
        if self.parallel_mode == ParallelMode.NOT_DISTRIBUTED and self.n_gpu > 1:
            raise ValueError(
                f"{self.n_gpu} GPUs are visible and no launcher is used. DataParallel would split a batch's images and "
                f"questions apart; start with `accelerate launch --num_processes {self.n_gpu} run_vqa.py ...`, or show "
                f"one GPU with CUDA_VISIBLE_DEVICES=0"
            )

    def choose_workers(self):
        """Fills in the number of workers where none was given, and keeps them alive between epochs.

        Batches don't depend on it: an image's augmentation is a function of seed, epoch and image.
        """
        if self.workers_chosen:
            processes = int(os.environ.get("LOCAL_WORLD_SIZE", self.world_size))
            self.dataloader_num_workers = default_workers(self.device.type, usable_cores(), processes)
            self.dataloader_persistent_workers = self.dataloader_num_workers > 0

    def check_averaging(self):
        wanted, limit = self.average_checkpoints, self.save_total_limit or 0
        problem = None
        if wanted == 1:
            problem = f"must be at least 2, or 0 for none, found {wanted}"
        elif wanted and self.save_strategy == "no":
            problem = "needs checkpoints, found save_strategy no; give epoch or steps"
        elif wanted and self.save_only_model:
            problem = "needs complete checkpoints; leave save_only_model out"
        elif 0 < limit < wanted:
            problem = f"{wanted} needs as many checkpoints, found save_total_limit {limit}; raise it or leave it out"
        elif wanted and self.load_best_model_at_end:
            problem = "and load_best_model_at_end, which takes one of the checkpoints, don't go together; turn one off"
        if problem:
            raise ValueError(f"average_checkpoints {problem}")

    def check_task_weighting(self):
        if self.task_weighting != "schedule":
            return
        if self.binary_loss_weight is not None or self.open_ended_loss_weight is not None:
            raise ValueError(
                "binary_loss_weight and open_ended_loss_weight have no effect with task_weighting schedule; write the "
                "weights into task_weighting_schedule"
            )
        last = parse_schedule(self.task_weighting_schedule)[-1][1]
        if self.max_steps <= 0 and self.num_train_epochs > last + 1:
            raise ValueError(
                f"task_weighting_schedule ends with epoch {last}, and training has epochs 0 to "
                f"{math.ceil(self.num_train_epochs) - 1}; add a row for the rest"
            )
