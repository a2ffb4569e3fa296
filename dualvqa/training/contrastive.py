"""Contrastive pre-training: both towers and their projections learn which text belongs to which image.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (CLIP), section 2.3 and
figure 3.
"""

import math

import torch
from torch import nn
from torch.distributed.nn.functional import all_gather

from processing import PairCollator
from processing.wording import speaking_python

from .checkpoints import read_progress
from .trainer import DualHeadTrainer

LOG_SCALE_START = math.log(1 / 0.07)  # section 2.5 of the paper, as is the largest
LOG_SCALE_MOST = math.log(100)
BACKBONE = ("vision_encoder", "text_encoder", "visual_projection", "text_projection")
DIRECTIONS = ("image_to_text", "text_to_image")
MEASURED = ("loss", *(f"{direction}_recall_at_1" for direction in DIRECTIONS))


def contrastive_loss(image_features, text_features, positives, log_scale):
    """Symmetric InfoNCE between U different images and V different texts, of which several may belong together.

    Cross-entropy over the texts of each image and over the images of each text, averaged over both ways. Where an image
    has several texts in the batch, or a text several images, its target is spread evenly over them: they are not each
    other's negatives. With one text for each image it is the loss of CLIP.

    Args:
        image_features: (U, D), of any length.
        text_features: (V, D).
        positives: (U, V) bool, which pairs belong together; at least one in each row and column.
        log_scale: scalar; similarities are multiplied by its exponential, the inverse of the temperature.

    Returns:
        The loss, and the logits (U, V).
    """
    images = nn.functional.normalize(image_features.float(), dim=-1)
    texts = nn.functional.normalize(text_features.float(), dim=-1)
    logits = log_scale.exp() * images @ texts.T  # (U, V)
    targets = positives.float()
    losses = [
        nn.functional.cross_entropy(scores, target / target.sum(dim=1, keepdim=True))
        for scores, target in ((logits, targets), (logits.T, targets.T))
    ]
    return sum(losses) / 2, logits


def retrieval(logits, positives):
    """Sums over U queries, from logits (U, V) and which of the V candidates belong to each, positives (U, V) bool.

    Returns:
        (4,) tensor: queries whose best candidate belongs to them, the same number if candidates were drawn at random,
        candidates, queries.
    """
    hits = positives.gather(1, logits.argmax(dim=1, keepdim=True)).sum()
    queries, candidates = positives.shape
    chance = positives.float().mean(dim=1).sum()
    return torch.stack([hits.float(), chance, chance.new_tensor(queries * candidates), chance.new_tensor(queries)])


def first_places(keys):
    """The different values among `keys` (B,): which of them each row has, (B,), and the first row of each, (U,)."""
    values, index = keys.unique(return_inverse=True)
    rows = torch.arange(len(keys), device=keys.device)
    return index, rows.new_full((len(values),), len(keys)).scatter_reduce(0, index, rows, "amin")


@speaking_python("__init__", "train", "evaluate")
class ContrastiveTrainer(DualHeadTrainer):
    """Trains the towers and their projections with [`contrastive_loss`]; fusion and heads keep their weights.

    The candidates are all different images and texts of one micro-batch of all processes: features are gathered with
    their gradients, so two processes with 16 rows each are as one with 32, but for batch-norm statistics, dropout, and
    the rows that are repeated where an epoch's last step would have too few for all.
    Steps that are accumulated are not candidates of each other. A batch with one image or one text teaches nothing.

    The temperature belongs to the trainer and not to the model. It has the run's learning rate and no weight decay, is
    logged as `temperature`, and is kept in checkpoints.

    Batches have the model's inputs, with `image_index` and `question_index`, and `pair_keys` (B, 2) int64: which image
    and which text a row has, in all processes alike.

    Raises:
        ValueError: batches or training parts that can't have two images and two texts, or DeepSpeed or FSDP.
    """

    collator_class = PairCollator
    loss_is_scaled_for_ga = False  # the mean of a micro-batch

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.log_scale = nn.Parameter(torch.tensor(LOG_SCALE_START, device=self.args.device))
        self.retrieved = []
        self.check_negatives()

        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError("contrastive pre-training runs on one device or with DDP, not with DeepSpeed or FSDP")

    def default_metrics(self, processor, rows, majority):
        """None: it has no answers to score."""

    def default_targets(self):
        """None: the heads learn nothing."""

    def check_data(self):
        """The heads learn nothing, so they need no answers."""

    def check_negatives(self):
        """Refuses what leaves no image or no text to tell another one from."""
        rows = self.args.world_size * self.args.train_batch_size
        if rows < 2:
            raise ValueError("contrastive pre-training tells the pairs of a batch apart, found batches of 1")
        if self.args.questions_per_image >= rows:
            raise ValueError(
                f"contrastive pre-training needs several images in a batch, found batches of {rows} texts with up to "
                f"{self.args.questions_per_image} about one image; lower --questions_per_image"
            )
        columns = getattr(self.train_dataset, "column_names", None) or ()
        for column, name in (("image_key", "images"), ("question", "texts")):
            if column in columns and len(set(self.train_dataset[column])) < 2:
                raise ValueError(f"contrastive pre-training needs at least 2 different {name}, found 1")

    def freeze_parameters(self):
        """What isn't trained gets no gradient, which DDP would wait for, and no weight decay."""
        super().freeze_parameters()
        for name, part in self.accelerator.unwrap_model(self.model).named_children():
            if name not in BACKBONE:
                part.requires_grad_(False)

    def check_resumed(self, checkpoint):
        super().check_resumed(checkpoint)
        if checkpoint and "log_scale" not in read_progress(checkpoint):
            raise ValueError(f"{checkpoint} is not of pre-training; start from it with --model_name_or_path")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = dict(inputs)
        keys = inputs.pop("pair_keys")
        index = {name: inputs.pop(name) for name in ("image_index", "question_index")}
        # DDP wants the model's own forward; of what it does behind the towers one row is enough.
        outputs = model(**inputs, **{name: places[:1] for name, places in index.items()})
        plain = self.accelerator.unwrap_model(model)
        images = plain.visual_projection(outputs.image_embeds[:, 0])[index["image_index"]]  # (B, D)
        texts = plain.text_projection(outputs.text_embeds[:, 0])[index["question_index"]]  # (B, D)
        if self.args.world_size > 1:
            images, texts = torch.cat(all_gather(images)), torch.cat(all_gather(texts))
            keys = self.accelerator.gather(keys)
        image_index, first_images = first_places(keys[:, 0])
        text_index, first_texts = first_places(keys[:, 1])
        positives = torch.zeros(len(first_images), len(first_texts), dtype=torch.bool, device=keys.device)
        positives[image_index, text_index] = True
        loss, logits = contrastive_loss(images[first_images], texts[first_texts], positives, self.log_scale)
        if model.training:
            self.questions += len(index["image_index"])
        return (loss, {"logits": logits, "positives": positives}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, found = self.compute_loss(model, self._prepare_inputs(inputs), return_outputs=True)
        logits, positives = found["logits"], found["positives"]
        self.retrieved.append(torch.stack([retrieval(logits, positives), retrieval(logits.T, positives.T)]))
        return loss, None, None

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        """As in transformers. The figures are means over the different images, or texts, of each batch.

        `<direction>_recall_at_1` is how often the best candidate of the batch belongs to the query, `_chance` how often
        one drawn at random would, and `_candidates` how many there are to choose from.
        """
        self.retrieved = []
        output = super().evaluation_loop(dataloader, description, True, ignore_keys, metric_key_prefix)
        for direction, sums in zip(DIRECTIONS, sum(self.retrieved).tolist()):
            hits, chance, candidates, queries = sums
            for name, total in (("recall_at_1", hits), ("chance", chance), ("candidates", candidates)):
                output.metrics[f"{metric_key_prefix}_{direction}_{name}"] = total / queries
        return output

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            super().create_optimizer(model)
            group = {"params": [self.log_scale], "lr": self.args.learning_rate, "weight_decay": 0.0}
            self.optimizer.add_param_group(group)
        return self.optimizer

    def begin_step(self, epoch):
        self.weights_in_force = {}  # of the heads, which are not trained

    def end_step(self):
        super().end_step()
        self.log_scale.grad = None  # the Trainer clears the model's
        self.log_scale.data.clamp_(max=LOG_SCALE_MOST)

    def begin_training(self):
        if self.resumed_progress:
            self.log_scale.data.fill_(self.resumed_progress["log_scale"])
        elif self.model_init is not None:
            self.log_scale.data.fill_(LOG_SCALE_START)
        super().begin_training()

    def progress(self):
        return {**super().progress(), "log_scale": self.log_scale.item()}

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs["temperature"] = math.exp(-self.log_scale.item())
        super().log(logs, start_time)
