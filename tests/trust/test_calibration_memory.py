"""Calibration and an evaluation's figures, computed on a few rows at a time."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import EvalPrediction

from dualvqa.trust.arguments import CalibrationArguments
from dualvqa.trust.calibrating import calibration_of
from dualvqa.trust.calibration import LabelledLogits
from dualvqa.trust.metrics import score_figures
from dualvqa.trust.reliability import brier_score
from processing import AnswerMetrics, DualVQAProcessor, named_logits


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = {
            tensor.untyped_storage().data_ptr() for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)
        }
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


def many_answers(rows=600, answers=1500):
    """A processor that is never asked for pixels or tokens, arrays and rows with half of the best answers right."""
    processor = DualVQAProcessor.__new__(DualVQAProcessor)
    processor.answers, processor.memory_answers = [f"word{n}" for n in range(answers)], []
    processor.calibration = None
    generator = np.random.default_rng(0)
    arrays = tuple(generator.standard_normal((rows, width), dtype=np.float32) for width in (2, answers, 2))
    best = [arrays[row % 2][row].argmax() if row % 3 else row % 2 for row in range(rows)]
    given = [f"word{place}" if row % 2 else ("no", "yes")[place] for row, place in enumerate(best)]
    return processor, arrays, {"answer": given, "image_key": [f"image {row // 4}" for row in range(rows)]}


@pytest.mark.slow
def test_calibration_and_figures_copy_no_more_than_a_part_of_the_logits(monkeypatch):
    processor, arrays, rows = many_answers()
    monkeypatch.setattr("processing.outputs.CHUNK", 2**16)
    args = CalibrationArguments(max_risk=0.6)
    size = arrays[1].nbytes
    tracemalloc.start()  # numpy's arrays; those of torch are counted by the mode
    try:
        with LargestTensor() as tensors:
            calibration_of(processor, named_logits(arrays, processor), rows, args)
            AnswerMetrics(processor, rows["answer"], further=score_figures)(EvalPrediction(arrays, None))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert tensors.largest < size / 4 and peak < 2 * size


def test_temperatures_that_make_the_error_larger_are_warned_of(monkeypatch, caplog):
    processor, arrays, rows = many_answers(rows=300, answers=40)
    found = {"routed_ece_before": 0.054, "routed_ece_after": 0.09}
    monkeypatch.setattr("dualvqa.trust.calibrating.before_and_after", lambda *_: found)
    calibration_of(processor, named_logits(arrays, processor), rows, CalibrationArguments())
    assert "are off by 5.4 % on average, and by 9.0 % with temperatures that were fitted on other images" in caplog.text


def test_pieces_give_what_all_rows_at_once_give(monkeypatch):
    processor, arrays, rows = many_answers(rows=300, answers=40)
    found = []
    for chunk in (2**20, 2**10):
        monkeypatch.setattr("processing.outputs.CHUNK", chunk)
        labelled = LabelledLogits(processor, named_logits(arrays, processor), rows["answer"], rows["image_key"])
        found.append(labelled.errors(labelled.cross_fitted(labelled.heads)) | labelled.temperatures(labelled.heads))
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    logits = torch.as_tensor(arrays[1])
    probabilities = logits.softmax(-1)[labelled.rows_of("open_ended")].numpy()
    plain = brier_score(probabilities, labelled.labels["open_ended"][labelled.rows_of("open_ended")])
    assert labelled.errors(labelled.ranked({}))["open_ended_brier"] == pytest.approx(plain, rel=1e-6)
