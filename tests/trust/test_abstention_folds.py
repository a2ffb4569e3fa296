"""The page about promises from folds: its figures are those that the answers themselves give."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import ROOT

from dualvqa.trust.calibration import LabelledLogits

IMAGES, COUNT = 90, 360


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import abstention_folds

    return abstention_folds


@pytest.fixture
def parts(processor):
    """Two folds of four questions about each image, whose right answers are as likely as their logits say."""
    generator, found = torch.Generator().manual_seed(0), []
    for fold in range(2):
        binary, words = (2 * torch.randn(COUNT // 2, n, generator=generator) for n in (2, 3))
        yes, index = (
            logits.softmax(-1).multinomial(1, generator=generator)[:, 0].tolist() for logits in (binary, words)
        )
        types = torch.arange(COUNT // 2) % 2
        answers = [
            ("no", "yes")[b] if t == 0 else "purple" if n % 20 == 1 else processor.answers[o]
            for n, (t, b, o) in enumerate(zip(types, yes, index))
        ]
        router = 6.0 * torch.nn.functional.one_hot(types)
        outputs = {"binary_logits": binary, "open_ended_logits": words, "question_type_logits": router}
        keys = [f"{fold} {n // 4}" for n in range(COUNT // 2)]
        found.append(LabelledLogits(processor, outputs, answers, keys))
    return found


ARGS = SimpleNamespace(splits=2, seed=0, max_risk=[0.5], error_rate=[0.2], coverage=[0.8], risk_confidence=0.95)


def test_its_sets_and_thresholds_are_those_that_the_processor_gives(benchmark, parts, processor, monkeypatch):
    """For each split: the calibration that was found is given to the processor, which answers the other half."""
    promised = []
    import dualvqa.trust.abstention as abstention
    import dualvqa.trust.prediction_sets as prediction_sets

    fit_sets, choose = prediction_sets.fit_sets, abstention.choose_threshold
    kept = lambda function: lambda *given: promised.append(function(*given)) or promised[-1]  # noqa: E731
    monkeypatch.setattr(prediction_sets, "fit_sets", kept(fit_sets))
    monkeypatch.setattr(abstention, "choose_threshold", kept(choose))
    splits = list(benchmark.measure(parts, ARGS))
    images = np.concatenate([part.images for part in parts])
    for number, (here, there) in enumerate(benchmark.halves(images, 2, 0)):
        threshold, sets = (
            promised[7 * number],
            promised[7 * number + 5],
        )  # then both kinds of sets of each head, and of all
        inside, sizes, given, wrong = [], [], 0, 0
        for start, part in ((0, parts[0]), (COUNT // 2, parts[1])):
            own = here[(here >= start) & (here < start + COUNT // 2)] - start
            processor.calibration = {"temperatures": part.temperatures(part.heads, own), "sets": sets}
            processor.calibration["abstention"] = threshold
            rows = there[(there >= start) & (there < start + COUNT // 2)] - start
            outputs = {name: logits[rows] for name, logits in part.outputs.items()}
            right = [part.references[row][0] for row in rows]
            for items, answer in zip(processor.post_process_question_answering(outputs, coverage=0.8), right):
                inside.append(answer in [item["answer"] for item in items])
                sizes.append(len(items))
            for (item,), answer in zip(processor.post_process_question_answering(outputs), right):
                given, wrong = given + (item["answer"] is not None), wrong + (item["answer"] not in (None, answer))
        found = splits[number]
        assert found["sets"][None, 0.8, "score"] == pytest.approx((np.mean(inside), np.mean(sizes)))
        assert found["bound"][0.5] == pytest.approx((given / len(inside), wrong / given))


def test_a_line_counts_the_splits_with_a_threshold_and_those_that_kept_it(benchmark):
    found = [(0.5, 0.3), (0.7, 0.45), (0.0, None), 120, 90, None]
    (line,) = benchmark.bound_rows([{"bound": {0.4: one}} for one in found], [0.4])
    assert line == ["40%", "3 of 6", "2 of 3", "40.0%", "37.5%", "120"]
    expected = [{"expected": {0.2: one}} for one in ((0.5, 0.1, 0.2), (0.7, 0.3, 0.4), None)]
    assert list(benchmark.expected_rows(expected, [0.2])) == [["20%", "2 of 3", "60.0%", "20.0%", "30.0%"]]
    sets = {(None, 0.9, "score"): (0.9, 1.5), (None, 0.9, "mass"): (0.92, 1.7)}
    split = {"sets": sets, "largest": {"binary": 1.0, "open_ended": 0.5, None: 0.95}}
    lines = list(benchmark.set_rows([split, split], [0.9]))
    assert lines[0][3:] == ["0 of 2", "", "", "", ""]
    assert lines[2] == [
        "all",
        "95.0%",
        "90%",
        "2 of 2",
        "90.0% (90.0% to 90.0%)",
        "1.50",
        "92.0% (92.0% to 92.0%)",
        "1.70",
    ]
