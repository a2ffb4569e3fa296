"""Questions a second of `dualvqa predict`, by what answers and by what is read and written.

python benchmarks/prediction.py --folder runs/easy_vqa [--output docs/results/prediction.md]

Rows are questions of easy-VQA's test part, in its order: several about one image behind one another. Each way is a
process of its own, whose start and loading don't count: the rate is the one that the command says at its end.
"""

import json
import logging
import sys
import tempfile
from pathlib import Path
from statistics import median

from easy_vqa import get_test_image_paths, get_test_questions
from measure import machine
from pages import ROOT, build_parser, command, run_alone, table

sys.path.insert(0, str(ROOT))

# What answers, the file that is read, and the one that is written.
WAYS = [
    ("PyTorch", "rows.jsonl", "jsonl"),
    ("float32", "rows.jsonl", "jsonl"),
    ("int8", "rows.jsonl", "jsonl"),
    ("int8", "rows.parquet", "parquet"),
    ("int8", "rows.csv", "csv"),
]


def write_rows(folder, count):
    """Writes the same rows as JSON Lines, CSV and Parquet."""
    import pandas

    paths, questions = get_test_image_paths(), list(zip(*get_test_questions()))
    chosen = [questions[number % len(questions)] for number in range(count)]
    rows = pandas.DataFrame({"image": [paths[image] for *_, image in chosen], "question": [row[0] for row in chosen]})
    rows.to_json(folder / "rows.jsonl", orient="records", lines=True)
    rows.to_csv(folder / "rows.csv", index=False)
    rows.to_parquet(folder / "rows.parquet")


def export(model, folder):
    """The model's folder by what answers from it."""
    from dualvqa.deployment.onnx_export import export_onnx

    folders = {"PyTorch": model}
    for quantization in (None, "int8"):
        name = quantization or "float32"
        export_onnx(model, folder / name, quantization=quantization)
        folders[name] = str(folder / name)
    return folders


def predict(model, data, output):
    """Predicts in this process, and prints what it says at the end."""
    from dualvqa import predict

    logging.basicConfig(level=logging.WARNING)
    print(json.dumps(predict(model, data, output, device="cpu")))


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--folder", help="a saved model")
    parser.add_argument("--questions", type=int, default=9673, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--predict", nargs=3, help="model, data and output: what a process of its own does")
    args = parser.parse_args()
    if args.predict:
        return predict(*args.predict)
    rates = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, args.questions)
        folders = export(args.folder, folder)
        for turn in range(args.rounds):
            for number, (model, data, end) in enumerate(WAYS):
                output = folder / f"answers_{turn}_{number}.{end}"
                said = run_alone("--predict", folders[model], folder / data, output)
                assert said["rows"] == args.questions and not said["bad"], said
                rates[model, data, end].append(said["per_second"])
    middle = {way: median(found) for way, found in rates.items()}
    lines = [
        [
            model,
            data.partition(".")[2],
            f"{found:,.0f}",
            f"{found / middle[WAYS[0]]:.2f}",
            spread(rates[model, data, end]),
        ]
        for (model, data, end), found in middle.items()
    ]
    text = table(["answered by", "rows of", "questions/s", "of PyTorch's", "rounds"], lines)
    text += f"\n{args.questions:,} questions, {args.rounds} rounds. {machine()}.\n"
    fastest = max(middle.values())
    heading = (
        f"**Found:** `dualvqa predict` answers {middle[WAYS[0]]:,.0f} questions a second with the saved model and up "
        f"to {fastest:,.0f} with an exported one: a million questions take {1e6 / fastest / 60:,.0f} minutes."
    )
    print(heading, text, sep="\n\n")
    if args.output:
        text = f"# Speed of prediction\n\n{heading}\n\nWritten by\n\n```bash\n{command()}\n```\n\n{text}"
        args.output.write_text(text, encoding="utf-8")  # what was found is said anew


def spread(rates):
    return f"{min(rates):,.0f} to {max(rates):,.0f}"


if __name__ == "__main__":
    main()
