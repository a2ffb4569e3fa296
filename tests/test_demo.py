"""The demo's drawings and questions, on a run of two steps."""

import sys

import easy_vqa
import pytest
from helpers import ROOT
from PIL import Image
from processes import run_script

from dualvqa.run import main as run_vqa

pytestmark = pytest.mark.slow


IMAGES = 60  # of each part, of 4,000 and 1,000


def first_questions(questions, answers, image_ids):
    return tuple(zip(*(row for row in zip(questions, answers, image_ids) if row[2] < IMAGES)))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of the demo's recipe, cut to two steps, to one small layer of text and to the first images."""
    folder = tmp_path_factory.mktemp("run")
    tiny = ["--config", "text_config.dim=16", "text_config.hidden_dim=32", "fusion_hidden_size=16"]
    steps = ["--max_steps", "2", "--logging_steps", "1", "--eval_strategy", "steps", "--eval_steps", "1"]
    sizes = ["--per_device_train_batch_size", "16", "--image_size", "32", "--save_strategy", "no"]
    flags = ["--load_best_model_at_end", "false", "--use_cpu", "--disable_tqdm", "true"]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get_train_questions", "get_test_questions"):
            few = first_questions(*getattr(easy_vqa, name)())
            patch.setattr(easy_vqa, name, lambda few=few: few)
        run_vqa.main(["recipes/easy_vqa.yaml", "--output_dir", str(folder), *tiny, *steps, *sizes, *flags])
    return folder


def test_draws_curves_and_a_sheet(run_folder):
    run_script(ROOT / "demo" / "draw.py", run_folder)
    for name in ("curves.png", "sheet.png"):
        with Image.open(run_folder / name) as image:
            assert image.width > 800 and len(image.convert("L").getcolors(256)) > 20


def test_a_sheet_without_images_is_refused(tmp_path):
    (tmp_path / "predictions.jsonl").write_text('{"image": "gone.png", "question": "what?", "answer": "red"}\n')
    sys.path.insert(0, str(ROOT / "demo"))
    from draw import draw_sheet

    with pytest.raises(SystemExit, match="none of the images that .*predictions.jsonl names is there any more"):
        draw_sheet(tmp_path)


def test_asks_three_questions_and_prints_what_was_reached(run_folder):
    shown = run_script(ROOT / "demo" / "ask.py", run_folder)
    assert shown.count("(correct: ") == 3
    assert "routed" in shown and "majority" in shown and "sheet.png" in shown


def test_a_run_leaves_no_pickle(run_folder):
    assert not [path for kind in ("*.bin", "*.pt", "*.pkl") for path in run_folder.glob(kind)]
    assert (run_folder / "model.safetensors").exists()
