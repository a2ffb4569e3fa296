import copy
import json

import pytest
import torch
from helpers import MOBILENET, small_mobilenet, teach
from PIL import Image
from torch import nn

from dualvqa.cli import main
from dualvqa.deployment import onnx_export
from dualvqa.deployment.onnx_export import export_onnx
from dualvqa.deployment.onnx_pipeline import OnnxModel, load_onnx_pipeline
from dualvqa_light.folder import FORMAT, MANIFEST, checked_files, file_hash
from modeling_dualvqa import DualVQAConfig, DualVQAForQuestionAnswering, DualVQAPipeline

LOGITS = ("binary_logits", "open_ended_logits", "question_type_logits")


# An export takes as long as there are layers: MobileNet's first five blocks, which have each kind of its layers, are
# exported once, otherwise a ResNet of two blocks.
# Of a model: the parts that are exported.
EXPORTED = {
    "attention": ("vision", "text", "heads"),
    "cross_attention": ("vision", "text", "heads", "model"),
    "experts": ("vision", "text", "heads"),
}


@pytest.fixture
def build(tiny_model, balanced_model, processor, monkeypatch):
    """Builds a model of each kind; towers that are the same are exported once."""

    def mobile():
        """MobileNet's, that remembers answers."""
        small_mobilenet(monkeypatch)
        torch.manual_seed(0)
        text_encoder = tiny_model().text_encoder
        pipe = DualVQAPipeline(tiny_model(vision_config=MOBILENET), processor)
        pipe.model.text_encoder = text_encoder
        teach(pipe)
        return pipe.model

    def experts():
        """An image that attends back, and experts."""
        torch.manual_seed(0)
        return tiny_model(fusion_type="cross_attention", fusion_bidirectional=True, fusion_num_experts=3)

    kinds = {"attention": mobile, "cross_attention": lambda: copy.deepcopy(balanced_model), "experts": experts}
    return lambda kind: kinds[kind]()


@pytest.fixture
def others():
    """One question about one image; and more rows than questions than images, of another length."""
    one = {"input_ids": torch.tensor([[2, 9, 11, 3]]), "pixel_values": torch.randn(1, 3, 32, 32)}
    many = {
        "input_ids": torch.randint(5, 40, (3, 9)),
        "attention_mask": torch.tensor([[1] * 9, [1] * 7 + [0] * 2, [1] * 4 + [0] * 5]),
        "pixel_values": torch.randn(2, 3, 32, 32),
        "image_index": torch.tensor([1, 0, 0, 1, 1]),
        "question_index": torch.tensor([2, 2, 0, 1, 0]),
    }
    return one, many


def test_files_answer_in_the_persons_own_words(processor, tmp_path, monkeypatch):
    """The words are the processor's, which is saved beside the files."""
    processor.answer_rules = {"yes_answers": ["Ja"], "no_answers": ["Nein"]}
    processor.save_pretrained(tmp_path)
    logits = {"binary_logits": torch.tensor([[0.0, 1.0]]), "question_type_logits": torch.tensor([[1.0, 0.0]])}
    logits["open_ended_logits"] = torch.zeros(1, 3)
    monkeypatch.setattr(
        OnnxModel, "from_pretrained", lambda *args, **kwargs: OnnxModel(DualVQAConfig(num_answers=3), {})
    )
    pipe = load_onnx_pipeline(tmp_path)
    said = pipe.processor.post_process_question_answering(logits, top_k=2)
    assert [item["answer"] for item in said[0]] == ["Ja", "Nein"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
@pytest.mark.parametrize("kind", EXPORTED)
def test_files_answer_as_the_model_does(build, processor, batch, others, tmp_path, kind):
    model, parts = build(kind), EXPORTED[kind]
    export_onnx(model, tmp_path, processor, parts=parts)
    whole = OnnxModel.from_pretrained(tmp_path, threads=1)
    assert set(whole.sessions) == set(parts)
    parts = OnnxModel(whole.config, {name: s for name, s in whole.sessions.items() if name != "model"})
    for inputs in (batch, *others):
        with torch.no_grad():
            expected = model(**inputs)
        for runner in (whole, parts):
            found = runner(**inputs)
            for name in LOGITS:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert_same_answers(load_onnx_pipeline(tmp_path, threads=1), DualVQAPipeline(model, processor), tolerance=1e-4)


def assert_same_answers(runner, pipe, tolerance):
    """About images that a memory knows and one that it doesn't."""
    images = [Image.new("RGB", (40, 30), color) for color in ("red", "green", "white")]
    questions = ["what color is it?", "is it red?", "what is there?"]
    for found, expected in zip(runner(images, questions), pipe(images, questions), strict=True):
        assert found[0] == {**expected[0], "score": pytest.approx(expected[0]["score"], abs=tolerance)}
    if pipe.model.memory is not None:
        assert runner(images[0], questions[2])[0]["answer"] == "mauve"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_a_memory_answers_from_int8_files_as_it_does_from_the_model(taught_model, processor, tmp_path):
    model, processor.memory_answers = taught_model
    export_onnx(copy.deepcopy(model), tmp_path, processor, quantization="int8")
    runner = load_onnx_pipeline(tmp_path, threads=1)
    # Only the towers' own part of the answer is a little off: keys and their products are exact.
    assert_same_answers(runner, DualVQAPipeline(model, processor), tolerance=0.05)
    image, question = Image.new("RGB", (40, 30), "white"), "is it red?"
    with pytest.raises(ValueError, match=r"an exported model \(OnnxModel\) can't be taught"):
        runner.memory.add([image], [question], "no")
    with pytest.raises(ValueError, match="evidence=1 asks for .* has no memory"):
        runner(image, question, evidence=1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_one_head_alone_from_a_saved_folder_with_images_of_the_processors_size(
    tiny_model, processor, batch, tmp_path, caplog, recwarn
):
    torch.manual_seed(0)  # its text tower is exported once
    model = tiny_model()
    processor.image_processor.size = {"height": 48, "width": 64}
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    main(["export", str(tmp_path / "model"), str(tmp_path / "onnx"), "--heads", "binary"])
    assert not [record for record in caplog.records if record.name.startswith("onnx")]  # no exporter's own log
    assert "written: vision.onnx, text.onnx, heads.onnx" in caplog.text
    assert not [warning for warning in recwarn if "axis name" in str(warning.message)]
    batch["pixel_values"] = torch.randn(3, 3, 48, 64)
    found = OnnxModel.from_pretrained(tmp_path / "onnx")(**batch)
    assert list(found) == ["binary_logits"]
    torch.testing.assert_close(found.binary_logits, model(**batch).binary_logits, rtol=1e-4, atol=1e-4)
    path = tmp_path / "onnx" / "heads.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes(byte ^ 1 for byte in content[-40:]))
    with pytest.raises(ValueError, match="heads.onnx is not the file that was exported"):
        load_onnx_pipeline(tmp_path / "onnx")
    path.write_bytes(content)
    image, question = Image.new("RGB", (90, 70), "red"), "is it red?"
    (found,) = load_onnx_pipeline(tmp_path / "onnx")(image, question)
    (expected,) = DualVQAPipeline(model, processor)(image, question, question_type="binary")
    assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-4)}
    assert DualVQAForQuestionAnswering.from_pretrained(tmp_path / "model").config.heads == ["binary", "open_ended"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_exports")
def test_int8_files_are_near_and_smaller(tiny_model, batch, tmp_path):
    model = tiny_model(
        text_config={"model_type": "distilbert", "dim": 128, "hidden_dim": 512, "n_layers": 1, "n_heads": 2}
    )
    export_onnx(model, tmp_path, parts=("text", "heads"), quantization="int8")
    exact_size = 4 * sum(parameter.numel() for parameter in model.text_encoder.parameters())
    assert (tmp_path / "text.onnx").stat().st_size < 0.3 * exact_size
    int8 = OnnxModel.from_pretrained(tmp_path)
    with torch.no_grad():
        expected, images = model(**batch), model.encode_images(batch["pixel_values"])
    texts = int8.encode_questions(batch["input_ids"], batch["attention_mask"])
    found = int8.answer(images, texts, image_index=batch["image_index"])
    for name in LOGITS:
        assert 0 < (found[name] - expected[name]).abs().max() < 0.1 * expected[name].abs().max().clamp(min=1), name


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"parts": ("vision", "tail")}, "parts must be of vision, text, heads, model; found vision, tail"),
        ({"heads": ["both"]}, "heads must be of binary, open_ended; found both"),
        ({"quantization": "int4"}, "quantization must be of None, float16, int8; found int4"),
    ],
)
def test_what_does_not_exist_is_named(tiny_model, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(tiny_model(), tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_other_folders_and_formats_are_named(tmp_path):
    with pytest.raises(ValueError, match="has no onnx.json"):
        OnnxModel.from_pretrained(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 99, "files": {}}))
    with pytest.raises(ValueError, match="format 99, this version reads format 2; export the model again"):
        OnnxModel.from_pretrained(tmp_path)
    for text in ("{", "[]", '{"format": 2}', '{"format": 2, "files": []}', '{"format": 2, "files": {}}', "[" * 100_000):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match="onnx.json is damaged"):
            OnnxModel.from_pretrained(tmp_path)


def write_files(folder, **contents):
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: file_hash(folder / name) for name in contents}


def test_files_that_are_not_those_that_were_exported_are_refused(tmp_path):
    contents = {"vision.onnx": b"layers" * 100, "vision.onnx.data": b"weights" * 100}
    hashes = write_files(tmp_path / "whole", **contents)
    (tmp_path / "whole" / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": hashes}))
    assert checked_files(tmp_path / "whole") == list(hashes)
    for name in contents:
        path = tmp_path / "whole" / name
        path.write_bytes(b"W" + contents[name][1:])
        with pytest.raises(ValueError, match=f"{name} is not the file that was exported.*export the model again"):
            OnnxModel.from_pretrained(tmp_path / "whole")
        path.unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            OnnxModel.from_pretrained(tmp_path / "whole")
        path.write_bytes(contents[name])
    (tmp_path / "whole" / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": {"../elsewhere.onnx": "0"}}))
    (tmp_path / "elsewhere.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="onnx.json is damaged: '../elsewhere.onnx' is no file of the folder itself"):
        OnnxModel.from_pretrained(tmp_path / "whole")


def test_a_memory_that_is_too_large_for_a_file_is_refused_and_one_without_an_index_is_told(monkeypatch, caplog):
    memory = type("Memory", (nn.Module,), {"__len__": lambda self: 300_000})()
    memory.register_buffer("question_keys", torch.zeros(1000))
    onnx_export.check_memory(memory)
    assert "with all 300,000 examples of its memory: up to 75 ms" in caplog.text
    monkeypatch.setattr(onnx_export, "LARGEST_FILE", 3999)
    with pytest.raises(ValueError, match="the memory of 300,000 examples takes 4,000 bytes, and an ONNX file can have"):
        onnx_export.check_memory(memory)
