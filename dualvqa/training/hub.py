"""What a run sends to the Hub: its model, and its checkpoints where that is asked for."""

import logging
import os

from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

logger = logging.getLogger(__name__)

# What a push uploads. A run's folder also has the user's own rows (predictions.jsonl), and checkpoints have pickles.
SHARED_FILES = ["*.json", "*.safetensors", "*.py", "*.txt", "*.model", "README.md"]
PRIVATE_FILES = [
    "checkpoint-*",
    "_*",
    "embeddings/*",
    "image_cache/*",
    "teacher/*",
    "blind/*",
    "refit/*",
    "folds/*",
    "report*",
]


class PushingMixin:
    """The Trainer's methods that push, as they are in transformers 5.23; of [`DualVQATrainer`]."""

    def init_hf_repo(self, token=None, private=None):
        """As in transformers, which takes a refused token for a repository that is there already: the push at the end
        of training would fail.

        Raises:
            OSError: the Hub can't be reached, or doesn't know the token.
        """
        if self.is_world_process_zero():
            try:
                HfApi().whoami(token or self.args.hub_token)
            except OSError as error:
                raise OSError(f"nothing can be pushed to the Hub: {error}") from error
        super().init_hf_repo(token, private)

    def push_to_hub(
        self, commit_message="End of training", blocking=True, token=None, revision=None, tags=None, **kwargs
    ):
        """As in the Trainer, but only the saved model goes out: no predictions, no rows, no pickles.

        Args:
            tags: one or several for the model card, beside its own.
            **kwargs: `private`, for a new repository. What else the Trainer's card takes, this one knows from the run.

        Returns:
            The commit, or with `blocking=False` a Future of it; None on processes other than the first.

        Raises:
            ValueError: the model is new, and not trained yet; `model.push_to_hub` pushes it all the same.
        """
        self.check_trained("its answers mean nothing", "push_to_hub()")
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=kwargs.pop("private", None))
        if set(kwargs) - {"private"}:
            logger.warning("the model card is the run's: %s is left out", ", ".join(sorted(set(kwargs) - {"private"})))
        if tags:
            self.accelerator.unwrap_model(self.model).record_tags([tags] if isinstance(tags, str) else tags)
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
        memory = getattr(self.accelerator.unwrap_model(self.model), "memory", None)
        texts = ["memory_examples.jsonl"] if memory is not None and memory.push_texts else []
        return HfApi().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=folder,
            commit_message=message,
            token=token or self.args.hub_token,
            revision=revision or self.args.hub_revision,
            run_as_future=True,
            **{"allow_patterns": SHARED_FILES + texts, "ignore_patterns": PRIVATE_FILES, **options},
        )
