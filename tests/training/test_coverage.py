"""The ceiling that a run tells is that of the accuracy beside it, of ten people's answers as of one's."""

import re

import pytest
from helpers import TINY, lines_of

from dualvqa import DualVQATrainer, DualVQATrainingArguments, build_model


@pytest.mark.slow
@pytest.mark.parametrize("metric, ceiling", [("exact", 2 / 3), ("vqa", 0.6)])
def test_log_figures_and_card_agree_on_what_ten_people_allow(image_folder, tmp_path, caplog, metric, ceiling):
    """Eight of ten say what the vocabulary lacks, two what it has."""
    caplog.set_level("INFO")
    rows = [{**row, "image": str(image_folder / row["image"])} for row in lines_of(image_folder / "train.jsonl")]
    odd = [{**row, "answer": ["purple"] * 8 + [row["answer"]] * 2} for row in rows[::2]]
    model, processor = build_model(rows, image_size=32, metric=metric, **TINY)
    args = DualVQATrainingArguments(
        str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    trainer = DualVQATrainer(model=model, processing_class=processor, args=args, train_dataset=rows, eval_dataset=odd)
    trainer.train()
    figures = trainer.evaluate()
    assert figures["eval_coverage"] == pytest.approx(ceiling)
    assert figures["eval_routed_open_ended_accuracy"] <= figures["eval_oracle_accuracy"] <= figures["eval_coverage"]
    (said,) = re.findall(
        r"validation: with this vocabulary the open-ended accuracy can be ([\d.]+) % at most", caplog.text
    )
    assert float(said) == pytest.approx(100 * ceiling, abs=0.05)
    (row,) = [row for row in trainer.model.config.model_card["data"] if row["part"] == "validation"]
    assert row["coverage"] == pytest.approx(ceiling)
