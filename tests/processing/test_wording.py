"""Errors name flags to who gives flags, and arguments to who calls from Python."""

import pytest

from processing import prepare_dataset
from processing.wording import command_line, in_python


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "give a larger --max_risk, or leave --calibrate true out",
            "give a larger max_risk, or leave calibrate=True out",
        ),
        ("give more with --validation_file, in Python as eval_dataset", "give more with eval_dataset"),
        ("name it with --image_column, in Python with column_mapping={}", "name it with column_mapping={}"),
        (
            "turn it off with --random_crop_scale 1 --color_jitter 0.",
            "turn it off with random_crop_scale=1 color_jitter=0.",
        ),
        ("start from it with --model_name_or_path a/b, and", "start from it with load_model('a/b'), and"),
        (
            "go on with --resume_from_checkpoint a/checkpoint-3",
            "go on with train(resume_from_checkpoint='a/checkpoint-3')",
        ),
        ("go on with --resume_from_checkpoint, or not", "go on with resume_from_checkpoint, or not"),
        ("give --config heads=[binary]", "give heads=[binary]"),
        ("accelerate launch --num_processes 2 run_vqa.py", "accelerate launch --num_processes 2 run_vqa.py"),
        ("a dash -- and a file a--b.png", "a dash -- and a file a--b.png"),
    ],
)
def test_flags_become_what_they_are_in_python(text, expected):
    assert in_python(text) == expected


def test_a_public_function_speaks_to_who_has_called_it():
    rows = [{"view": "0.png", "question": "is it red?", "answer": "yes"}]
    with pytest.raises(ValueError, match="name the right one with column_mapping="):
        prepare_dataset(rows)
    with command_line(), pytest.raises(ValueError, match="name the right one with --image_column, in Python with"):
        prepare_dataset(rows)
