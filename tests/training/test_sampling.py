import json
import shutil
from collections import Counter

import pytest
import torch
from datasets import Dataset
from helpers import write_jsonl
from safetensors.torch import load_file
from torch.utils.data import IterableDataset
from training_helpers import training_arguments as arguments

from dualvqa.run import main as run_vqa
from dualvqa.trainer import DualVQATrainer
from dualvqa.training.data_checks import answers_to_balance
from dualvqa.training.sampling import ByLength, ImageGroupedSampler, balanced_weights

# 30 yes/no questions, 70 others about 20 images.
ANSWERS = [(0, "yes")] * 27 + [(0, "no")] * 3 + [(1, "red")] * 49 + [(1, "green")] * 16 + [(1, "blue")] * 4 + [(1, "x")]
IMAGES = [row % 20 for row in range(len(ANSWERS))]
EPOCHS = 300


def sampler(power, per_image=1, **fields):
    return ImageGroupedSampler(IMAGES, per_image, seed=5, weights=balanced_weights(ANSWERS, power), **fields)


def order_of(epoch, **fields):
    rows = sampler(0.5, **fields)
    rows.set_epoch(epoch)
    return list(rows)


@pytest.mark.parametrize(
    "power, expected",
    [
        (1.0, {"yes": 15, "no": 15, "red": 17.5, "green": 17.5, "blue": 17.5, "x": 17.5}),
        # the square roots of 49, 16, 4 and 1 are 7, 4, 2 and 1 parts of 14
        (0.5, {"yes": 22.5, "no": 7.5, "red": 35, "green": 20, "blue": 10, "x": 5}),
        (0.0, {"yes": 27, "no": 3, "red": 49, "green": 16, "blue": 4, "x": 1}),
    ],
)
def test_answers_come_as_often_as_the_power_says_and_each_type_keeps_its_share(power, expected):
    rows, drawn = sampler(power), Counter()
    for epoch in range(EPOCHS):
        rows.set_epoch(epoch)
        order = list(rows)
        assert len(order) == len(rows) == len(ANSWERS)
        drawn.update(ANSWERS[row][1] for row in order)
    for answer, count in expected.items():
        deviation = (count * (1 - count / 100) * EPOCHS) ** 0.5  # of a binomial distribution
        assert abs(drawn[answer] - EPOCHS * count) < 4 * deviation, answer


def test_rows_with_the_same_answer_are_equally_likely():
    weights = balanced_weights(ANSWERS, 0.5)
    assert weights.sum() == pytest.approx(len(ANSWERS)) and weights[:30].sum() == pytest.approx(30)
    assert len(set(weights[30:79].tolist())) == 1
    assert weights[99] / weights[30] == pytest.approx(7)  # 49 rows to 1
    assert weights[0] / weights[29] == pytest.approx((3 / 27) ** 0.5)


def test_seed_and_epoch_alone_fix_what_is_drawn():
    assert order_of(3) == order_of(3) and order_of(3) != order_of(4)
    rows = sampler(0.5)
    rows.set_epoch(4)
    list(rows)
    rows.set_epoch(3)  # as a run that is resumed there
    assert list(rows) == order_of(3)


@pytest.mark.parametrize("multiple", [8, 24, 64])
def test_any_number_of_processes_trains_on_the_same_rows(multiple):
    order = order_of(2, multiple=multiple)
    assert order[: len(ANSWERS)] == order_of(2) and len(order) % multiple == 0
    assert all(row < 0 for row in order[len(ANSWERS) :])  # what fills up the last step has no part in the loss


def test_what_is_drawn_is_brought_together_by_image():
    grouped, alone = order_of(1, per_image=4), order_of(1)
    assert Counter(grouped) == Counter(alone)
    number = Counter(IMAGES[row] for row in alone)
    most = sum(-(-count // 4) for count in number.values())  # groups of four, and one of what is left of each image
    changes = [sum(IMAGES[a] != IMAGES[b] for a, b in zip(order, order[1:])) for order in (grouped, alone)]
    assert changes[0] < most < changes[1]


def test_questions_of_like_length_come_together_where_they_are_drawn():
    lengths = [3 + row % 7 for row in range(len(ANSWERS))]
    order = order_of(1, by_length=ByLength(lengths, batch=10))
    assert Counter(order) == Counter(order_of(1))
    assert all(max(b) - min(b) <= 2 for b in ([lengths[r] for r in order[s : s + 10]] for s in range(0, 100, 10)))


def test_without_balancing_each_row_comes_once():
    assert sorted(ImageGroupedSampler(IMAGES, 4, seed=5)) == list(range(len(ANSWERS)))


def test_answers_outside_the_vocabulary_are_not_drawn_for_being_rare(processor):
    answers = ["red", "red", "red", "blue", "mauve", "puce", "yes", "No", ["yes", "yes", "no"]]
    pairs = answers_to_balance(
        Dataset.from_list([{"answer": [a] if isinstance(a, str) else a} for a in answers]), processor
    )
    assert pairs[4] == pairs[5] and pairs[8] == pairs[6] == (0, "yes") and pairs[7] == (0, "no")
    weights = balanced_weights(pairs, 1.0)
    assert weights[4] == weights[5] == pytest.approx(1)
    assert weights[3] == pytest.approx(3 * weights[0]) and weights[:4].sum() == pytest.approx(4)


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


def test_the_trainer_needs_the_answers_of_all_rows(tiny_model, tmp_path):
    args, rows = arguments(tmp_path, balanced_sampling=0.5), Dataset.from_dict({"image_key": list("abc")})
    with pytest.raises(ValueError, match="needs the answers of 3 training rows, found none"):
        DualVQATrainer(tiny_model(), args, train_dataset=rows)
    with pytest.raises(ValueError, match="needs the answers of 3 training rows, found 2"):
        DualVQATrainer(tiny_model(), args, train_dataset=rows, train_answers=[(1, "a"), (1, "b")])
    with pytest.raises(ValueError, match="needs all rows at hand, found a stream"):
        DualVQATrainer(tiny_model(), arguments(tmp_path, balanced_sampling=0.5, max_steps=1), train_dataset=Stream())


@pytest.mark.parametrize("power", [-0.1, 1.5])
def test_powers_out_of_range_are_refused(tmp_path, power):
    with pytest.raises(ValueError, match=rf"balanced_sampling must be .*; found {power}"):
        arguments(tmp_path, balanced_sampling=power)


@pytest.mark.parametrize("flags", [["--streaming"], ["--pretrain", "contrastive"]])
def test_a_run_that_does_not_know_all_answers_is_refused(recipe, flags):
    with pytest.raises(SystemExit, match=r"--balanced_sampling needs the answers.*--streaming or --pretrain"):
        run_vqa.main([recipe(), "--balanced_sampling", "0.5", *flags])


@pytest.mark.slow
def test_a_run_draws_by_its_training_answers_and_can_be_resumed(recipe, image_folder, tmp_path):
    rows = [json.loads(line) for line in (image_folder / "train.jsonl").read_text().splitlines()]
    write_jsonl(image_folder / "train.jsonl", [row for row in rows if row["answer"] != "green"])
    flags = ["--balanced_sampling", "1", "--validation_fraction", "0", "--max_steps", "5", "--save_steps", "1"]
    trainer = run_vqa.main([recipe(), *flags]).trainer
    # Three images are red, two blue, and three of eight questions are answered with yes.
    rows = trainer.train_dataset
    found = {
        answer[0] if isinstance(answer, list) else answer: w
        for answer, w in zip(rows["answer"], trainer.train_sampler.weights.tolist())
    }
    expected = {"red": 2.5 / 3, "blue": 2.5 / 2, "yes": 4 / 3, "no": 4 / 5}
    assert {name.lower(): weight for name, weight in found.items()} == pytest.approx(expected)
    out = tmp_path / "out"
    assert "| balanced sampling | 1.0 |" in (out / "README.md").read_text()

    whole = load_file(out / "model.safetensors")
    for step in (3, 4, 5):
        shutil.rmtree(out / f"checkpoint-{step}")
    run_vqa.main([recipe(), *flags, "--resume_from_checkpoint", "true"])
    for name, tensor in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(tensor, whole[name])
