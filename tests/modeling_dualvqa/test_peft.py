"""Adapters and prompts of PEFT on top of a model."""

import copy

import pytest
import torch
from helpers import FUSIONS, assert_same_logits, load
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model


@pytest.fixture(params=FUSIONS)
def model(request, tiny_model):
    return tiny_model(fusion_type=request.param)


@pytest.mark.parametrize("task_type", [None, "FEATURE_EXTRACTION"])
def test_lora_on_the_text_tower_trains_only_what_it_should(model, batch, labels, tmp_path, task_type):
    saved = tmp_path / "base"
    model.freeze_encoders(vision=True, text=False)  # an adapter has no room for moving batch-norm statistics
    model.save_pretrained(saved)
    settings = LoraConfig(
        r=2,
        target_modules=r"text_encoder\..*\.(q_lin|v_lin)",
        modules_to_save=["open_ended_head"],
        task_type=task_type,
    )
    adapted = get_peft_model(load(saved), settings)
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # in the first step the second of LoRA's two matrices is zero, and the first gets no gradient
        optimizer.zero_grad()
        adapted.train()(**batch, **labels).loss.backward()
        optimizer.step()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name or "open_ended_head.modules_to_save" in name for name in trained)
    assert any("text_encoder" in name for name in trained)
    output = adapted.eval()(**batch)
    assert not torch.allclose(output.open_ended_logits, model(**batch).open_ended_logits)
    adapted.save_pretrained(tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir() if path.suffix != ".md") == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert_same_logits(output, PeftModel.from_pretrained(load(saved), tmp_path / "adapter").eval()(**batch))


def test_prompts_that_peft_learns_are_read_before_the_question(tiny_model, batch, labels):
    model = tiny_model(fusion_type="cross_attention")
    sizes = {"num_layers": 1, "token_dim": 16, "num_attention_heads": 2}
    adapted = get_peft_model(
        copy.deepcopy(model), PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=3, **sizes)
    )
    adapted(**batch, **labels).loss.backward()
    assert adapted.prompt_encoder.default.embedding.weight.grad.abs().sum() > 0
    assert not torch.allclose(adapted.eval()(**batch).open_ended_logits, model(**batch).open_ended_logits)
