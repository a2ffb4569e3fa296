"""The command that writes a saved model in another form: export."""

import json
import logging
import os

from .asking import TYPES, hide_bars, new_parser, parse
from .folders import check_folder

TARGETS = {
    "onnx": "ONNX files, and all that answering with them needs",
    "web": "a page that answers in the browser",
    "space": "a Gradio Space",
    "transformers.js": "the files that transformers.js looks for",
}

# Flags that not every target has.
OPTIONS = {"whole": ("onnx",), "examples": ("web", "space"), "heads": ("onnx", "web", "transformers.js")}
OPTIONS |= {"quantization": ("onnx", "web"), "evidence": ("onnx",)}


def export(argv):
    """`dualvqa export FOLDER OUTPUT_DIR`"""
    parser = new_parser("export", "Writes a saved model in another form.")
    parser.add_argument("folder", help="a saved model")
    parser.add_argument("output_dir", help="folder to write into")
    about = "; ".join(f"{name}: {text}" for name, text in TARGETS.items())
    parser.add_argument("--to", choices=TARGETS, default="onnx", help=f"{about} (default onnx)")
    parser.add_argument("--heads", nargs="+", choices=TYPES, help="both when left out")
    parser.add_argument("--quantization", choices=["float16", "int8", "none"], help="default int8 for web, else none")
    parser.add_argument("--whole", action="store_true", help="onnx: besides, towers and heads together in model.onnx")
    about = "onnx: besides, the texts of the memory's examples, which the light runtime shows as evidence"
    parser.add_argument("--evidence", action="store_true", help=about)
    parser.add_argument("--examples", help="web, space: JSON Lines with image and question, which the page offers")
    args = parse(parser, argv)
    check_folder(args.folder)
    for flag, targets in OPTIONS.items():
        if getattr(args, flag) and args.to not in targets:
            raise ValueError(f"--{flag} is for --to {' and '.join(targets)}; found --to {args.to}")
    examples = read_examples(args.examples) if args.examples else ()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dualvqa").setLevel(logging.INFO)  # of no other library: torch's exporter tells all that it does
    hide_bars()
    quantization = args.quantization or ("int8" if args.to == "web" else "none")
    options = {"heads": args.heads, "quantization": None if quantization == "none" else quantization}
    if args.to == "web":
        from dualvqa.deployment.web_export import export_web

        export_web(args.folder, args.output_dir, examples=examples, **options)
    elif args.to == "space":
        from dualvqa.deployment.space_export import export_space

        export_space(args.folder, args.output_dir, examples=examples)
    elif args.to == "transformers.js":
        from dualvqa.deployment.transformers_js_export import export_transformers_js

        export_transformers_js(args.folder, args.output_dir, heads=args.heads)
    else:
        from dualvqa.deployment.evidence_export import read_evidence, without_evidence, write_evidence
        from dualvqa.deployment.onnx_export import SEPARATE, export_onnx

        evidence = read_evidence(args.folder) if args.evidence else without_evidence(args.output_dir)
        export_onnx(args.folder, args.output_dir, parts=(*SEPARATE, "model") if args.whole else SEPARATE, **options)
        if evidence is not None:
            write_evidence(evidence, args.output_dir)


def read_examples(path):
    """The images of a file of JSON Lines, found from its folder, each with its questions.

    Raises:
        ValueError: there is no such file, or a line or image of it can't be read.
    """
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path} with examples")
    questions = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                image, question = os.path.join(os.path.dirname(path), row["image"]), row["question"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number} of {path} has no image and question as JSON: {error!r}") from error
            if not os.path.isfile(image):
                raise ValueError(f"line {number} of {path}: there is no image {image}")
            questions.setdefault(image, []).append(question)
    return [{"image": image, "questions": asked} for image, asked in questions.items()]
