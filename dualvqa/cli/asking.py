"""The commands about single questions and several runs: ask, explain, compare."""

import json
import os

from dualvqa.run.flags import Parser
from dualvqa.run.values import hint

from .folders import check_answering, check_image, is_exported

TYPES = ("binary", "open_ended")
# Of dualvqa.trust.explanation, which is not imported here.
MAPS = ("occlusion", "occlusion_fine", "rise", "combined", "grad_cam", "layer_cam", "attention")
SHOWN = 10  # answers of a set
DRAWINGS = (".png", ".jpg", ".jpeg", ".pdf", ".svg", ".webp")


def parse(parser, argv):
    """Parses; an unknown flag is a ValueError with those that are like it."""
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ValueError(f"{parser.prog}: unknown argument {unknown[0]}{hint(unknown[0].partition('=')[0], flags)}")
    return parsed


def new_parser(command, about):
    return Parser(prog=f"dualvqa {command}", description=about, allow_abbrev=False)


def add_question(parser, several=False):
    parser.add_argument("folder", help="a saved model, its id on the Hub, or what dualvqa export wrote")
    parser.add_argument("image", help="its file or URL")
    parser.add_argument("question", nargs="+" if several else None)
    parser.add_argument("--question_type", choices=TYPES, help="of the head that answers; the model chooses otherwise")


def read_question(parser, argv):
    args = parse(parser, argv)
    check_answering(args.folder)
    check_image(args.image)
    return args


def check_coverage(coverage):
    """
    Raises:
        ValueError: no share.
    """
    if coverage is not None and not 0 < coverage < 1:
        raise ValueError(f"--coverage must be a number between 0 and 1, such as 0.9; found {coverage}")


def ask(argv):
    """`dualvqa ask FOLDER IMAGE QUESTION...`"""
    parser = new_parser("ask", "Answers questions about an image.")
    add_question(parser, several=True)
    parser.add_argument("--top_k", type=int, default=1, help="answers to each question, best first (default 1)")
    parser.add_argument(
        "--coverage",
        type=float,
        help="as many answers as it takes for the right one to be among them in this share of cases, such as 0.9",
    )
    parser.add_argument("--group", help="of the questions, for a model whose promises were made by a column")
    about = "under each answer so many examples of the model's memory that spoke for it; needs one, with its texts"
    parser.add_argument("--evidence", type=int, metavar="N", help=about)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each question")
    args = read_question(parser, argv)
    for number, question in enumerate(args.question, 1):
        if not question.strip():
            raise ValueError(f"question {number} of {len(args.question)} is empty; nothing was asked")
    for name in ("top_k", "evidence"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} must be a whole number, at least 1; found {getattr(args, name)}")
    check_coverage(args.coverage)
    names = ("question_type", "top_k", "coverage", "group", "evidence")
    pipe = open_folder(args.folder)
    found = pipe(args.image, args.question, **{name: getattr(args, name) for name in names})
    width = max(map(len, args.question))
    for question, answers in zip(args.question, found):
        if args.json:
            print(json.dumps({"question": question, "answers": answers}, ensure_ascii=False))
            continue
        for place, line in enumerate(lines_of(answers, args.coverage is not None)):
            print(f"{'' if place else question:<{width}}  {line}")


def lines_of(answers, is_set=False):
    """A question's answers as lines, each above its evidence; of a large set the most probable ones."""
    count = SHOWN if is_set else len(answers)
    lines = []
    for place, answer in enumerate(answers[:count]):
        lines += [shown(answer, place), *(f"  {line}" for line in evidence_of(answer))]
    if len(answers) > count:
        more = f"and {len(answers) - count:,} more; --json prints all"
        lines = [f"{len(answers):,} answers, the {count} most probable:", *lines, more]
    return [*lines, said_of_set(answers)] if is_set else lines


def evidence_of(answer):
    """The examples of the memory that spoke for an answer, as lines; none where nobody asked for them."""
    if answer.get("evidence") == []:
        return ["nothing in the memory spoke for it"]
    return list(map(example_in_words, answer.get("evidence") or ()))


def example_in_words(example):
    about, similarity = example["image"] or "an image without a name", example["similarity"]
    return f"from the memory: {example['question']!r} {example['answer']} ({about}, similarity {similarity:.2f})"


def said_of_set(answers):
    if answers[0].get("unfamiliar"):
        return "(no promise: it is for what is like the data that it was made on)"
    if answers[0]["coverage"] is None:
        return "(the best answer: no set can be promised to have the right one that often)"
    among = "it is right" if len(answers) == 1 else f"one of these {len(answers):,} is right"
    return f"({among} in at least {answers[0]['coverage']:.0%} of cases)"


def shown(answer, place=0):
    """An answer in words; `place` counts those to its question from 0. To what is foreign it is a guess, whatever its
    score."""
    foreign, guess = answer.get("unfamiliar"), answer.get("best_guess", answer["answer"])
    if foreign is None and answer["answer"] is not None:
        return f"{guess}  {answer['score']:.1%}"
    if place:
        return f"next guess: {guess}  {answer['score']:.1%}"
    said = f"not sure; best guess: {guess}  {answer['score']:.1%}"
    if foreign is None:
        return said
    what = " and ".join(name for name in ("image", "question") if foreign[name]) or "image or question"
    return f"{said}  ({what} unlike what it was trained on: the score means nothing)"


def open_folder(folder):
    """The pipeline of a saved folder; or of an exported one, for which torch isn't imported."""
    from dualvqa.deployment.answerer import open_pipeline

    if not is_exported(folder):
        hide_bars()
    return open_pipeline(folder)


def load_pipeline(folder):
    from modeling_dualvqa import DualVQAPipeline

    model, processor = load(folder)
    return DualVQAPipeline(model, processor)


def load(folder):
    from dualvqa.training.building import load_model

    hide_bars()
    return load_model(folder)


def hide_bars():
    """No bars of weights that are read in a second."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def explain(argv):
    """`dualvqa explain FOLDER IMAGE QUESTION`"""
    about = "Draws what would change an answer: places of the image, and words of the question."
    parser = new_parser("explain", about)
    add_question(parser)
    maps = f"maps to draw, of {', '.join(MAPS)} (default {MAPS[0]}); the last three need a saved model in PyTorch"
    parser.add_argument("--maps", nargs="+", choices=MAPS, default=MAPS[:1], metavar="MAP", help=maps)
    parser.add_argument("--answer", help="explain this answer; the model's own when left out")
    parser.add_argument("--output", default="explained.png", help="file to draw into (default explained.png)")
    args = read_question(parser, argv)
    if not os.path.isdir(os.path.dirname(args.output) or "."):
        raise ValueError(f"there is no folder {os.path.dirname(args.output)} to write {args.output} into")
    if not args.output.lower().endswith(DRAWINGS):
        raise ValueError(f"expected --output to end in one of {', '.join(DRAWINGS)}; found {args.output}")
    from dualvqa.trust.explanation import explain
    from dualvqa.trust.explanation_drawing import draw_explanation

    pipe = open_folder(args.folder)
    found = explain(pipe, args.image, args.question, args.answer, args.question_type, args.maps)
    draw_explanation(found, args.image, args.output)
    print(f"{found.answer} ({found.score:.1%}); written to {args.output}")
    for caution in found.cautions():
        print(f"  mind: {caution}")
    for example in found.evidence or ():
        print(f"  {example_in_words(example)}")


def compare(argv):
    """`dualvqa compare RUN RUN...`"""
    parser = new_parser("compare", "Compares evaluated runs on the same questions.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder with a report_rows.jsonl")
    parser.add_argument("--output", help="HTML page to write; without it the comparison is only printed")
    args = parse(parser, argv)
    if len(set(args.runs)) < 2:
        raise ValueError(f"expected two or more different runs, found {', '.join(args.runs)}")
    for run in args.runs:
        if not os.path.isfile(os.path.join(run, "report_rows.jsonl")):
            raise ValueError(f"{run} has no report_rows.jsonl: evaluate it first, with dualvqa evaluate")
    from dualvqa.reporting.compare import compare_runs

    compare_runs(args.runs, args.output)
