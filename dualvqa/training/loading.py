"""The batches of a run: which rows, in which order, from which processes."""

from torch.utils.data import DataLoader, IterableDataset

from .sampling import (
    ByLength,
    ImageGroupedSampler,
    MarkedRows,
    RepeatMaskingCollator,
    balanced_weights,
    question_lengths,
)


class LoadingMixin:
    """The loaders and samplers of [`DualVQATrainer`]. `_get_dataloader` and `_get_train_sampler` are private in
    transformers, read in 5.23."""

    def check_answers(self):
        """Refuses to balance answers that aren't known."""
        if isinstance(self.train_dataset, IterableDataset):
            raise ValueError("balanced_sampling needs all rows at hand, found a stream")
        found = "none" if self.train_answers is None else len(self.train_answers)
        if found != len(self.train_dataset):
            raise ValueError(
                f"balanced_sampling needs the answers of {len(self.train_dataset)} training rows, found {found}"
            )

    def check_rows(self):
        """Refuses rows that make no batch. Of a stream their number is known only when it has ended."""
        if self.train_dataset is None or isinstance(self.train_dataset, IterableDataset):
            return
        rows, batch = len(self.train_dataset), self._train_batch_size * self.args.world_size
        if rows < (batch if self.args.dataloader_drop_last else 1):
            dropping = "dataloader_drop_last leaves" if rows else "there is"
            raise ValueError(f"{dropping} nothing to train on: there are {rows} training rows, and a batch has {batch}")

    def get_train_dataloader(self):
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset, found none")
        if isinstance(self.train_dataset, IterableDataset):
            return self.stream_dataloader()
        self.check_rows()
        evaluation_collator, self.data_collator = self.data_collator, RepeatMaskingCollator(self.train_collator)
        try:
            return self._get_dataloader(
                dataset=MarkedRows(self.train_dataset),
                description="Training",
                batch_size=self._train_batch_size,
                sampler_fn=self._get_train_sampler,
                is_training=True,
            )
        finally:
            self.data_collator = evaluation_collator

    def get_eval_dataloader(self, eval_dataset=None):
        """As in transformers, but workers that live on are those of the dataset that is asked for, not of another."""
        key = eval_dataset if isinstance(eval_dataset, str) else "eval"
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        rows = self.eval_dataset[key] if isinstance(rows, str) else rows
        kept = getattr(self, "_eval_dataloaders", {})
        if key in kept and kept[key].dataset is not rows:
            del kept[key]
        return super().get_eval_dataloader(eval_dataset)

    def _get_dataloader(self, dataset, description, batch_size, sampler_fn=None, is_training=False, **options):
        """As in transformers 5.23, but only training drops its last rows where they are too few for a batch."""
        dropping = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = dropping and is_training
        try:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, is_training, **options)
        finally:
            self.args.dataloader_drop_last = dropping

    def stream_dataloader(self):
        """Batches of a training part that gives each process its own rows, so that no process reads for others."""
        self.train_sampler = self.train_dataset
        return DataLoader(
            self.train_dataset,
            self._train_batch_size,
            collate_fn=self.train_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            drop_last=self.args.dataloader_drop_last,
        )

    def _get_train_sampler(self, train_dataset=None):
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        grouped = self.args.questions_per_image
        keys = self.train_dataset["image_key"][:] if grouped else range(len(self.train_dataset))
        world = self.args.world_size
        multiple = world * self._train_batch_size if world > 1 else 1
        by_length = None
        if self.args.train_sampling_strategy == "group_by_length":
            by_length = ByLength(self.train_lengths(), world * self._train_batch_size)
        power = self.args.balanced_sampling
        weights = balanced_weights(self.train_answers, power) if power else None
        self.train_sampler = ImageGroupedSampler(keys, grouped or 1, seed, multiple, by_length, weights)
        return self.train_sampler

    def train_lengths(self):
        """Tokens of each training question: the column that `length_column_name` names, or counted here."""
        columns = getattr(self.train_dataset, "column_names", None) or ()
        if self.args.length_column_name in columns:
            return self.train_dataset[self.args.length_column_name][:]
        tokenizer = getattr(self.processing_class, "tokenizer", None)
        if tokenizer is None or "question" not in columns:
            raise ValueError(
                f"train_sampling_strategy group_by_length needs a column {self.args.length_column_name!r}, or a column "
                f"'question' and a processor; found the columns {', '.join(columns) or 'of no Dataset'}"
            )
        return question_lengths(self.train_dataset["question"][:], tokenizer)
