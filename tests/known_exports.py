"""Parts of models that were exported to ONNX are known again: an export takes seconds, however small the model is."""

import hashlib
import os
import shutil

from dualvqa.deployment.onnx_export import TextPart, VisionPart

TOWERS = {VisionPart: "vision", TextPart: "text"}
# What a configuration says besides the model, or only of its saved folder.
UNREAD = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "model_card",
    "transformers_version",
}


def fields_of(config):
    return {
        name: fields_of(value) if isinstance(value, dict) else value
        for name, value in sorted(config.items(), key=str)  # a saved one has them in another order
        if name not in UNREAD
    }


def key_of(part, size):
    """What the file is made of: a part's kind, its size of images, its fields and its weights, to the last bit."""
    tower, model = TOWERS.get(type(part)), part.model
    if tower is None:
        fields, weights = model.config.to_dict(), model.state_dict()
    else:  # states of a grid and of tokens, or pooled vectors
        read = {"fusion_type": model.config.fusion_type, "text_pooling": model.config.text_pooling}
        fields = {**read, **getattr(model.config, f"{tower}_config").to_dict()}
        weights = getattr(model, f"{tower}_encoder").state_dict()
    key = [type(part).__name__, part.inputs, part.outputs, None if tower == "text" else size, fields_of(fields)]
    key = hashlib.sha256(repr(key).encode())
    for name, tensor in weights.items():
        key.update(name.encode() + tensor.numpy().tobytes())
    return key.hexdigest()


def known_again(export_part, folder):
    """`export_part` with the files that it wrote kept in a folder, for all processes that have it."""

    def export(part, path, size):
        known = folder / f"{key_of(part, size)}.onnx"
        if not known.exists():
            export_part(part, path, size)
            shutil.copy(path, f"{known}.{os.getpid()}")
            os.replace(f"{known}.{os.getpid()}", known)
        shutil.copy(known, path)

    return export
