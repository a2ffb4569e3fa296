"""What a saved folder is: towers, parameters, answers, what it learned from, what it reached, calibration.

All of it stands in JSON files and in the first bytes of the weights, so that no model is loaded.
"""

import json
import math
import os
import struct
from pathlib import Path

from .asking import new_parser, parse
from .folders import check_folder, read_json

# What is saved beside the parameters: statistics of batch norms, the Gaussian of `Familiarity`, and the memory.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
NO_PARAMETERS = ("familiarity", "memory")
HEADS = {"binary": "yes/no", "open_ended": "open-ended", "question_type": "router"}
TYPES = {"yes/no": "binary_", "open-ended": "open_ended_", "all": ""}
WAYS = ("routed", "oracle", "majority")
SHOWN_ANSWERS = 12


def info(argv):
    """`dualvqa info FOLDER`"""
    parser = new_parser("info", "Says what a saved folder is, learned from and reached, without loading the model.")
    parser.add_argument("folder", help="a saved model, or its id on the Hub")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    args = parse(parser, argv)
    found = describe(check_folder(args.folder))
    print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else "\n".join(page(args.folder, found)))


def describe(folder):
    """The facts about a saved folder, as a dict that JSON can hold."""
    if os.path.isdir(folder):
        shapes = [read_shapes(path) for path in sorted(Path(folder).glob("model*.safetensors"))]
    else:
        from huggingface_hub import get_safetensors_metadata, snapshot_download

        metadata = get_safetensors_metadata(folder)
        shapes = [{name: t.shape for name, t in file.tensors.items()} for file in metadata.files_metadata.values()]
        folder = snapshot_download(folder, allow_patterns=["*.json"])
    config, processor = read_json(folder, "config.json"), read_json(folder, "processor_config.json")
    card = config.get("model_card") or {}
    vision, text = config.get("vision_config") or {}, config.get("text_config") or {}
    return {
        "vision": {
            "name": vision.get("architecture") or vision.get("model_type"),
            "image_size": image_size(processor.get("image_processor") or {}) or vision.get("image_size"),
        },
        "text": {"name": text.get("model_type"), "layers": text.get("n_layers") or text.get("num_hidden_layers")},
        "fusion": {"type": config.get("fusion_type"), "width": config.get("fusion_hidden_size")},
        "heads": config.get("heads"),
        "parameters": count_parameters(shapes),
        "answers": processor.get("answers") or [],
        "memory": config.get("memory"),
        "memory_answers": processor.get("memory_answers") or [],
        "answer_rules": processor.get("answer_rules"),
        "memory_figures": card.get("memory"),
        "calibration": processor.get("calibration"),
        "held_out": {row["part"]: row["held_out"] for row in card.get("data") or () if row.get("held_out")},
        **{
            name: card.get(name) or None
            for name in ("pretraining", "data", "columns", "settings", "refit", "cross_fit", "results", "license")
        },
    }


def image_size(image_processor):
    """The height of square images that the settings of an image processor make, or (height, width); None if unknown."""
    size = image_processor.get("crop_size" if image_processor.get("do_center_crop") else "size") or {}
    height, width = size.get("height"), size.get("width")
    return height if height == width else (height, width)


def read_shapes(path):
    """name -> shape of the tensors of a safetensors file, from its header.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        return {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, struct.error, MemoryError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: its header can't be read") from error


def count_parameters(files):
    """part of the model -> number of its parameters, and their total.

    Args:
        files: for each file of weights name -> shape.
    """
    counts = {}
    for name, shape in (item for shapes in files for item in shapes.items()):
        part = name.partition(".")[0]
        if name.rpartition(".")[2] not in BUFFERS and part not in NO_PARAMETERS:
            counts[part] = counts.get(part, 0) + math.prod(shape)
    return {**counts, "total": sum(counts.values())}


def page(folder, found):
    """The facts as lines for a terminal."""
    yield f"{folder}: {'a DualVQA model that is only pre-trained' if found['pretraining'] else 'a DualVQA model'}"
    vision, text, fusion = found["vision"], found["text"], found["fusion"]
    size = vision["image_size"]
    size = f"{size[1]} x {size[0]}" if isinstance(size, (list, tuple)) else size
    size = f", images of {size} pixels" if size else ""
    layers = f", {text['layers']} layer{'s' * (text['layers'] > 1)}" if text["layers"] else ""
    yield from table(
        "model",
        {
            "vision tower": f"{vision['name']}{size}",
            "text tower": f"{text['name']}{layers}",
            "fusion": f"{fusion['type']}, width {fusion['width']}",
            "heads": ", ".join(HEADS.get(head, head) for head in found["heads"] or ()),
            "answers": in_short(found["answers"]),
            "yes, no": of_words(found["answer_rules"]),
            "compared": of_rules(found["answer_rules"]),
            "memory": of_memory(found["memory"]),
            "known to the memory alone": in_short(found["memory_answers"]),
            "license": found["license"],
        },
    )
    yield from table("parameters", {part: f"{count:>14,}" for part, count in found["parameters"].items()})
    learned_from = {row["part"]: of_part(row) for row in found["data"] or ()}
    yield from table(
        "learned from", {**learned_from, "columns": of_columns(found["columns"]), "refit": of_refit(found["refit"])}
    )
    yield from table("settings", dict(found["settings"] or ()))
    results = found["results"] or {}
    for part in sorted(results.keys() - {"calibration"}, key=lambda part: (part == "test", part)):
        if results[part]:
            yield from accuracies(part, results[part], (found["answer_rules"] or {}).get("metric"))
            yield from measured_on(part, found["held_out"].get(part), found["refit"])
    yield from memory(found["memory"], found["memory_figures"], found["refit"], found["cross_fit"])
    yield from calibration(found["calibration"] or {}, results.get("calibration") or {})
    yield from measured_on("validation", None, found["calibration"] and found["refit"])


def table(title, rows):
    rows = {name: value for name, value in rows.items() if value not in (None, "")}
    if rows:
        yield from ("", f"{title}:", *(f"  {name:<28} {value}" for name, value in rows.items()))


def in_short(answers):
    more = f", ... ({len(answers) - SHOWN_ANSWERS} more)" if len(answers) > SHOWN_ANSWERS else ""
    return f"{len(answers)}: {', '.join(answers[:SHOWN_ANSWERS])}{more}" if answers else ""


def of_words(rules):
    """The words that mean yes and no, where they aren't these."""
    sides = [", ".join((rules or {}).get(name, ())) for name in ("yes_answers", "no_answers")]
    return " / ".join(filter(None, sides))


def of_rules(rules):
    """By which language and metric answers are compared, where it isn't English and exact match."""
    rules = rules or {}
    named = {"language": rules.get("answer_language"), "metric": rules.get("metric")}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value)


def of_memory(sizes):
    return f"{sizes['examples']:,} questions about {sizes['images']:,} images" if sizes else ""


def of_part(row):
    images = f" about {row['images']:,} images" if row.get("images") is not None else ""
    coverage = f", open-ended coverage {row['coverage']:.1%}" if row.get("coverage") is not None else ""
    most = " or ".join(found["answer"] for found in (row.get("majority") or {}).values())
    most = f", most often answered {most}" if most else ""
    return f"{row['questions']:,} questions{images}, from {row['source']}{coverage}{most}"


def of_columns(columns):
    """The columns that a model was trained with, where they have other names than image, question and answer."""
    return ", ".join(f"{name} {column!r}" for name, column in (columns or {}).items() if name != column)


def of_refit(refit):
    """What the weights have learned from, where they were trained anew on all questions."""
    if not refit:
        return ""
    return (
        f"{refit['questions']:,} questions about {refit['images']:,} images: those of the validation part too, "
        f"{refit['steps']:,} steps"
    )


def measured_on(part, held_out, refit):
    """What the figures of a part are figures of: how it was held out, and of which weights."""
    if held_out:
        yield f"  {held_out}"
    if refit:
        yield f"  of the {'refitted model' if part == 'test' else 'model before the refit'}"


def memory(kept, figures, refit, cross_fit):
    """How right the memory was on the questions that its parameters were fitted on.

    Args:
        kept: `config.memory`.
        figures: of `fit_memory`, None where they weren't fitted on held-out questions of the model itself.
        cross_fit: of the record, None where no folds' models were trained.
    """
    if not kept:
        return
    if not figures and cross_fit:
        yield from ("", f"memory: its parameters are the medians of those of {cross_fit['folds']} folds' models")
        return
    if not figures:
        yield from ("", "memory: its parameters are the usual ones, fitted on no questions")
        return
    crossed = "not measured: all questions are about one image"
    if figures["with"] is not None:
        crossed = f"{figures['with']:.1%}, parameters cross-fitted: of questions about other images"
    rows = {
        "fitted on": f"{figures['rows']:,} questions",
        "heads alone": f"{figures['without']:.1%}",
        "with it": crossed,
    }
    yield from table("memory", rows)
    yield from measured_on("validation", figures.get("held_out"), refit)


def accuracies(part, figures, metric):
    ways = [way for way in WAYS if f"{way}_accuracy" in figures]
    named = f", metric {metric}" if metric else ""
    yield from ("", f"reached ({part} part{named}):" + "".join(f"{way:>10}" for way in ways))
    for label, prefix in TYPES.items():
        shares = [figures.get(f"{way}_{prefix}accuracy") for way in ways]
        if any(share is not None for share in shares):
            yield f"  {label:<22}" + "".join(f"{'' if share is None else format(share, '.1%'):>10}" for share in shares)


def groups_of(promise):
    """Name -> what is promised to a group; under no name where it is to all."""
    return {} if not promise else promise["groups"] if "by" in promise else {"": promise}


def calibration(kept, figures):
    if not kept:
        yield from ("", "calibration: none; dualvqa calibrate fits one")
        return
    limit = kept.get("abstention") or {}
    rows = {"found by": f"cross-fitting in {figures['folds']} folds"} if "folds" in figures else {}
    rows |= {
        f"temperature, {HEADS.get(head, head)}": f"{t:.3g}" for head, t in (kept.get("temperatures") or {}).items()
    }
    if limit:
        below = f"by {limit['by']}" if "by" in limit else f"below {limit['threshold']:.3g}"
        promised = next(filter(None, groups_of(limit).values()), {})  # all groups promise the same
        some = "of all questions" if promised.get("risk_of") == "questions" else "of the answers"
        rows["left unanswered"] = f"{below}, so that at most {limit['max_risk']:.1%} {some} are wrong"
    for name, sets in groups_of(kept.get("sets")).items():
        levels = (sets or {}).get("levels")
        rows[" ".join(filter(None, ["sets of answers", name]))] = (
            f"with the right one in up to {max(map(float, levels)):.0%} of cases" if levels else "none can be promised"
        )
    if kept.get("familiarity"):
        judged = [f"{name}s" for name in ("image", "question") if name in kept["familiarity"]]
        rows["flagged as unfamiliar"] = " and ".join(judged) or "image and question together, as of an earlier version"
    if "routed_ece_after" in figures:
        rows["error of the scores"] = (
            f"{figures['routed_ece_before']:.1%} before, {figures['routed_ece_after']:.1%} after"
        )
    yield from table("calibration", rows)
