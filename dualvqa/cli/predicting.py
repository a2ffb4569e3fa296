"""The commands about files of questions: predict, merge."""

import logging
import os

from dualvqa.run.flags import load_flags

from . import runs
from .asking import TYPES, check_coverage, hide_bars, new_parser, parse
from .folders import check_answering

ABOUT = """Answers the questions of a file, or of several as 'shards/*.parquet', into a file that grows row by row;
started again it goes on. Without --output it is a run like evaluate, with the settings of a recipe and --test_file: it
scores rows that have answers, and holds all of them; its flags: dualvqa predict --help-all."""
# Of `DataArguments`, as `dualvqa train` has them.
OF_DATA = """image_dir image_dir_only max_image_megapixels image_column question_column csv_separator csv_encoding
excel_sheet""".split()
OUTPUTS = (".jsonl", ".csv", ".parquet")  # of dualvqa.prediction.outputs, which is not imported here
COVERAGE = "as many answers as it takes for the right one to be among them in this share of cases, such as 0.9"
NUMBERS = {"top_k": "answers of each question, best first (default 5)"}
NUMBERS |= {"batch_size": "questions that are answered together (default 128)"}
NUMBERS |= {"workers": "threads that read images; of the machine when left out"}


def predict(argv):
    """`dualvqa predict FOLDER DATA --output FILE`, or as a run `dualvqa predict FOLDER [RECIPE] [--flag value ...]`"""
    to_file = any(argument.partition("=")[0] == "--output" for argument in argv)
    if to_file or {"-h", "--help"} & set(argv):
        return predict_file(argv)
    return runs.predict(argv)


def predict_file(argv):
    parser = new_parser("predict", ABOUT)
    parser.add_argument("folder", help="a saved model, its id on the Hub, or what dualvqa export wrote")
    about = "a file, or a pattern of several in quotes: JSON Lines, CSV, Parquet, .tar, ...; or a data set on the Hub"
    parser.add_argument("data", help=f"{about}, or a folder laid out as one")
    parser.add_argument("--split", help="of a data set on the Hub or a folder; test when left out, or the only one")
    parser.add_argument("--output", required=True, help="the file to write, ending in .jsonl, .csv or .parquet")
    parser.add_argument("--shard", help="3/16: only the third of sixteen parts, into OUTPUT-00003-of-00016.jsonl")
    parser.add_argument("--question_type", choices=TYPES, help="of the head that answers; the model chooses otherwise")
    parser.add_argument("--coverage", type=float, help=COVERAGE)
    parser.add_argument("--device", help="such as cuda:1; a GPU if there is one when left out")
    for name, about in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, help=about)
    flags = load_flags()
    for name in OF_DATA:
        switch = {"action": "store_true"} if flags[name].is_switch else {}
        parser.add_argument(f"--{name}", help=flags[name].help.replace("%", "%%"), **switch)
    args = parse(parser, argv)
    check_answering(args.folder)
    check_coverage(args.coverage)
    if os.path.splitext(args.output)[1].lower() not in OUTPUTS:
        raise ValueError(f"expected --output to end in {', '.join(OUTPUTS)}; found {args.output}")
    if not set("*?[") & set(args.data) and not os.path.exists(args.data) and not may_be_on_hub(args.data):
        raise ValueError(f"expected a file of questions, found {args.data}: no such file")
    given = {name: value for name, value in vars(args).items() if value is not None and value is not False}
    of_data = {name: flags[name].read_text(given.pop(name)) for name in OF_DATA if name in given}
    from dualvqa.prediction.predict import predict
    from processing import DataArguments
    from processing.wording import command_line

    show_messages()
    with command_line():
        predict(given.pop("folder"), given.pop("data"), given.pop("output"), DataArguments(**of_data), **given)


def may_be_on_hub(data):
    """Whether a name may be OWNER/NAME: a file's has an ending, or a folder that is there."""
    owner, _, name = data.partition("/")
    return bool(name) and "/" not in name and "." not in name and not os.path.exists(owner) and owner.strip(".~") != ""


def merge(argv):
    """`dualvqa merge OUTPUT`"""
    parser = new_parser("merge", "Puts the parts together that predict --shard wrote, once all of them are whole.")
    parser.add_argument("output", help="as it was given to predict")
    args = parse(parser, argv)
    from dualvqa.prediction.parts import merge_predictions

    print(f"{args.output}: {merge_predictions(args.output):,} rows")


def show_messages():
    """What is told while a file is answered."""
    logging.basicConfig(format="%(message)s")
    for name in ("dualvqa", "processing"):
        logging.getLogger(name).setLevel(logging.INFO)
    hide_bars()
