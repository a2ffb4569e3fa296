"""A pipeline that needs no model, and pictures as requests carry them."""

import base64
import io
import threading

from PIL import Image

from dualvqa_light.evidence import check_evidence
from dualvqa_light.image_loading_dualvqa import load_image
from dualvqa_light.image_sources_dualvqa import ImageSources
from dualvqa_light.pipeline import Options
from processing.processor_checks_dualvqa import check_question
from processing.promises_dualvqa import Promises


def picture(color="red", size=(30, 20), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, "PNG")
    return content.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


BOMB = base64_of(picture(1, (9000, 9000), "1"))  # 81 million pixels in some kilobytes


class Echo:
    """Answers with the question; opens images as the light pipeline does. It answers only while `gate` is open."""

    def __init__(self, folder=None, image_sources="objects", **options):
        self.sources, self.options, self.batches = ImageSources.of(image_sources), options, []
        self.gate = threading.Event()
        self.gate.set()

    def read(self, row, options):
        assert isinstance(options, Options)
        questions = row["question"] if isinstance(row["question"], list) else [row["question"]]
        for question in questions:
            check_question(question)
        return load_image(row["image"], self.sources), questions, row["question"]

    def answer(self, items, options):
        self.gate.wait(20)
        self.batches.append(len(items))
        if options.evidence is not None:
            check_evidence(None, options.evidence)
        Promises(None, options.abstain, options.coverage, options.group)
        if any("crash" in questions for _, questions, _ in items):
            raise KeyError("crash")
        found = []
        for image, questions, asked in items:
            best = [
                [{"answer": f"{question} {image.getpixel((0, 0))}", "score": 0.5, "question_type": "open_ended"}]
                * options.top_k
                for question in questions
            ]
            found.append(best if isinstance(asked, list) else best[0])
        return found
