"""Presets: settings for a new model and its training, chosen by what the training data and the towers are."""

import copy
import dataclasses
import enum
import logging
from dataclasses import dataclass, field

import yaml

from dualvqa.shipped import shipped
from processing.answers import question_type_of

from .arguments import DualVQATrainingArguments

logger = logging.getLogger(__name__)

PRESETS = ("few", "some", "many", "large", "scratch")
SIZES = (("few", 500), ("some", 2500), ("many", 50_000))  # each for fewer questions than that

# A preset's settings that mean something with a pretrained tower alone, or with a new one alone.
NEED_PRETRAINED = {
    "freeze_vision": "vision",
    "image_crop": "vision",
    "text_learning_rate": "text",
    "freeze_parameters": "text",
}
NEED_NEW = {"vision_config": "vision", "text_config": "text"}
NEED_ROWS = ("questions_per_image", "train_sampling_strategy", "memory")  # all at hand, not streamed
OF_NEW_MODELS = {"image_crop"}  # fields of NewModelArguments
# Whoever chooses one of these has chosen the fusion that reads it.
OF_POOLED_VECTORS = {"fusion_pooling", "fusion_product_vector", "text_pooling"}


@dataclass(frozen=True)
class TrainingFacts:
    """What a preset is chosen by.

    Args:
        questions: of the training part.
        images: different ones, None where it isn't known.
        answers: different open-ended ones.
        yes_no_share: of the questions, 0 to 1.
        pretrained: which of "vision" and "text" start from pretrained weights.
        streamed: whether the rows are read while training goes on.
    """

    questions: int
    images: int | None
    answers: int
    yes_no_share: float
    pretrained: frozenset = frozenset()
    streamed: bool = False

    @classmethod
    def of(cls, summary, vision=None, text=None, streamed=False):
        """Those of a [`TrainingSummary`] and the names of the towers, None for new ones."""
        binary = sum(count for answer, count in summary.answers.items() if question_type_of(answer) == 0)
        answers = sum(question_type_of(answer) == 1 for answer in summary.answers)
        pretrained = frozenset(tower for tower, name in (("vision", vision), ("text", text)) if name)
        share = binary / max(summary.rows, 1)
        return cls(summary.rows, summary.images, answers, share, pretrained, streamed)

    def __str__(self):
        images = "" if self.images is None else f" about {self.images:,} images"
        towers = {0: "no pretrained tower", 1: f"a pretrained {', '.join(self.pretrained)} tower"}
        towers = towers.get(len(self.pretrained), "pretrained towers")
        kinds = f"{self.yes_no_share:.0%} yes/no, {self.answers:,} open-ended answers"
        return f"{self.questions:,} questions{images}, {kinds}, {towers}"


@dataclass
class Preset:
    """Settings that a run takes where nothing else says otherwise.

    Args:
        name: one of `PRESETS`.
        why: what it was chosen by, in words.
        config: fields of [`DualVQAConfig`].
        training: fields of [`DualVQATrainingArguments`].
        model: fields of [`NewModelArguments`].
    """

    name: str
    why: str
    config: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)

    def model_fields(self, given):
        """The preset's fields of the configuration, and over them those given; of a tower all or nothing."""
        own = dict(self.config)
        if OF_POOLED_VECTORS & set(given):
            own.pop("fusion_type", None)
        return {**own, **given}

    def new_model_arguments(self, args):
        """A copy of [`NewModelArguments`] in which the preset fills what was left out."""
        args = copy.copy(args)
        for name, value in self.model.items():
            if getattr(args, name) is None:
                setattr(args, name, value)
        return args

    def training_arguments(self, args, given=None):
        """A copy of some arguments in which the preset fills what was left out.

        Args:
            args: [`DualVQATrainingArguments`].
            given: names that are to stay as they are; those that differ from their default when left out.

        Raises:
            ValueError: what was given and the preset's values don't go together.
        """
        given = set(differing(args) if given is None else given)
        if args.deepspeed or args.fsdp:  # a model that is spread over processes takes no memory
            given.add("memory")
        args = copy.copy(args)
        for name, value in self.training.items():
            if name not in given:
                before = getattr(args, name)
                setattr(args, name, type(before)(value) if isinstance(before, enum.Enum) else value)
        args.check()
        return args


def name_for(facts):
    """The name of the preset for some data: a pure function of the [`TrainingFacts`]."""
    if "text" not in facts.pretrained:
        return "scratch"
    return next((name for name, limit in SIZES if facts.questions < limit), "large")


def load_preset(facts, name="auto"):
    """The [`Preset`] of that name for some data and towers, without what means nothing to them.

    Args:
        facts: [`TrainingFacts`].
        name: one of `PRESETS`; "auto" chooses one, "none" gives None.

    Raises:
        ValueError: there is none of that name.
    """
    if name == "none":
        return None
    if name not in ("auto", *PRESETS):
        raise ValueError(f"preset must be one of auto, none, {', '.join(PRESETS)}; found {name!r}")
    chosen = name_for(facts) if name == "auto" else name
    settings = yaml.safe_load((shipped("recipes") / "presets" / f"{chosen}.yaml").read_text(encoding="utf-8"))

    def fits(setting):
        return not (
            (setting in NEED_PRETRAINED and NEED_PRETRAINED[setting] not in facts.pretrained)
            or NEED_NEW.get(setting) in facts.pretrained
            or (facts.streamed and setting in NEED_ROWS)
        )

    config = {setting: value for setting, value in settings.pop("config").items() if fits(setting)}
    others = {setting: value for setting, value in settings.items() if fits(setting)}
    model = {setting: others.pop(setting) for setting in OF_NEW_MODELS & set(others)}
    return Preset(chosen, str(facts) if name == "auto" else "asked for", config, others, model)


def log_preset(preset):
    """Says which preset was taken, and why."""
    logger.info(
        "preset %s (%s): settings that are not given are those of recipes/presets/%s.yaml; --preset none leaves the "
        "defaults",
        preset.name,
        preset.why,
        preset.name,
    )


def log_filled(preset, before, after):
    """Says which arguments of a trainer a preset has filled in: from Python nobody sees the log of `log_preset`."""
    filled = [name for name in preset.training if getattr(before, name) != getattr(after, name)]
    if filled:
        logger.warning(
            "the preset %s fills in what is at its default: %s; build the model with preset='none' to keep defaults",
            preset.name,
            ", ".join(f"{name}={getattr(getattr(after, name), 'value', getattr(after, name))}" for name in filled),
        )


def differing(args):
    """The names of the arguments that aren't at their default."""
    found = set()
    for own in dataclasses.fields(DualVQATrainingArguments):
        default = own.default if own.default_factory is dataclasses.MISSING else own.default_factory()
        value = getattr(args, own.name, default)
        if getattr(value, "value", value) != getattr(default, "value", default):
            found.add(own.name)
    return found
