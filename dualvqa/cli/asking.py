"""The commands about single questions and several runs: ask, explain, compare."""

import json
import os

from dualvqa.run.flags import Parser
from dualvqa.run.values import hint

from .folders import check_answering, check_folder, check_image

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
    parser.add_argument("folder", help="a saved model, or its id on the Hub")
    parser.add_argument("image", help="its file or URL")
    parser.add_argument("question", nargs="+" if several else None)
    parser.add_argument("--question_type", choices=TYPES, help="of the head that answers; the model chooses otherwise")


def read_question(parser, argv, check=check_folder):
    args = parse(parser, argv)
    check(args.folder)
    check_image(args.image)
    return args


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
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each question")
    args = read_question(parser, argv)
    for number, question in enumerate(args.question, 1):
        if not question.strip():
            raise ValueError(f"question {number} of {len(args.question)} is empty; nothing was asked")
    if args.top_k < 1:
        raise ValueError(f"--top_k must be a whole number, at least 1; found {args.top_k}")
    pipe = load_pipeline(args.folder)
    options = {"question_type": args.question_type, "coverage": args.coverage, "group": args.group}
    found = pipe(args.image, args.question, top_k=args.top_k, **options)
    width = max(map(len, args.question))
    for question, answers in zip(args.question, found):
        if args.json:
            print(json.dumps({"question": question, "answers": answers}, ensure_ascii=False))
            continue
        for place, line in enumerate(lines_of(answers, args.coverage is not None)):
            print(f"{'' if place else question:<{width}}  {line}")


def lines_of(answers, is_set=False):
    """A question's answers as lines; of a large set the most probable ones."""
    lines = [shown(answer, place) for place, answer in enumerate(answers)]
    if not is_set:
        return lines
    if len(lines) > SHOWN:
        more = f"and {len(lines) - SHOWN:,} more; --json prints all"
        lines = [f"{len(lines):,} answers, the {SHOWN} most probable:", *lines[:SHOWN], more]
    return [*lines, said_of_set(answers)]


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
    args = read_question(parser, argv, check_answering)
    if not os.path.isdir(os.path.dirname(args.output) or "."):
        raise ValueError(f"there is no folder {os.path.dirname(args.output)} to write {args.output} into")
    if not args.output.lower().endswith(DRAWINGS):
        raise ValueError(f"expected --output to end in one of {', '.join(DRAWINGS)}; found {args.output}")
    from dualvqa.deployment.answerer import open_pipeline
    from dualvqa.trust.explanation import explain
    from dualvqa.trust.explanation_drawing import draw_explanation

    hide_bars()
    pipe = open_pipeline(args.folder)
    found = explain(pipe, args.image, args.question, args.answer, args.question_type, args.maps)
    draw_explanation(found, args.image, args.output)
    print(f"{found.answer} ({found.score:.1%}); written to {args.output}")
    for caution in found.cautions():
        print(f"  mind: {caution}")
    for example in found.evidence or ():
        about, similarity = example["image"] or "an image without a name", example["similarity"]
        print(f"  from the memory: {example['question']!r} {example['answer']} ({about}, similarity {similarity:.2f})")


def compare(argv):
    """`dualvqa compare RUN RUN...`"""
    parser = new_parser("compare", "Compares evaluated runs on the same questions.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder with a report_rows.jsonl")
    parser.add_argument("--output", help="HTML page to write; without it the comparison is only printed")
    args = parse(parser, argv)
    for run in args.runs:
        if not os.path.isfile(os.path.join(run, "report_rows.jsonl")):
            raise ValueError(f"{run} has no report_rows.jsonl: evaluate it first, with dualvqa evaluate")
    from dualvqa.reporting.compare import compare_runs

    compare_runs(args.runs, args.output)
