"""Extra memory of calibration and of an evaluation's figures, as a multiple of the logits that they work on.

python benchmarks/calibration_memory.py [--rows 1000 4000] [--answers 20000]
    [--output docs/results/calibration_memory.md]

Makes logits at random and answers that half of them are right about, and computes, each in a process of its own, what a
run computes of its validation part: `AnswerMetrics`, the figures, and `calibration_of`, temperatures fitted on all
images and five times on four fifths of them, calibration errors before and after, and the threshold for a risk.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from pathlib import Path

import numpy as np
from pages import ROOT, build_parser, command, run_alone, table, write_page

PER_IMAGE = 4
WARM_UP = (200, 50)  # rows and answers of what is computed before anything is measured: libraries take memory too


def make_case(rows, answers):
    """A processor, the Trainer's arrays, and rows: every other question is a yes/no one."""
    sys.path.insert(0, str(ROOT))
    from processing import DualVQAProcessor

    class Vocabulary(DualVQAProcessor):
        """A processor without tokenizer and image processor: calibration needs neither."""

        def __init__(self):
            self.answers, self.calibration = [f"answer number {n}" for n in range(answers)], None

    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((rows, width), dtype=np.float32) for width in (2, answers, 2)]
    right = generator.random(rows) < 0.5
    given = []
    for row in range(rows):
        place = int(arrays[row % 2][row].argmax()) if right[row] else int(generator.integers((2, answers)[row % 2]))
        given.append(f"answer number {place}" if row % 2 else ("no", "yes")[place])
    return Vocabulary(), arrays, {"answer": given, "image_key": [f"image {row // PER_IMAGE}" for row in range(rows)]}


def evaluate(processor, arrays, rows):
    from transformers import EvalPrediction

    from processing import AnswerMetrics

    AnswerMetrics(processor, rows["answer"])(EvalPrediction(tuple(arrays), None))


def calibrate(processor, arrays, rows):
    from dualvqa.trust.arguments import CalibrationArguments
    from dualvqa.trust.calibrating import calibration_of
    from processing import named_logits

    calibration_of(processor, named_logits(tuple(arrays), processor), rows, CalibrationArguments(max_risk=0.6))


TASKS = {"figures": evaluate, "calibration": calibrate}


def resident():
    """Memory of this process now, in bytes."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(task, rows, answers):
    """Does one task in this process; prints its seconds, and its peak memory beyond what it started with."""
    TASKS[task](*make_case(*WARM_UP))
    case = make_case(rows, answers)
    before, started = resident(), time.perf_counter()
    TASKS[task](*case)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    logits = sum(array.nbytes for array in case[1])
    print(json.dumps({"logits": logits, "extra": max(0, peak - before), "seconds": seconds}))


def main():
    parser = build_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        return measure(args.task, args.rows[0], args.answers)
    lines = []
    for rows in args.rows:
        for task in TASKS:
            found = run_alone("--task", task, "--rows", rows, "--answers", args.answers)
            logits, extra = found["logits"] / 2**20, found["extra"] / 2**20
            cells = [f"{rows:,}", f"{logits:,.0f}", f"{extra:,.0f}", f"{extra / logits:.2f}", f"{found['seconds']:.1f}"]
            lines.append([task, *cells])
    text = table(["", "questions", "logits, MiB", "extra memory, MiB", "of the logits", "s"], lines)
    text += f"\n{args.answers:,} answers; {os.cpu_count()} cores ({platform.machine()}).\n"
    print(text)
    if args.output:
        write_page(args.output, f"# Memory of calibration\n\n```bash\n{command()}\n```\n\n{text}")


if __name__ == "__main__":
    main()
