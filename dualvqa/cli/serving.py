"""The commands about saved models that others ask: serve, renew."""

import os

from dualvqa.run.flags import Parser

from .asking import hide_bars, load, new_parser, parse
from .folders import check_folder, is_exported


def serve(argv):
    """`dualvqa serve FOLDER [--flag value ...]`"""
    from dualvqa_light.serve import serve as run_server
    from dualvqa_light.serve import serve_parser
    from dualvqa_light.server_settings import read_flags

    args = parse(serve_parser("dualvqa serve", Parser), argv)
    settings = read_flags(args)
    if is_exported(args.folder):
        return run_server(args.folder, settings)  # without importing torch
    check_folder(args.folder)
    from dualvqa.deployment.answerer import open_pipeline

    hide_bars()
    run_server(args.folder, settings, open_pipeline)


def renew(argv):
    """`dualvqa renew FOLDER`"""
    parser = new_parser("renew", "Saves a model anew: with the code, the card and the handler of this version.")
    parser.add_argument("folder", help="a saved model, or its id on the Hub")
    parser.add_argument("--output_dir", help="folder to save into; that of the model when left out")
    args = parse(parser, argv)
    folder = check_folder(args.folder)
    if not (args.output_dir or os.path.isdir(folder)):
        raise ValueError(f"{folder} is on the Hub: give --output_dir, a folder to save into")
    from dualvqa.training.output_folder import claimed, written_whole

    model, processor = load(folder)
    place = args.output_dir or folder
    with claimed(place), written_whole(place) as aside:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
    print(f"Saved in {place}: the weights as they were, with the code of this version.")
