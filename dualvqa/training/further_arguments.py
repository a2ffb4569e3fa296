"""Settings of a training besides those of transformers: what is prepared, and what comes after."""

from dataclasses import dataclass, field


@dataclass
class FurtherArguments:
    """What is prepared before training, what is learned besides, and what comes after."""

    image_cache: bool = field(
        default=True, metadata={"help": "Decode and resize the images of a training run once and keep the pixels."}
    )
    image_cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "Where they are kept; image_cache in the output folder when left out. A folder of its own can be "
            "shared by several runs."
        },
    )
    image_cache_gib: float = field(
        default=8.0, metadata={"help": "Largest size of a part's pixels; never more than half of the free disk."}
    )
    cache_embeddings: str = field(
        default="auto",
        metadata={
            "help": "Run frozen towers once per image and question, and keep what they give in OUTPUT_DIR/embeddings: "
            "auto, for each that is frozen, the vision tower where augmentation is off; true, or say why not; false."
        },
    )
    auxiliary_columns: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Columns of the training part, such as an organ, that further heads learn besides the answers; the "
            "saved model doesn't have them."
        },
    )
    teacher: list[str] = field(
        default_factory=list,
        metadata={"help": "Saved folders to learn from besides the answers; of several the mean probabilities count."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better one."}
    )
    refit: bool = field(
        default=False,
        metadata={
            "help": "At the end, with settings, number of steps, temperatures and limits that were found with held-out "
            "questions, train anew on all questions, those of the validation part too; in Python call refit()."
        },
    )
    cross_fit: int | None = field(
        default=None,
        metadata={
            "help": "Calibrate on all training questions, by cross-fitting: train so many more models first, each "
            "without one fold of the images, whose questions it then scores; temperatures, thresholds and sets come "
            "from these scores, and the model itself is trained on all questions. In place of a validation part."
        },
    )
    memory: bool = field(
        default=False,
        metadata={
            "help": "Keep the training questions with their answers in the model: those that are most like a new one "
            "answer beside its heads. How much they count is fitted on the held-out questions."
        },
    )
    memory_texts: bool = field(
        default=True,
        metadata={"help": "With --memory: also keep its image names, questions and answers, to show as evidence."},
    )
    push_memory_examples: bool = field(
        default=False, metadata={"help": "A push to the Hub also takes these texts; without it they stay here."}
    )
    license: str = field(default="apache-2.0", metadata={"help": "License of the weights, for the model card."})
    report_columns: list[str] = field(
        default_factory=list,
        metadata={"help": "Columns whose values the report shows apart; those that look like kinds when left out."},
    )
    report_blind: bool = field(
        default=False,
        metadata={
            "help": "For the report: train the same model again without seeing images, in OUTPUT_DIR/blind, and report "
            "on both."
        },
    )

    def check_further(self):
        """
        Raises:
            ValueError: a value that doesn't do.
        """
        self.teacher = [self.teacher] if isinstance(self.teacher, str) else self.teacher
        self.cache_embeddings = str(self.cache_embeddings).lower()  # in Python and in a recipe true is no word
        if self.cache_embeddings not in ("auto", "true", "false"):
            raise ValueError(f"cache_embeddings must be auto, true or false, found {self.cache_embeddings!r}")
        if self.cross_fit is not None and (isinstance(self.cross_fit, bool) or self.cross_fit < 2):
            raise ValueError(f"cross_fit must be a number of folds, at least 2; found {self.cross_fit}")
        if self.image_cache_gib <= 0:
            raise ValueError(
                f"image_cache_gib must be above 0, found {self.image_cache_gib}; --image_cache false keeps no pixels"
            )
