"""How long one explanation takes: of a saved model in PyTorch, and of its 8-bit export without."""

import tempfile
import time

import numpy as np
import torch
from explanation_questions import asked, validation_questions
from explanation_rows import kept, load
from pages import table

from dualvqa.deployment.onnx_export import export_onnx
from dualvqa.trust.explanation import explain
from dualvqa_light import LightPipeline
from modeling_dualvqa import DualVQAPipeline

REPEATS = 5


def time_table(args):
    """Fields of the page: `times`, `repeats`, `threads`."""
    rows = kept(args.rows / "times.jsonl", lambda: measured_times(args))
    lines = []
    for row in rows:
        seconds = row["seconds"]
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        lines.append([row["model"], row["runtime"], row["size"], f"{np.median(seconds):.2f}", spread])
    head = ["model", "runtime", "image as the model sees it", "seconds", "from .. to"]
    return {"times": table(head, lines), "repeats": len(rows[0]["seconds"]), "threads": rows[0]["threads"]}


def measured_times(args):
    """A dict for each runtime of the first model, and of that of radiology."""
    found = []
    for folder in [args.models[0], *([args.radiology] if args.radiology else [])]:
        if folder == args.radiology:
            questions = validation_questions(folder, args.radiology_data, REPEATS + 1, 0)
        else:
            questions = asked(REPEATS + 1, 0)
        model, processor = load(folder)
        size = processor.image_processor.size
        told = {"model": folder.name, "threads": torch.get_num_threads(), "size": f"{size.width} x {size.height}"}
        with tempfile.TemporaryDirectory() as aside:
            export_onnx(model, aside, processor=processor, quantization="int8")
            pipes = {
                "PyTorch": DualVQAPipeline(*load(folder)),
                "light, int8": LightPipeline(aside, threads=torch.get_num_threads()),
            }
            for runtime, pipe in pipes.items():
                found.append({**told, "runtime": runtime, "seconds": seconds_of(pipe, questions)})
    return found


def seconds_of(pipe, questions):
    """Of each question but the first."""
    seconds = []
    for path, question, _ in questions:
        start = time.perf_counter()
        explain(pipe, path, question)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
