"""Real pretrained towers and real radiology questions, where they lie beside the checkout; a fresh clone has none."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoTokenizer

from dualvqa import DualVQATrainer, DualVQATrainingArguments, build_model
from modeling_dualvqa import DualVQAForQuestionAnswering
from processing import DataArguments, leakage_report, prepare_datasets

SHARED = Path(__file__).parents[2] / "shared"
VISION, TEXT = SHARED / "encoders" / "tf_efficientnet_lite0", SHARED / "encoders" / "minilm-l6-h384-uncased"
QUESTIONS = SHARED / "vqa-rad" / "train.jsonl"

needs_encoders = pytest.mark.skipif(not VISION.exists(), reason="no pretrained encoders beside this checkout")
needs_questions = pytest.mark.skipif(not QUESTIONS.exists(), reason="no VQA-RAD files beside this checkout")


@pytest.mark.slow
@needs_encoders
def test_pretrained_timm_and_bert_towers_keep_their_weights():
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(VISION, TEXT, num_answers=5).eval()
    images = torch.rand(2, 3, 224, 224) * 2 - 1
    states = model.vision_encoder(images).states
    reference = AutoModel.from_pretrained(VISION).eval()(images)
    assert states.shape == (2, 1 + 7 * 7, 1280)
    torch.testing.assert_close(states[:, 0], reference.pooler_output, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(states[:, 1:], reference.last_hidden_state.flatten(2).transpose(1, 2))
    ids = AutoTokenizer.from_pretrained(TEXT)(["is the heart enlarged?"], return_tensors="pt")["input_ids"]
    torch.testing.assert_close(
        model.text_encoder(ids).states, AutoModel.from_pretrained(TEXT).eval()(ids).last_hidden_state
    )


@pytest.mark.slow
@needs_encoders
def test_pretrained_timm_and_bert_towers_give_their_states_and_compile():
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(
        VISION, TEXT, num_answers=5, fusion_type="cross_attention", attn_implementation="eager"
    ).eval()
    batch = {"pixel_values": torch.randn(2, 3, 224, 224), "input_ids": torch.randint(1000, 2000, (2, 6))}
    output = model(**batch, output_attentions=True, output_hidden_states=True)
    assert [tuple(weights.shape) for weights in output.text_attentions] == [(2, 12, 6, 6)] * 6
    assert output.image_attentions is None and output.fusion_attentions[0].shape == (2, 4, 6, 1 + 7 * 7)
    assert len(output.text_hidden_states) == 7 and output.image_hidden_states[-1].shape[-2:] == (7, 7)
    # dynamic=False: a process that has compiled for images of another size would take height and width for variables.
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**batch).open_ended_logits, output.open_ended_logits.detach())


@pytest.mark.slow
@needs_encoders
@needs_questions
def test_adapters_train_on_minilm(tmp_path):
    """As the guide has it for every text tower."""
    parts, _, _ = prepare_datasets(DataArguments(train_file=str(QUESTIONS), image_dir=str(QUESTIONS.parent)))
    rows = parts["train"].select(range(8))
    model, processor = build_model(rows, vision=str(VISION), text=str(TEXT), freeze_vision=True, image_size=64)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=r"text_encoder\..*(q_lin|v_lin|query|value)"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    args = DualVQATrainingArguments(str(tmp_path), max_steps=2, learning_rate=0.1, report_to="none", use_cpu=True)
    DualVQATrainer(model=model, processing_class=processor, args=args, train_dataset=rows).train()
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert len(changed) == 2 * 6 * 2 and all("text_encoder" in name and "lora_" in name for name in changed)


@pytest.mark.slow
@needs_questions
def test_vqa_rad_without_rewordings_splits_by_image():
    args = DataArguments(train_file=str(QUESTIONS), image_dir=str(QUESTIONS.parent), exclude_rows=["phrase_type=frame"])
    parts, raw, bad = prepare_datasets(args)
    assert len(raw["train"]) == 3_064 and not bad
    assert len(parts["train"]) + len(parts["validation"]) == 1_797
    assert leakage_report(parts["train"], parts["validation"])["images_seen"] == 0
