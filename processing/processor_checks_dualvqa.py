"""What must hold of a processor, its model, questions and logits. Each check raises ValueError and says what it saw."""

import itertools
import json
import math
import numbers
import unicodedata
from pathlib import Path

MAX_QUESTION_CHARACTERS = 10_000  # tokenizers read all of a text before they cut it

CALIBRATED = {
    "temperatures": ("binary", "open_ended", "question_type"),
    # "image" and "question"; the others are of folders that earlier versions saved
    "familiarity": ("image", "question", "distance", "binary_energy", "open_ended_energy"),
    "abstention": None,  # what the threshold was chosen for may be of any kind
    "sets": None,
}


def check_files(folder):
    """That the processor's files are in a local folder and can be read; what isn't a local folder passes."""
    for name in ("processor_config.json", "tokenizer_config.json", "tokenizer.json"):
        path = Path(folder, name)
        if not path.is_file():
            if Path(folder).is_dir() and name != "tokenizer.json":  # a tokenizer may have a vocabulary file instead
                raise ValueError(f"{folder} has no {name}: expected a folder that a DualVQA processor was saved to")
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # not JSON, or not UTF-8
            raise ValueError(f"{path} is damaged ({error}); copy the folder again") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} is damaged: expected a JSON object, found a {type(content).__name__}")


def check_answers(answers):
    """That the vocabulary is a list of different texts."""
    if isinstance(answers, str):
        raise ValueError(f"expected a list of answers, found the text {answers!r:.100}")
    seen = {}
    for place, answer in enumerate(answers):
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f"expected a text as answer {place} of the vocabulary, found {answer!r:.100}")
        if seen.setdefault(answer, place) != place:
            raise ValueError(f"answers {seen[answer]} and {place} of the vocabulary are both {answer!r}")


def check_answer_rules(rules):
    """That what is said of yes, no and the comparison of answers is known by name, and words."""
    known = ("yes_answers", "no_answers", "answer_language", "metric")
    for name, value in mapping("answer_rules", {} if rules is None else rules, known).items():
        if name in ("answer_language", "metric"):
            right = isinstance(value, str)
        else:
            right = isinstance(value, list) and value and all(isinstance(word, str) and word.strip() for word in value)
        if not right:
            expected = "a word" if name in ("answer_language", "metric") else "a list of words"
            raise ValueError(f"{name} of answer_rules must be {expected}, found {value!r:.100}")


def check_calibration(calibration):
    """That temperatures, limits and threshold are known by name, numbers, and in their range."""
    if calibration is None:
        return
    for name, values in mapping("calibration", calibration, CALIBRATED).items():
        for key, value in mapping(f"the calibration's {name}", values, CALIBRATED[name]).items():
            if CALIBRATED[name] is not None:
                in_range(f"{name} of {key}", value, above=0 if name == "temperatures" else -math.inf)
        if CALIBRATED[name] is None:
            check_promise(name, values)


def check_promise(name, found):
    """That a threshold, or the lowest scores in sets, are probabilities; of groups those of each that has any."""
    if "by" in found:
        for one in mapping(f"the groups of the calibration's {name}", found.get("groups"), None).values():
            if one is not None:
                check_promise(name, mapping(f"each group of the calibration's {name}", one, None))
        return
    scores = {"the abstention's threshold": found.get("threshold")}
    if name == "sets":
        levels = mapping("the levels of the calibration's sets", found.get("levels"), None)
        scores = {f"the lowest score in a set of coverage {level}": score for level, score in levels.items()}
    for what, score in scores.items():
        in_range(what, score)
        if not 0 <= score <= 1:
            raise ValueError(f"{what} is a probability, from 0 to 1; found {score!r}")


def mapping(name, found, known):
    """`found`, a dict with no other keys than those known; any where these are None."""
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a dict, found {found!r:.100}")
    unknown = [] if known is None else [key for key in found if key not in known]
    if unknown:
        raise ValueError(f"{name} may have {', '.join(known)}; found {unknown[0]!r}")
    return found


def in_range(name, value, above=-math.inf):
    """That a value is a finite number, and larger than `above`."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not max(above, -1e30) < value < 1e30:  # compared so that NaN isn't in it
        limit = "" if above == -math.inf else f" above {above}"
        raise ValueError(f"{name} must be a finite number{limit}, found {value!r:.100}")


def check_image_processor(image_processor):
    """That images of an image processor's settings have a size, and values that are numbers."""

    def setting(name):
        return getattr(image_processor, name, None)

    def numbers_of(name):
        value = setting(name)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    if setting("do_normalize"):
        for value in numbers_of("image_mean"):
            in_range("image_mean", value)
        for value in numbers_of("image_std"):
            in_range("image_std", value, above=0)
    if setting("do_rescale"):
        in_range("rescale_factor", setting("rescale_factor"), above=0)
    for switch, name in (("do_resize", "size"), ("do_center_crop", "crop_size")):
        size = setting(name)
        if setting(switch) and size is not None:
            for side, value in ({name: size} if isinstance(size, numbers.Number) else dict(size)).items():
                in_range(f"the image {side}", value, above=0)


def is_blank(text):
    """Whether nothing of a text can be seen: white space, control characters, joiners of no width."""
    return all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text)


def check_question(question):
    """That a question is a text that a tokenizer can read, and not longer than any question is."""
    if not isinstance(question, str) or is_blank(question[:MAX_QUESTION_CHARACTERS]):
        raise ValueError(f"expected a question as text, found {question!r:.100}")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise ValueError(
            f"expected a question of at most {MAX_QUESTION_CHARACTERS:,} characters, found {len(question):,}; only its "
            f"first words would be read"
        )
    check_unicode(question)


def check_unicode(text):
    """That a text has no halves of characters (lone surrogates), which no tokenizer can read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"expected Unicode text, found a lone surrogate (U+{ord(text[error.start]):04X}, half a character) at "
            f"place {error.start} of {text[max(0, error.start - 20) : error.start + 20]!r}"
        ) from None


def check_tokenizer(tokenizer):
    """That a tokenizer knows words, and can pad questions of unlike length."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    if len(set(tokenizer.get_vocab()) - special) < 2:  # T5's without its file knows the space
        raise ValueError(
            f"the tokenizer knows no words, only {len(special)} special tokens: its tokenizer.json or vocabulary file "
            f"is missing; copy the folder again"
        )
    if tokenizer.pad_token is None:
        raise ValueError("the tokenizer has no padding token, so it can't encode questions of unlike length together")


def check_weights(model):
    """That a model can compute with all its values. Of 69 M parameters on a CPU that takes 0.05 s."""
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        problem = None if tensor.is_meta else value_problem(name, tensor.detach())
        if problem:
            raise ValueError(
                f"the model's {name} has {problem}: its training diverged or its file is damaged; take an earlier "
                f"checkpoint"
            )


def value_problem(name, tensor):
    """What a tensor of a model has that no training leaves in it, or None."""
    if not tensor.is_floating_point() or not tensor.numel():
        return None
    least, most = tensor.aminmax()
    if not (least.isfinite() and most.isfinite()):
        return "values that aren't finite"
    return "variances below 0" if name.endswith("running_var") and least < 0 else None


def check_logits(name, logits):
    """The logits (B, N) of a head, where all of them are finite: of others no score would mean anything."""
    rows = (~logits.isfinite()).any(dim=-1).nonzero()[:, 0].tolist()
    if rows:
        raise ValueError(
            f"{len(rows)} of {len(logits)} questions have {name} logits that aren't finite, first number {rows[0]}: "
            f"damaged weights, too large values of an input, or too narrow a float16 (take bfloat16 or float32)"
        )
    return logits
