"""One model with and without a memory, for `memory_speed.py`: in PyTorch and in ONNX, and each one's peak memory."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from inference_models import dual, inputs
from pages import ROOT

PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
BATCH = 8  # of what is answered where the peak memory is looked at
WITH_PYTORCH = f"""
import sys, numpy, torch
from modeling_dualvqa import DualVQAForQuestionAnswering
model = DualVQAForQuestionAnswering.from_pretrained(sys.argv[1]).eval()
with torch.inference_mode():
    model(**{{name: torch.from_numpy(array) for name, array in numpy.load(sys.argv[3]).items()}})
{PEAK}
"""
WITH_ONNX = f"""
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
parts = zip(("vision", "text", "heads"), (sys.argv[1], sys.argv[1], sys.argv[2]))
sessions = {{part: onnxruntime.InferenceSession(f"{{place}}/{{part}}.onnx", options) for part, place in parts}}
known = dict(numpy.load(sys.argv[3]))
known["image_index"] = known["question_index"] = numpy.arange(len(known["input_ids"]))
for session in sessions.values():
    found = session.run(None, {{item.name: known[item.name] for item in session.get_inputs()}})
    known |= {{item.name: array for item, array in zip(session.get_outputs(), found)}}
{PEAK}
"""


class Forms:
    """
    Args:
        memories: number of examples -> [`Memory`] of `dual()`.
        folder: where the files go.
        with_onnx: whether ONNX files are written and measured.
    """

    def __init__(self, memories, folder, with_onnx=True):
        self.memories, self.folder = {None: None, **memories}, Path(folder)
        self.sessions = self.export() if with_onnx else {}

    def export(self):
        """Number of examples, None without -> an `OnnxModel`; towers are the same for all."""
        from dualvqa.deployment.onnx_export import export_onnx
        from dualvqa.deployment.onnx_pipeline import OnnxModel

        found, model = {}, dual()
        for count, memory in self.memories.items():
            model.memory = memory
            with torch.inference_mode(False):
                export_onnx(
                    model, self.folder / f"onnx_{count}", parts=["heads"] if count else ["vision", "text", "heads"]
                )
            own = OnnxModel.from_pretrained(self.folder / f"onnx_{count}", threads=torch.get_num_threads())
            own.sessions = {**(found[None].sessions if count else {}), **own.sessions}
            found[count] = own
        model.memory = None
        return found

    def calls(self, size):
        """Form -> number of examples -> what answers a batch of so many questions."""
        batch = inputs(224, size)
        found = {
            "PyTorch": {count: functools.partial(answer, memory, batch) for count, memory in self.memories.items()}
        }
        if self.sessions:
            found["ONNX"] = {count: functools.partial(model, **batch) for count, model in self.sessions.items()}
        return found

    def peaks(self):
        """Form -> number of examples -> peak MiB of a process that loads it and answers a batch."""
        batch, model, found = self.folder / "batch.npz", dual(), {"PyTorch": {}}
        np.savez(batch, **{name: tensor.numpy() for name, tensor in inputs(224, BATCH).items()})
        for count, memory in self.memories.items():
            model.config.memory, model.memory = memory and memory.settings, memory
            place = self.folder / f"torch_{count}"
            model.save_pretrained(place)
            found["PyTorch"][count] = peak(WITH_PYTORCH, place, place, batch)
            if self.sessions:
                places = self.folder / "onnx_None", self.folder / f"onnx_{count}"
                found.setdefault("ONNX", {})[count] = peak(WITH_ONNX, *places, batch)
        model.config.memory = model.memory = None
        return found


def answer(memory, batch):
    model = dual()
    model.memory = memory
    model(**batch)


def peak(code, *arguments):
    """MiB."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout.split()[-1]) / 1024
