"""What 8-bit weights cost in accuracy: trained models answered as they are, in int8, and by onnxruntime.

python benchmarks/quantization.py --output docs/results/quantization.md [--vqa_rad FLAGS OF run_vqa.py ...]

Runs are short: easy-VQA 3 epochs of its recipe, VQA-RAD 6 with images of 128 pixels. They go to runs/quantization,
and one that is finished already is not run again. FLAGS replace settings of recipes/vqa_rad.yaml, for files in place of
the Hub's data set and towers.
"""

import argparse
import io
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from measure import machine
from pages import ROOT, build_parser, command, table, write_page
from PIL import Image
from seeds import run
from task_weighting import DATASETS, SHORT

sys.path.insert(0, str(ROOT))

SEEDS = (42, 0, 1)
FORMS = ("fp32", "int8", "ONNX", "ONNX int8")
NOTE = """# Accuracy of 8-bit models

Written by

```bash
{command}
```

{machine}. Routed accuracy (the model chooses the head) in %, and how it differs from the same model's in fp32, mean ±
standard deviation over seeds {seeds}. *Same answers* are those that equal the fp32 model's. easy-VQA: 3 epochs of
its recipe, official test part; VQA-RAD: 6 epochs with images of 128 pixels, validation part, whose images training
doesn't see. All through the pipeline, which pads a batch's questions to the longest.
"""


def rows_of(flags):
    """The rows that a run is scored on."""
    from dualvqa.run.arguments import parse_arguments
    from processing import prepare_datasets

    _, data_args, _ = parse_arguments(flags)
    parts, *_ = prepare_datasets(data_args)
    return parts["test" if "test" in parts else "validation"]


def opened(rows):
    for row in rows:
        image = row["image"]
        if isinstance(image, dict):
            image = Image.open(io.BytesIO(image["bytes"]) if image.get("bytes") else image["path"])
        yield {"image": image, "question": row["question"]}


def pipelines(folder):
    """form -> a pipeline on a saved folder."""
    from dualvqa.deployment.onnx_export import export_onnx
    from dualvqa.deployment.onnx_pipeline import load_onnx_pipeline
    from dualvqa.deployment.optimize import optimize_for_inference
    from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
    from processing import DualVQAProcessor

    model = DualVQAForQuestionAnswering.from_pretrained(folder)
    processor = DualVQAProcessor.from_pretrained(folder)
    for form in FORMS:
        quantization = "int8" if "int8" in form else None
        if form.startswith("ONNX"):
            with tempfile.TemporaryDirectory() as exported:
                export_onnx(folder, exported, quantization=quantization)
                yield form, load_onnx_pipeline(exported)
        else:
            yield form, DualVQAPipeline(optimize_for_inference(model, quantization), processor)


def score(folder, rows):
    """form -> (accuracy, share of answers that equal the first form's), in %."""
    from processing.metrics import answer_score

    found, first = {}, None
    for form, pipe in pipelines(folder):
        answers = [best[0]["answer"] for best in pipe(opened(rows), batch_size=32)]
        first = first or answers
        right = mean(answer_score(answer, row["answer"]) for answer, row in zip(answers, rows))
        found[form] = 100 * right, 100 * mean(a == b for a, b in zip(answers, first))
        print(f"{folder.name} {form}: {found[form][0]:.2f} %, {found[form][1]:.2f} % same", flush=True)
    return found


def spread(values, sign=""):
    return f"{mean(values):{sign}.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:{sign}.2f}"


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs/quantization")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--data", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--vqa_rad", nargs=argparse.REMAINDER, default=[])
    args = parser.parse_args()
    lines = []
    for data in args.data:
        recipe, found = str(ROOT / f"recipes/{data}.yaml"), []
        for seed in args.seeds:
            flags = [*SHORT, *DATASETS[data], "--seed", str(seed), *(args.vqa_rad if data == "vqa_rad" else [])]
            folder = args.runs / f"{data}_{seed}"
            run(recipe, folder, flags, os.cpu_count())
            rows = rows_of([recipe, *flags, "--output_dir", str(folder)])
            found.append(score(folder, rows))
        for form in FORMS:
            accuracies = [one[form][0] for one in found]
            differences = [one[form][0] - one[FORMS[0]][0] for one in found]
            same = [one[form][1] for one in found]
            lines.append([data, form, len(rows), spread(accuracies), spread(differences, "+"), spread(same)])
    text = NOTE.format(command=command(), machine=machine(), seeds=", ".join(map(str, args.seeds)))
    text += "\n" + table(["data", "form", "questions", "accuracy", "difference", "same answers"], lines)
    write_page(args.output, text)
    print(text)


if __name__ == "__main__":
    main()
