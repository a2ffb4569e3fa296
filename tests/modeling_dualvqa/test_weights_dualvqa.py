"""Whatever tower a model has, weights that were saved come back as they were, or are refused."""

import json
import re

import pytest
import torch
from helpers import TEXT
from safetensors.torch import load_file, save_file
from towers import VISION, vision_config
from training_helpers import training_arguments as arguments
from transformers import AutoModel, DistilBertConfig, DistilBertModel, Trainer, TrainingArguments, ViTConfig, ViTModel

from dualvqa.trainer import DualVQATrainer
from dualvqa.training.checkpoints import check_weights, mean_weights
from modeling_dualvqa import DualVQAForQuestionAnswering

RENAMED = {"deit", "beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "ijepa", "swin"}


@pytest.fixture
def family_model(tiny_config):
    def build(family):
        return DualVQAForQuestionAnswering(tiny_config(vision_config=vision_config(family)))

    return build


def assert_same_tensors(model, expected):
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []


def scaled(model, factor):
    """Every number of a model another one, as after training."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.mul_(factor)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", VISION)
def test_a_checkpoint_of_any_tower_is_resumed_averaged_and_loaded_as_it_was_written(family_model, family, tmp_path):
    model = family_model(family)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "1")
    second = scaled(model, 3)
    model.save_pretrained(tmp_path / "2")
    check_weights(tmp_path / "2", model)

    trainer = DualVQATrainer(model, arguments(tmp_path / "run"))
    trainer._load_from_checkpoint(str(tmp_path / "1"))
    assert_same_tensors(model, first)
    trainer.state.best_model_checkpoint = str(tmp_path / "2")
    trainer._load_best_model()
    assert_same_tensors(model, second)

    mean = mean_weights([tmp_path / "1", tmp_path / "2"])
    model.load_state_dict(mean)
    for name, tensor in model.state_dict().items():
        expected = (first[name] + second[name]) / 2 if tensor.is_floating_point() else first[name]
        torch.testing.assert_close(tensor, expected, msg=name)
    assert_same_tensors(DualVQAForQuestionAnswering.from_pretrained(tmp_path / "2"), second)


@pytest.mark.parametrize("family", ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(RENAMED))])
def test_a_folder_with_original_names_loads_and_a_checkpoint_with_them_is_not_resumed(family_model, family, tmp_path):
    model = family_model(family)
    model.save_pretrained(tmp_path, save_original_format=True)
    assert load_file(tmp_path / "model.safetensors").keys() != model.state_dict().keys()
    assert_same_tensors(DualVQAForQuestionAnswering.from_pretrained(tmp_path), model.state_dict())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = DualVQATrainer(model, arguments(tmp_path / "run"))
    for load in (lambda: check_weights(tmp_path, model), lambda: trainer._load_from_checkpoint(str(tmp_path))):
        with pytest.raises(ValueError, match=r"tensors are missing, first vision_encoder\..*have no place in it"):
            load()
    assert before.keys() == model.state_dict().keys()


@pytest.mark.slow
def test_weights_in_several_files_keep_their_names_too(family_model, tmp_path):
    model = family_model("vit")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == model.state_dict().keys() and len(set(index["weight_map"].values())) > 2
    check_weights(tmp_path, model)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scaled(model, 2)
    DualVQATrainer(model, arguments(tmp_path / "run"))._load_from_checkpoint(str(tmp_path))
    assert_same_tensors(model, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stock", "ours"])
def test_a_run_with_a_vit_resumes_and_ends_with_its_best_checkpoint(family_model, rows, tmp_path, kind):
    trainer_class = DualVQATrainer if kind == "ours" else Trainer
    fields = {
        **{"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 3},
        **{"learning_rate": 1e-2, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss"},
        "per_device_train_batch_size": 8,
    }
    stock = {"output_dir": tmp_path, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    args = arguments(tmp_path, **fields) if kind == "ours" else TrainingArguments(**stock, **fields)
    trainer = trainer_class(family_model("vit"), args, train_dataset=rows, eval_dataset=rows[8:16])
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert_same_tensors(trainer.model, load_file(f"{best}/model.safetensors"))
    steps = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 3)]
    moved = [name for name, tensor in steps[0].items() if not torch.equal(tensor, steps[1][name])]
    assert any(name.startswith("vision_encoder") for name in moved)

    args.load_best_model_at_end = False
    again = trainer_class(family_model("vit"), args, train_dataset=rows, eval_dataset=rows[8:16])
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert_same_tensors(again.model, steps[1])


# What is lost


@pytest.fixture
def saved(tiny_model, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    return model, tmp_path


def edit(folder, change):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


CHANGES = {
    "1 tensors are missing, first text_encoder": lambda t: t.pop(
        "text_encoder.model.transformer.layer.0.attention.q_lin.weight"
    ),
    "1 tensors have no place in it, first stray": lambda t: t.update(stray=torch.zeros(1)),
    "2 tensors are missing, first open_ended_head": lambda t: [
        t.pop(name) for name in ("open_ended_head.0.weight", "open_ended_head.0.bias")
    ],
}


@pytest.mark.parametrize("message", CHANGES)
def test_a_folder_with_other_tensors_than_the_model_is_refused(saved, message):
    model, folder = saved
    edit(folder, CHANGES[message])
    with pytest.raises(ValueError, match=f"{folder.name} are not those of the model: {message}"):
        DualVQAForQuestionAnswering.from_pretrained(folder)
    with pytest.raises(ValueError, match=message):
        check_weights(folder, model)
    with pytest.raises(ValueError, match=message):
        DualVQATrainer(model, arguments(folder / "run"))._load_from_checkpoint(str(folder))
    again, report = DualVQAForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert len(report["missing_keys"]) + len(report["unexpected_keys"]) == int(message[0])
    assert isinstance(again, DualVQAForQuestionAnswering)


def test_a_configuration_that_was_changed_does_not_start_a_head_at_random(saved):
    _, folder = saved
    for change, value in {"heads": ["binary"], "fusion_num_layers": 2}.items():
        with pytest.raises(ValueError, match="Load the folder as it was saved and change the model then"):
            DualVQAForQuestionAnswering.from_pretrained(folder, **{change: value})


def test_checkpoints_of_different_models_are_not_averaged(tmp_path):
    for number, tensors in enumerate(
        [
            {"weight": torch.zeros(4), "bias": torch.zeros(1)},
            {"weight": torch.zeros(4)},
            {"weight": torch.zeros(4), "bias": torch.zeros(1), "scale": torch.zeros(1)},
            {"weight": torch.zeros(4), "bias": torch.zeros(4)},
        ]
    ):
        (tmp_path / f"{number}").mkdir()
        save_file(tensors, tmp_path / f"{number}" / "model.safetensors")
    first, lacking, more, other = (tmp_path / f"{number}" for number in range(4))
    with pytest.raises(ValueError, match=r"1 are not those of the model: 1 tensors are missing, first bias"):
        mean_weights([first, lacking])
    with pytest.raises(ValueError, match=r"2 are not those of the model: 1 tensors have no place in it, first scale"):
        mean_weights([first, more])
    with pytest.raises(ValueError, match=r"bias has the shape \(4,\) there, \(1,\) in"):
        mean_weights([first, other])
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ValueError, match="adapter has no weights to average"):
        mean_weights([first, tmp_path / "adapter"])


def test_adapters_are_not_averaged(tiny_model, tmp_path):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=r"text_encoder\..*\.q_lin"))
    with pytest.raises(ValueError, match="average_checkpoints takes the weights of whole models, found adapters"):
        DualVQATrainer(adapted, arguments(tmp_path, average_checkpoints=2, save_strategy="epoch"))


@pytest.mark.parametrize("kind", ["vision", "text"])
def test_a_pretrained_tower_that_lacks_tensors_is_refused(tmp_path, kind):
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "vision":
        ViTModel(ViTConfig(**small, image_size=32)).save_pretrained(tmp_path)
    else:
        config = DistilBertConfig(dim=16, hidden_dim=32, n_layers=1, n_heads=2, vocab_size=50)
        DistilBertModel(config).save_pretrained(tmp_path)
    fields = {} if kind == "text" else {"text_config": TEXT}
    DualVQAForQuestionAnswering.from_vision_text_pretrained(**{kind: tmp_path}, **fields)
    lost = []
    edit(tmp_path, lambda tensors: lost.append(tensors.pop(next(name for name in tensors if "layer.0" in name))))
    with pytest.raises(ValueError, match=f"1 tensors are missing.*Its {kind}_encoder would start at random"):
        DualVQAForQuestionAnswering.from_vision_text_pretrained(**{kind: tmp_path}, **fields)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_vision_part_of_a_larger_pretrained_model_is_found_in_it(tmp_path, kind):
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    config_class, model_class = {"clip": (CLIPConfig, CLIPModel), "siglip": (SiglipConfig, SiglipModel)}[kind]
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {**small, "vocab_size": 50, "max_position_embeddings": 16}
    larger = model_class(config_class(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16}))
    larger.save_pretrained(tmp_path)
    model = DualVQAForQuestionAnswering.from_vision_text_pretrained(tmp_path, text_config=TEXT).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = larger.eval().vision_model(images)
    states = model.vision_encoder(images).states
    torch.testing.assert_close(states[:, 1:], expected.last_hidden_state)
    torch.testing.assert_close(states[:, 0], expected.pooler_output)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["open_ended_head.0.weight", "visual_projection.bias"])
def test_a_tensor_of_another_shape_is_named_with_both_shapes_whatever_loads_it(tiny_model, tmp_path, part):
    tiny_model().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    shape = tuple(tensors[part].shape)
    save_file({**tensors, part: torch.zeros(3, 5)}, tmp_path / "model.safetensors", {"format": "pt"})
    message = re.escape(f"the weights of {tmp_path}") + f".*first {part}: " + re.escape(f"(3, 5) there, {shape} in the")
    with pytest.raises(ValueError, match=message):
        DualVQAForQuestionAnswering.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        AutoModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        DualVQAForQuestionAnswering.from_vision_text_pretrained(str(tmp_path))
    loaded = DualVQAForQuestionAnswering.from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    assert tuple(loaded.state_dict()[part].shape) == shape


def test_a_pretrained_tower_with_a_tensor_of_another_shape_is_refused(tmp_path):
    DistilBertModel(DistilBertConfig(**{k: v for k, v in TEXT.items() if k != "model_type"})).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(name for name in tensors if name.endswith("q_lin.weight"))
    save_file({**tensors, name: torch.zeros(2, 2)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors have other shapes, first .*q_lin.weight: \(2, 2\) there"):
        DualVQAForQuestionAnswering.from_vision_text_pretrained(None, str(tmp_path))
