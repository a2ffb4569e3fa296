"""How a processor reads images and questions and what it answers, in the words of an exported folder's manifest."""

import logging

import numpy as np
import torch
from PIL import Image

from dualvqa_light.preprocessing import RESAMPLING, to_pixels

logger = logging.getLogger(__name__)

LARGEST = 10**9  # transformers' own number for "no limit" is larger


def describe(processor):
    """The fields `image`, `question`, `answers` and `calibration` of the manifest.

    `image` or `question` is None where the processor does what the format has no words for; that is logged.
    """
    image, question = describe_images(processor.image_processor), describe_questions(processor.tokenizer)
    for name, found in (("image processor", image), ("tokenizer", question)):
        if found is None:
            logger.warning(
                f"the exported folder doesn't say how its {name} works, which does more than the format has words for: "
                f"load_onnx_pipeline answers with it, and a runtime without torch can't"
            )
    answers = {"binary": list(processor.binary_answers), "open_ended": processor.all_answers}
    return {"image": image, "question": question, "answers": answers, "calibration": processor.calibration}


def describe_images(image_processor):
    """Size, interpolation, crop and normalisation; None where an image would come out otherwise."""

    def setting(switch, name):
        value = getattr(image_processor, name, None)
        return value if getattr(image_processor, switch, None) else None

    def sides(switch, name):
        size = setting(switch, name)
        return None if size is None else {side: value for side, value in dict(size).items() if value is not None}

    def channels(name, otherwise):
        value = setting("do_normalize", name)
        value = otherwise if value is None else value
        return [float(one) for one in (value if isinstance(value, (list, tuple)) else [value] * 3)]

    names = {number: name for name, number in RESAMPLING.items()}
    described = {
        "resize": sides("do_resize", "size"),
        "resample": names.get(int(getattr(image_processor, "resample", None) or 0)),
        "crop": sides("do_center_crop", "crop_size"),
        "scale": float(setting("do_rescale", "rescale_factor") or 1.0),
        "mean": channels("image_mean", 0.0),
        "std": channels("image_std", 1.0),
    }
    return described if holds(described, image_processor) else None


def holds(described, image_processor):
    """Whether pixels made as described are within 1/255 of those that the image processor makes."""
    ramp = np.linspace(0, 255, 90 * 70 * 3).reshape(70, 90, 3)
    noise = np.random.default_rng(0).integers(-20, 20, ramp.shape)  # edges, which show how sizes are changed
    step = described["scale"] / min(described["std"])  # what one of 255 steps is in the pixels
    for array in (np.clip(ramp + noise, 0, 255), np.clip(ramp + noise, 0, 255).transpose(1, 0, 2)):
        image = Image.fromarray(array.astype(np.uint8))
        try:
            found = to_pixels(image, described)
        except (KeyError, TypeError, ValueError):  # sides or an interpolation that the format doesn't know
            return False
        expected = torch.as_tensor(image_processor(image, return_tensors="pt")["pixel_values"]).numpy()
        if found.shape != expected.shape or np.abs(found - expected).max() > 1.01 * step:
            return False
    return True


def describe_questions(tokenizer):
    """The tokenizer's file, how much of a question is read and how it is padded; None without such a file."""
    if not tokenizer.is_fast:
        return None
    longest = tokenizer.model_max_length
    return {
        "tokenizer": "tokenizer.json",
        "max_tokens": longest if longest and longest < LARGEST else None,
        "truncation_side": tokenizer.truncation_side,
        "padding_id": tokenizer.pad_token_id,
        "padding_side": tokenizer.padding_side,
    }
