"""Draws what spoke for an answer: python -m dualvqa.trust.explain FOLDER IMAGE QUESTION [--output explained.png]"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from transformers.utils import logging

from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import DualVQAProcessor

from .explanation import explain
from .explanation_drawing import draw_explanation


def parse_arguments():
    parser = argparse.ArgumentParser(prog="python -m dualvqa.trust.explain", description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path, help="a saved model")
    parser.add_argument("image", help="path or URL")
    parser.add_argument("question")
    parser.add_argument("--answer", help="explain this answer; the model's own when left out")
    parser.add_argument("--question_type", choices=("binary", "open_ended"), help="of the head that answers")
    parser.add_argument("--output", type=Path, default=Path("explained.png"))
    args = parser.parse_args()
    if not (args.folder / "config.json").is_file():
        parser.error(f"expected a saved model in {args.folder}, found no config.json there; `make demo` trains one")
    if not args.output.parent.is_dir():
        parser.error(f"no folder {args.output.parent} to write {args.output.name} into")
    endings = Figure().canvas.get_supported_filetypes()
    if args.output.suffix.lstrip(".").lower() not in endings:
        parser.error(f"expected --output to end in one of {', '.join(sorted(endings))}; found {args.output}")
    return args


def main():
    args = parse_arguments()
    logging.disable_progress_bar()
    try:
        model = DualVQAForQuestionAnswering.from_pretrained(args.folder)
        processor = DualVQAProcessor.from_pretrained(args.folder)
        found = explain((model, processor), args.image, args.question, args.answer, args.question_type)
        draw_explanation(found, args.image, args.output)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{found.answer} ({found.score:.1%}); written to {args.output}")


if __name__ == "__main__":
    main()
