"""The command that changes a saved model's memory: teach."""

import os

from .asking import load_pipeline, new_parser, parse
from .folders import check_folder

HOW = {  # a table is read
    "csv_separator": "what separates the cells of CSV",
    "csv_encoding": "encoding of CSV",
    "excel_sheet": "sheet of an Excel file",
}


def teach(argv):
    """`dualvqa teach FOLDER FILE`"""
    parser = new_parser("teach", "Teaches a saved model answers, which count from the next question on.")
    parser.add_argument("folder", help="a saved model that was trained with --memory")
    parser.add_argument(
        "file", help="questions about images with answers: CSV, TSV, Excel, JSON Lines, JSON or Parquet"
    )
    parser.add_argument("--image_dir", help="folder that relative image paths start from; the file's when left out")
    for name in ("image", "question", "answer"):
        parser.add_argument(f"--{name}_column", help=f"column with the {name}s; as in training when left out")
    for name, what in HOW.items():
        parser.add_argument(f"--{name}", help=f"{what}; found out when left out")
    about = "stop at a row that can't be used, or leave it out (default error)"
    parser.add_argument("--on_bad_example", choices=("error", "skip"), default="error", help=about)
    parser.add_argument("--remove", action="store_true", help="take what was taught about these questions out again")
    parser.add_argument("--output_dir", help="folder to save into; that of the model when left out")
    args = parse(parser, argv)
    folder = check_folder(args.folder)
    if not os.path.isfile(args.file):
        raise ValueError(f"there is no file {args.file} with what is to be taught")
    if not (args.output_dir or os.path.isdir(folder)):
        raise ValueError(f"{folder} is on the Hub: give --output_dir, a folder to save into")
    from dualvqa.run.quiet import quiet
    from dualvqa.training.output_folder import claimed, written_whole
    from dualvqa.training.record import remembered_columns
    from processing import DataArguments, prepare_dataset
    from processing.wording import command_line

    where = os.path.dirname(args.file) if args.image_dir is None else args.image_dir
    read = ["on_bad_example", *HOW, *(f"{name}_column" for name in ("image", "question", "answer"))]
    data = DataArguments(image_dir=where or None, **{name: getattr(args, name) for name in read})
    pipe = load_pipeline(folder)
    data.remembered_columns = remembered_columns(pipe.model)
    with command_line(), quiet():
        rows = prepare_dataset(args.file, data_args=data, needs_answers=not args.remove, name=args.file)
    with claimed(args.output_dir or folder):
        said = removed(pipe, rows) if args.remove else taught(pipe, rows, where)
        with written_whole(args.output_dir or folder) as aside:
            pipe.model.save_pretrained(aside)
            pipe.processor.save_pretrained(aside)
    print(f"{said} Saved in {args.output_dir or folder}.")


def taught(pipe, rows, image_dir):
    """Teaches rows, and says what that was."""
    from dualvqa.trust.remembering import image_names
    from processing.answers import AnswerRules

    answers = list(map(AnswerRules.of(pipe.processor).as_written, rows["answer"][:]))
    before, words = counts(pipe), set(pipe.processor.memory_answers)
    lessons = pipe.memory.add(images_of(rows), rows["question"][:], answers, image_names(rows, image_dir))
    after, new = counts(pipe), [word for word in pipe.processor.memory_answers if word not in words]
    replaced = lessons - (after["taught"] - before["taught"])
    corrected = after["hidden"] - before["hidden"]
    said = [f"Taught {lessons:,} answers, {replaced:,} of them in place of others that were taught."]
    if lessons < len(rows):
        said.append(f"{len(rows) - lessons:,} rows gave way to later ones about the same question and image.")
    if corrected > 0:
        said.append(f"{corrected:,} training examples of the same question and image are hidden by them.")
    if new:
        shown = ", ".join(new[:10]) + (", ..." if len(new) > 10 else "")
        said.append(f"New answers, which no head knows: {shown}.")
    return " ".join([*said, f"The memory has {len(pipe.memory):,} examples."])


def removed(pipe, rows):
    """Takes taught answers out again, and says how many."""
    before, words = counts(pipe), len(pipe.processor.memory_answers)
    pipe.memory.remove(images_of(rows), rows["question"][:])
    after = counts(pipe)
    gone = words - len(pipe.processor.memory_answers)
    lost = f" and {gone:,} answers that nothing else has" if gone else ""
    number = before["taught"] - after["taught"]
    return f"Removed {number:,} taught answers{lost}. The memory has {len(pipe.memory):,} examples."


def counts(pipe):
    memory = pipe.model.memory
    return {name: 0 if memory is None else int(getattr(memory, name).sum()) for name in ("taught", "hidden")}


def images_of(rows):
    """The images, by their paths or as they lie in the file."""
    from processing.image_loading_dualvqa import load_image
    from processing.image_sources_dualvqa import CHECKED

    return [image["path"] if image["bytes"] is None else load_image(image, CHECKED) for image in rows["image"][:]]
