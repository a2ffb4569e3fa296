"""Where a run's examples come from: the settings, checked."""

import copy
import dataclasses
from dataclasses import dataclass, field

from .answers import AnswerRules
from .encodings import check_encoding
from .image_sources_dualvqa import FILES, ImageSources
from .public_sets import close_set, public_sets, set_name, set_settings
from .soft_labels import SOFT_SCORES
from .tables import check_separator


@dataclass
class DataArguments:
    """Where the examples come from, and which of them are used."""

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Hub id of a data set; easy_vqa for the package's; with --data_dir a public set, such as vqa_v2 or "
            "gqa. Files take precedence."
        },
    )
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with the files of a public set, as they are distributed."}
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of the Hub data set."})
    train_file: str | None = field(
        default=None, metadata={"help": "CSV, TSV, Excel (.xlsx), JSON Lines, JSON or Parquet file."}
    )
    validation_file: str | None = field(default=None, metadata={"help": "Likewise, for evaluation while training."})
    test_file: str | None = field(default=None, metadata={"help": "Likewise, for prediction; answers are optional."})
    csv_separator: str | None = field(
        default=None,
        metadata={
            "help": "What separates the cells of CSV: a character, or tab, comma, semicolon, pipe; else found out."
        },
    )
    csv_encoding: str | None = field(
        default=None, metadata={"help": "Encoding of CSV, such as utf-8 or cp1252; else found out."}
    )
    excel_sheet: str | None = field(
        default=None, metadata={"help": "Sheet of an Excel file; the only one with rows when left out."}
    )
    image_dir: str | None = field(default=None, metadata={"help": "Folder that relative image paths start from."})
    image_dir_only: bool = field(
        default=False,
        metadata={
            "help": "Rows whose image lies outside --image_dir, by an absolute path, by .. or behind a link, are bad "
            "rows: for data files of other people."
        },
    )
    max_image_megapixels: float = field(
        default=50.0, metadata={"help": "Millions of pixels of the largest image that is read."}
    )
    image_column: str | None = field(
        default=None,
        metadata={
            "help": "Column with image paths or images. Without it: that of the saved model's training, image, or the "
            "only column with a usual name for it."
        },
    )
    question_column: str | None = field(default=None, metadata={"help": "Column with the questions, likewise."})
    answer_column: str | None = field(
        default=None, metadata={"help": "Column with an answer or a list of answers, likewise."}
    )
    boolean_answers: str = field(
        default="words",
        metadata={"help": "What the answers true and false are: the words, or yes_no for the yes/no head."},
    )
    target: str = field(
        default="majority",
        metadata={
            "help": "What is learned of several people's answers to a question: majority, what most said; soft, every "
            "answer, as right as --soft_score says. The vocabulary then has the answers of all."
        },
    )
    soft_score: str = field(
        default="vqa",
        metadata={"help": "With --target soft: vqa, the official score of each answer; share, the share that gave it."},
    )
    yes_answers: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Words of the answers that mean yes; the model says the first. Without them the usual words of "
            "many languages, and true or 1, are looked for in the training answers. --yes_answers yes --no_answers no "
            "for these two alone."
        },
    )
    no_answers: list[str] = field(default_factory=list, metadata={"help": "Likewise, the words that mean no."})
    answer_language: str | None = field(
        default=None,
        metadata={
            "help": "Whose articles and number words make no difference between answers: en, de, fr, zh and so on, or "
            "none; the saved model's, or en."
        },
    )
    metric: str | None = field(
        default=None,
        metadata={
            "help": "The score of an answer: exact, or vqa for the official score of the VQA evaluation, of ten "
            "people's answers, vizwiz for VizWiz's, gqa for GQA's; the saved model's, or exact."
        },
    )
    pretrain: str | None = field(
        default=None,
        metadata={
            "help": "contrastive: train towers and projections to tell which text belongs to which image, for a folder "
            "to start from with --model_name_or_path. A row's text is its question and answer, in one."
        },
    )
    pretrain_text_column: str | None = field(
        default=None, metadata={"help": "With --pretrain: column with the text, a caption; answers are not read then."}
    )
    exclude_rows: list[str] = field(
        default_factory=list,
        metadata={"help": "Leave out training and validation rows: column=value, as often as wanted."},
    )
    validation_fraction: float = field(
        default=0.1, metadata={"help": "Share of the training part kept for validation where there is none."}
    )
    split_by: str = field(
        default="image",
        metadata={
            "help": "What that share, or a fold, is of: image, for figures of new images; question, of new questions "
            "about known images, where rewordings stay together; wording, of rewordings of questions that are trained "
            "on, as in VQA-RAD's official test part."
        },
    )
    question_group_column: str | None = field(
        default=None,
        metadata={
            "help": "Column whose equal values say that questions about an image are rewordings of one; without it "
            "those are whose words are near, and VQA-RAD's phrase_type counts."
        },
    )
    split_seed: int = field(
        default=0, metadata={"help": "Seed of that split and of --train_fraction; the run's own doesn't touch it."}
    )
    folds: int | None = field(
        default=None,
        metadata={
            "help": "For cross-validation: cut the images, or what --split_by says, into so many folds in place of "
            "--validation_fraction, and keep the one that --fold names for validation."
        },
    )
    fold: int = field(default=0, metadata={"help": "Which of the folds, from 0."})
    train_fraction: float = field(
        default=1.0,
        metadata={"help": "Share of the training questions that are used, drawn by split_seed after the split."},
    )
    on_bad_example: str = field(
        default="error",
        metadata={"help": "Stop at an unreadable image, empty question or lacking answer, or leave such rows out."},
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read training rows while training goes on, from Parquet files (a pattern as --train_file) or the "
            "Hub, for data that don't fit in memory. Validation and test parts are read as always."
        },
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "With --streaming: rows that are shuffled at a time."})
    min_answer_frequency: int = field(default=1, metadata={"help": "How often a training answer must occur."})
    max_answers: int | None = field(default=None, metadata={"help": "Largest size of the answer vocabulary."})

    # Names of settings that a recipe gives: where they name columns, data of other people may lack these.
    from_recipe = ()
    # image, question, answer -> the column: of the training part of a saved model, and of the one that was read here.
    remembered_columns = found_columns = None
    known_columns = frozenset()  # names of the columns of all parts that are at hand: another part may have the answers
    has_words = False  # whether the words for yes and no are those that a saved model keeps: none are looked for
    cuts_validation = False  # whether the validation part was cut off the training part

    def __post_init__(self):
        if self.csv_separator is not None:
            check_separator(self.csv_separator)
        if self.csv_encoding is not None:
            check_encoding(self.csv_encoding)
        if self.data_dir and not set_name(self.dataset_name):
            raise ValueError(
                f"--data_dir is the folder of a public set: give its name with --dataset_name, one of "
                f"{', '.join(public_sets())}; found {self.dataset_name}{close_set(self.dataset_name)}"
            )
        for name, value in set_settings(self.dataset_name if self.data_dir else None).items():
            setattr(self, name, getattr(self, name) or copy.copy(value))
        if self.on_bad_example not in ("error", "skip"):
            raise ValueError(f"on_bad_example must be error or skip, found {self.on_bad_example!r}")
        if self.boolean_answers not in ("words", "yes_no"):
            raise ValueError(f"boolean_answers must be words or yes_no, found {self.boolean_answers!r}")
        if self.target not in ("majority", "soft"):
            raise ValueError(f"target must be majority or soft, found {self.target!r}")
        if self.soft_score not in SOFT_SCORES:
            raise ValueError(f"soft_score must be one of {', '.join(SOFT_SCORES)}, found {self.soft_score!r}")
        if self.target == "soft" and self.pretrain:
            raise ValueError("--target soft is of answers, and pre-training learns none; leave it out")
        self.rules  # noqa: B018 - raises where they can't be
        if self.image_dir_only and not self.image_dir:
            raise ValueError("--image_dir_only needs --image_dir, the folder that no image may lie outside of")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1), found {self.validation_fraction}")
        if self.split_by not in ("image", "question", "wording"):
            raise ValueError(f"split_by must be image, question or wording, found {self.split_by!r}")
        if self.split_by != "image" and (self.validation_file or self.streaming):
            raise ValueError(
                f"--split_by {self.split_by} cuts the training part itself: leave out --validation_file and --streaming"
            )
        if self.folds is None and self.fold:
            raise ValueError(f"--fold {self.fold} needs --folds, the number of them")
        if self.folds is not None and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"folds must be at least 2 and fold from 0 to folds - 1, found folds {self.folds} and fold {self.fold}"
            )
        if self.folds and (self.validation_file or self.streaming):
            raise ValueError("--folds cuts the training part itself: leave out --validation_file and --streaming")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must be in (0, 1], found {self.train_fraction}")
        if self.train_fraction < 1 and self.streaming:
            raise ValueError("--train_fraction needs all rows at hand; leave it out with --streaming")
        if self.pretrain not in (None, "contrastive"):
            raise ValueError(f"pretrain must be contrastive, found {self.pretrain!r}")
        if self.pretrain_text_column and not self.pretrain:
            raise ValueError("--pretrain_text_column needs --pretrain contrastive")
        if self.shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer must be at least 1, found {self.shuffle_buffer}")
        if not 0 < self.max_image_megapixels < float("inf"):
            raise ValueError(f"max_image_megapixels must be above 0, found {self.max_image_megapixels}")
        for rule in self.exclude_rows:
            if "=" not in rule:
                raise ValueError(f"exclude_rows expects column=value, found {rule!r}")

    @property
    def image_sources(self):
        """Which images the check of all rows lets pass, [`ImageSources`]: files, no URLs."""
        pixels = max(1, round(self.max_image_megapixels * 1e6))
        folders = [self.image_dir] if self.image_dir_only else None
        most = max(FILES.max_bytes, 8 * pixels)  # no image within the limit is larger: RGB and opacity, 16 bits each
        return ImageSources(folders=folders, hosts=(), max_bytes=most, max_pixels=pixels)

    def column_flag(self, name):
        """The flag that names the column of the image, the question or the answer, and what it says."""
        flag = "pretrain_text_column" if name == "question" and self.pretrain_text_column else f"{name}_column"
        return flag, getattr(self, flag)

    def changed(self, **fields):
        """The same with other values of some fields."""
        own = {name: value for name, value in vars(self).items() if name not in self.__dataclass_fields__}
        found = dataclasses.replace(self, **fields)
        vars(found).update(own)
        return found

    @property
    def rules(self):
        """How answers are compared, [`AnswerRules`]."""
        language, metric = self.answer_language or "en", self.metric or "exact"
        return AnswerRules(self.yes_answers, self.no_answers, language, metric)

    @property
    def reads_answers(self):
        return not self.pretrain_text_column

    def text(self, question, answer):
        """What the text tower reads of a row: before answering is learned, the question with its answer."""
        joined = self.pretrain and not self.pretrain_text_column
        return f"{question} {self.rules.consensus(answer)}" if joined else question

    @property
    def files(self):
        files = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        return {part: path for part, path in files.items() if path}
