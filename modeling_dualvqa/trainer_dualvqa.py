"""Training with the Hugging Face Trainer: the per-head loss, its exact counts, and the learning rate of each tower."""

import os
from collections import defaultdict
from dataclasses import dataclass, field

import torch
from huggingface_hub import HfApi
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.training_args import ParallelMode
from transformers.utils import PushInProgress

from .loss_dualvqa import class_weights, count_valid, dual_head_loss
from .model_card_dualvqa import write_model_card

TASKS = ("binary", "open_ended", "question_type")

# What a push uploads. A run's folder also has the user's own rows (predictions.jsonl), and checkpoints have pickles.
SHARED_FILES = ["*.json", "*.safetensors", "*.py", "*.txt", "*.model", "README.md"]
PRIVATE_FILES = ["checkpoint-*", "_*"]


@dataclass
class DualVQATrainingArguments(TrainingArguments):
    """TrainingArguments with what two towers and two heads need besides."""

    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the vision tower; learning_rate when left out."}
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the text tower; learning_rate when left out."}
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
    remove_unused_columns: bool = field(default=False, metadata={"help": "The collator needs the raw columns."})
    label_names: list[str] | None = field(default_factory=lambda: [f"{task}_labels" for task in TASKS])

    def __post_init__(self):
        super().__post_init__()
        if self.device.type == "cpu":  # there is no faster memory to copy to, only a warning about it
            self.dataloader_pin_memory = False
        for name in [f"{task}_loss_weight" for task in TASKS] + ["questions_per_image"]:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, found {value}")
        class_weights(
            [1], self.class_weighting, self.effective_beta
        )  # refuses what doesn't exist, before anything starts
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must stay off: the collator reads the image and question columns")
        if self.label_smoothing_factor:
            raise ValueError("label_smoothing_factor has no effect on the focal loss of the heads; leave it at 0")
        if self.parallel_mode == ParallelMode.NOT_DISTRIBUTED and self.n_gpu > 1:
            raise ValueError(
                f"{self.n_gpu} GPUs are visible and no launcher is used. DataParallel would split a batch's images and "
                f"questions apart; start with `accelerate launch --num_processes {self.n_gpu} run_vqa.py ...`, or show "
                f"one GPU with CUDA_VISIBLE_DEVICES=0"
            )


class ImageGroupedSampler(torch.utils.data.Sampler):
    """Row indices in random order, up to `per_image` questions about one image at a time.

    Args:
        image_keys: the image of each row.
        per_image: how many rows of one image stay together.
        seed: with the epoch it fixes the order.
    """

    def __init__(self, image_keys, per_image, seed):
        self.per_image, self.seed, self.epoch = per_image, seed, 0
        rows = defaultdict(list)
        for row, key in enumerate(image_keys):
            rows[key].append(row)
        self.rows = list(rows.values())
        self.length = len(image_keys)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.length

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        groups = []
        for rows in self.rows:
            order = torch.randperm(len(rows), generator=generator).tolist()
            shuffled = [rows[place] for place in order]
            groups += [shuffled[start : start + self.per_image] for start in range(0, len(rows), self.per_image)]
        for place in torch.randperm(len(groups), generator=generator).tolist():
            yield from groups[place]


class DualVQATrainer(Trainer):
    """Trainer whose loss is the masked focal loss per head, divided by the counts of the whole effective batch.

    Args:
        train_collator: makes the training batches, with augmentation; `data_collator` when left out, which always makes
            those of evaluation and prediction.
        answer_counts: (N,) how often each answer of the vocabulary occurs in training, for `class_weighting`.

    Raises:
        ValueError: class weights are asked for without counts to compute them from, or their number isn't N.
    """

    loss_is_scaled_for_ga = True  # dual_head_loss divides by the counts of all accumulation steps

    def __init__(self, *args, train_collator=None, answer_counts=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.train_collator = train_collator or self.data_collator
        config = self.accelerator.unwrap_model(self.model).config
        self.focal_gamma = config.focal_gamma
        self.loss_weights = {}
        for task, weight in config.loss_weights.items():
            given = getattr(self.args, f"{task}_loss_weight")
            self.loss_weights[task] = weight if given is None else given
        self.alphas = {}
        if self.args.class_weighting != "none":
            if answer_counts is None or len(answer_counts) != config.num_answers:
                found = "none" if answer_counts is None else f"{len(answer_counts)}"
                raise ValueError(f"class_weighting needs the counts of {config.num_answers} answers, found {found}")
            weights = class_weights(answer_counts, self.args.class_weighting, self.args.effective_beta)
            self.alphas = {"open_ended": weights.to(self.args.device)}
        self.part_sums, self.part_start = {}, 0

    def _get_num_items_in_batch(self, batch_samples, device):
        """Valid rows of each task in all micro-batches of one step, over all processes: task -> scalar."""
        if not batch_samples or f"{TASKS[0]}_labels" not in batch_samples[0]:
            return None
        counts = torch.stack(
            [sum(count_valid(batch[f"{task}_labels"]).to(device) for batch in batch_samples) for task in TASKS]
        )
        if self.args.world_size > 1:
            counts = self.accelerator.reduce(counts, "sum")
        return dict(zip(TASKS, counts))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = {task: inputs.get(f"{task}_labels") for task in TASKS}
        outputs = model(**{name: value for name, value in inputs.items() if not name.endswith("_labels")})
        logits = {task: outputs.get(f"{task}_logits") for task in TASKS}
        loss, parts = dual_head_loss(
            logits, labels, self.loss_weights, num_items_in_batch, self.focal_gamma, self.alphas
        )
        if model.training:
            for task, part in parts.items():
                self.part_sums[task] = self.part_sums.get(task, 0) + part.detach()
        if num_items_in_batch is not None:
            # Gradients are averaged over processes, and the counts are those of all processes already.
            loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        """Adds each head's own loss, the mean since the last time, wherever the training loss is logged."""
        steps = self.state.global_step - self.part_start
        if "loss" in logs and steps > 0:
            for task, total in self.part_sums.items():
                logs[f"{task}_loss"] = self.accelerator.reduce(total, "sum").item() / steps
            self.part_sums, self.part_start = {}, self.state.global_step
        super().log(logs, start_time)

    def create_optimizer(self, model=None):
        """The optimizer that the arguments name, with a learning rate for each tower and one for the rest."""
        if self.optimizer is None:
            model = self.model if model is None else model
            rates = {
                "vision_encoder": self.args.vision_learning_rate,
                "text_encoder": self.args.text_learning_rate,
            }
            decayed = set(self.get_decay_parameter_names(model))
            groups = {}
            for name, parameter in model.named_parameters():
                if not parameter.requires_grad:
                    continue
                rate = next((rate for tower, rate in rates.items() if tower in name.split(".")), None)
                rate = self.args.learning_rate if rate is None else rate
                decay = self.args.weight_decay if name in decayed else 0.0
                group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
                group["params"].append(parameter)
            optimizer_class, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(list(groups.values()), **arguments)
        return self.optimizer

    def get_train_dataloader(self):
        evaluation_collator, self.data_collator = self.data_collator, self.train_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = evaluation_collator

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not self.args.questions_per_image:
            return super()._get_train_sampler(dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ImageGroupedSampler(dataset["image_key"], self.args.questions_per_image, seed)

    def _save(self, output_dir=None, state_dict=None):
        """Saves as the Trainer does, without training_args.bin: a pickle doesn't belong in a folder that is shared."""
        config = self.accelerator.unwrap_model(self.model).config
        vars(config).pop("use_cache", None)  # the Trainer's own switch for generation, which this model doesn't have
        if self.hub_model_id:
            config.model_card = {**(config.model_card or {}), "repo_id": self.hub_model_id}
        super()._save(output_dir, state_dict)
        pickled = os.path.join(output_dir or self.args.output_dir, "training_args.bin")
        if os.path.exists(pickled):
            os.remove(pickled)

    def create_model_card(self, **kwargs):
        """Writes configuration and model card of the output folder anew, with what was recorded since it was saved."""
        if self.is_world_process_zero():
            model = self.accelerator.unwrap_model(self.model)
            model.config.save_pretrained(self.args.output_dir)
            write_model_card(self.args.output_dir, model.config, model.parameter_counts())

    def push_to_hub(
        self, commit_message="End of training", blocking=True, token=None, revision=None, private=None, **kwargs
    ):
        """As in the Trainer, but only the saved model goes out: no predictions, no rows, no pickles.

        Returns:
            The commit, or with `blocking=False` a Future of it; None on processes other than the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card()
        self._finish_current_push()
        job = self.upload(self.args.output_dir, commit_message, token=token, revision=revision)
        return job.result() if blocking else job

    def _push_from_checkpoint(self, checkpoint_folder):
        """Pushes what a checkpoint has of the model; all of it where `hub_strategy` asks for checkpoints."""
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if not self.args.hub_always_push and self.push_in_progress is not None and not self.push_in_progress.is_done():
            return
        message = f"Training in progress, step {self.state.global_step}"
        jobs = [self.upload(checkpoint_folder, message)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            name = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else os.path.basename(checkpoint_folder)
            jobs.append(
                self.upload(checkpoint_folder, f"{message}, checkpoint", path_in_repo=name, allow_patterns=None)
            )
        if self.push_in_progress is None or self.push_in_progress.is_done():
            self.push_in_progress = PushInProgress(jobs)
        else:
            self.push_in_progress.jobs.extend(jobs)

    def upload(self, folder, message, token=None, revision=None, **options):
        """Starts uploading a folder to the run's repository; gives the Future of the commit."""
        return HfApi().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=folder,
            commit_message=message,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            run_as_future=True,
            **{"allow_patterns": SHARED_FILES, "ignore_patterns": PRIVATE_FILES, **options},
        )
