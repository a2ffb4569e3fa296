"""The files that transformers.js looks for are there, and hold what onnx.json says of them."""

import copy
import json

import onnxruntime
import pytest
import torch

from dualvqa.deployment.transformers_js_export import export_transformers_js
from dualvqa_light.folder import file_hash

pytestmark = pytest.mark.slow


def test_both_graphs_answer_and_are_named_as_it_names_them(tmp_path, balanced_model, new_processor, quick_exports):
    model, processor = copy.deepcopy(balanced_model), new_processor()  # test_onnx.py exports the same
    for part in (model, processor):
        part.save_pretrained(tmp_path / "saved")
    folder = tmp_path / "js"
    export_transformers_js(tmp_path / "saved", folder)
    manifest = json.loads((folder / "onnx.json").read_text())
    assert set(manifest["files"]) == {"onnx/model.onnx", "onnx/model_quantized.onnx", "tokenizer.json"}
    assert all(file_hash(folder / name) == digest for name, digest in manifest["files"].items())
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        assert json.loads((folder / name).read_text())
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}
    inputs = processor(text=["is it red?"], return_tensors="pt")
    inputs = {**inputs, "pixel_values": torch.randn(1, 3, 32, 32)}
    with torch.no_grad():
        expected = model(**inputs).binary_logits
    places = {"image_index": torch.tensor([0]), "question_index": torch.tensor([0])}
    feeds = {key: value.numpy() for key, value in {**inputs, **places}.items()}
    for name, tolerance in (("model", 1e-4), ("model_quantized", 0.3)):
        session = onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx")
        given = {item.name: feeds[item.name] for item in session.get_inputs()}
        found = session.run(["binary_logits"], given)[0]
        torch.testing.assert_close(torch.tensor(found), expected, atol=tolerance, rtol=0)
