import functools
import http.server
import threading

import datasets
import numpy as np
import pytest
import torch
from helpers import COLOR, RED, QuietHandler, same_answers
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_dualvqa import DualVQAPipeline


@pytest.fixture
def dataset(image_paths):
    columns = {"image": image_paths, "question": [COLOR, RED, COLOR]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


@pytest.fixture
def image_sizes(model):
    """The number of images in each call of the vision tower."""
    sizes = []
    model.vision_encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def test_one_question_gives_its_best_answers(pipe, image_paths):
    best = pipe(image=image_paths[0], question=COLOR, question_type="open_ended", top_k=3)
    assert {item["answer"] for item in best} == {"red", "green", "blue"}
    assert sum(item["score"] for item in best) == pytest.approx(1) and best[0]["score"] > best[2]["score"]
    assert len(pipe(image=image_paths[0], question=COLOR)) == 1
    assert pipe(image=image_paths[0], question=COLOR, top_k=99, question_type="open_ended") == best


def test_the_scores_of_both_heads_share_one_probability(pipe, image_paths):
    routed = pipe(image=image_paths[0], question=RED, top_k=9)
    forced = pipe(image=image_paths[0], question=RED, top_k=9, question_type=routed[0]["question_type"])
    share = sum(item["score"] for item in routed)
    assert 0.5 <= share < 1 and sum(item["score"] for item in forced) == pytest.approx(1)
    assert [item["score"] / share for item in routed] == pytest.approx([item["score"] for item in forced])


def test_every_kind_of_image_is_taken(pipe, image_paths, tmp_path):
    expected = pipe(image=image_paths[0], question=COLOR)
    image = Image.open(image_paths[0])
    array = np.asarray(image)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    try:
        for kind in (tmp_path / "a.png", image, array, torch.from_numpy(array.copy()).permute(2, 0, 1), url):
            assert pipe(image=kind, question=COLOR) == expected
        with pytest.raises(ValueError, match=r"readable image at http.*gone.png.*404"):
            pipe(image=url.replace("a.png", "gone.png"), question=COLOR)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(ValueError, match=rf"readable image at {url}: "):  # nobody answers there any more
        pipe(image=url, question=COLOR)


def test_several_questions_about_one_image_encode_it_once(pipe, image_paths, image_sizes):
    expected = [pipe(image=image_paths[0], question=question) for question in (COLOR, RED)]
    image_sizes.clear()
    pipe.images.clear()
    assert same_answers(pipe(image=image_paths[0], question=[COLOR, RED]), expected)
    assert same_answers(pipe({"image": image_paths[0], "question": [COLOR, RED]}), expected)
    assert image_sizes == [1]


def test_lists_of_images_and_questions_give_every_pair(pipe, image_paths, image_sizes):
    expected = [pipe(image=image, question=question) for image in image_paths for question in (COLOR, RED)]
    image_sizes.clear()
    pipe.images.clear()
    assert same_answers(pipe(image=image_paths, question=[COLOR, RED], batch_size=2), expected)
    assert image_sizes == [2, 1]
    assert same_answers(pipe(image=image_paths, question=RED), expected[1::2])
    assert same_answers(pipe(image=image_paths[:1], question=RED), expected[1:2])


def test_dicts_come_alone_in_lists_and_from_generators(pipe, image_paths):
    rows = [{"image": image, "question": RED} for image in image_paths]
    expected = [pipe(image=image, question=RED) for image in image_paths]
    assert same_answers(pipe(rows[0]), expected[0])
    for batch_size in (1, 2, 8):
        assert same_answers(pipe(rows, batch_size=batch_size), expected)
    assert same_answers(list(pipe((row for row in rows), batch_size=2)), expected)
    mixed = pipe([rows[0], {"image": image_paths[1], "question": [COLOR, RED]}], batch_size=2)
    assert same_answers(mixed, [expected[0], [pipe(image=image_paths[1], question=COLOR), expected[1]]])


def test_a_generator_is_read_only_as_far_as_answers_are_taken(pipe, image_paths):
    read = []
    answers = pipe({"image": image, "question": RED} for image in image_paths if read.append(image) is None)
    next(answers)
    assert len(read) <= 2


def test_data_sets_are_streams_of_rows_or_columns(pipe, dataset, image_paths):
    expected = [pipe(image=image, question=question) for image, question in zip(image_paths, dataset["question"])]
    assert same_answers(list(pipe(dataset, batch_size=2)), expected)
    images, questions = KeyDataset(dataset, "image"), KeyDataset(dataset, "question")
    assert same_answers(list(pipe(image=images, question=questions)), expected)
    assert same_answers(list(pipe(images, question=RED)), [pipe(image=image, question=RED) for image in image_paths])


def test_options_may_be_given_once_for_all(model, processor, image_paths):
    pipe = pipeline(
        "dualvqa", model=model, processor=processor, device="cpu", batch_size=2, top_k=2, question_type="binary"
    )
    best = pipe(image=image_paths[0], question=COLOR)
    assert [item["question_type"] for item in best] == ["binary", "binary"]
    assert len(pipe(image=image_paths[0], question=COLOR, top_k=1)) == 1


def test_a_model_fresh_from_training_answers_without_dropout(model, processor, image_paths):
    pipe = DualVQAPipeline(model.train(), processor)
    assert pipe(image=image_paths[0], question=RED) == pipe(image=image_paths[0], question=RED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_alike(model, processor, image_paths, dtype):
    expected = DualVQAPipeline(model, processor)(image=image_paths[0], question=COLOR, top_k=9, question_type="binary")
    found = DualVQAPipeline(model.to(dtype), processor)(
        image=image_paths[0], question=COLOR, top_k=9, question_type="binary"
    )
    scores = [{item["answer"]: item["score"] for item in best} for best in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"image": "picture.png"}, "expected a dict with image and question, found str"),
        ({"image": {"image": "picture.png"}}, r"expected a dict with image and question, found \['image'\]"),
        ({"image": None, "question": RED}, "expected an image for the question .*, found None"),
        ({"image": 42, "question": RED}, "expected a path, a URL, bytes, a PIL image, an array or a tensor, found 42"),
        ({"image": "gone.png", "question": RED}, "readable image at gone.png"),
        ({"image": __file__, "question": RED}, "readable image at .*test_pipeline_dualvqa.py"),
        ({"image": Image.new("RGB", (4, 4)), "question": " "}, "expected a question as text, found ' '"),
        ({"image": Image.new("RGB", (4, 4)), "question": [RED, 3]}, "expected a question as text, found 3"),
        ({"image": Image.new("RGB", (4, 4)), "question": []}, "found an empty list"),
        ({"image": Image.new("RGB", (4, 4)), "question": RED, "question_type": "maybe"}, "question_type must be"),
    ],
)
def test_bad_input_is_named(pipe, inputs, message):
    with pytest.raises(ValueError, match=message):
        pipe(**inputs)


def test_columns_of_unlike_length_are_refused(pipe, dataset):
    with pytest.raises(ValueError, match="as many images as questions, found 3 and 2"):
        pipe(image=KeyDataset(dataset, "image"), question=KeyDataset(dataset.select([0, 1]), "question"))


def test_a_model_without_a_processor_and_another_kind_of_model_are_refused(model, processor):
    with pytest.raises(ValueError, match="needs its processor"):
        DualVQAPipeline(model)
    with pytest.raises(ValueError, match="expected a DualVQA model, found a distilbert"):
        DualVQAPipeline(model.text_encoder.model, processor)


@pytest.fixture
def question_counts(model):
    """The number of questions in each call of the text tower."""
    counts = []
    model.text_encoder.register_forward_pre_hook(lambda _, inputs: counts.append(len(inputs[0])))
    return counts


@pytest.mark.parametrize("as_image", [lambda path: path, Image.open], ids=["path", "PIL"])
def test_what_was_encoded_before_is_known(pipe, image_paths, image_sizes, question_counts, as_image):
    first = pipe(as_image(image_paths[0]), [COLOR, RED])
    again = pipe([as_image(path) for path in image_paths], [RED, "is it blue?"], batch_size=3)
    assert image_sizes == [1, 2] and question_counts == [2, 1]
    assert same_answers(again[0], first[1])
    uncached = DualVQAPipeline(pipe.model, pipe.processor, embedding_cache_mib=0)
    assert same_answers(uncached(image_paths, [RED, "is it blue?"], batch_size=3), again)
    assert not len(uncached.images) and not len(uncached.questions)


def test_the_same_image_and_question_twice_in_a_batch_are_encoded_once(pipe, image_paths, image_sizes, question_counts):
    rows = [{"image": path, "question": COLOR} for path in [*image_paths, *image_paths]]
    answers = pipe(rows, batch_size=6)
    assert image_sizes == [3] and question_counts == [1]
    assert same_answers(answers[:3], answers[3:])


def test_a_changed_file_is_encoded_anew(pipe, image_paths, image_sizes):
    before = pipe(image_paths[0], COLOR, top_k=3)
    Image.new("RGB", (40, 30), "red").save(image_paths[0])
    assert pipe(image_paths[0], COLOR, top_k=3) != before and image_sizes == [1, 1]


def test_changed_weights_and_settings_are_noticed(pipe, image_paths, image_sizes, question_counts):
    pipe(image_paths[0], COLOR)
    with torch.no_grad():
        pipe.model.visual_projection.weight.mul_(2)
    pipe(image_paths[0], COLOR)
    pipe.model.load_state_dict(pipe.model.state_dict())
    pipe(image_paths[0], COLOR)
    assert image_sizes == [1, 1, 1] and question_counts == [1, 1, 1]
    pipe.processor.image_processor.size = {"height": 64, "width": 64}
    pipe(image_paths[0], COLOR)
    assert len(image_sizes) == 4 and len(question_counts) == 3


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest(pipe, image_paths, image_sizes):
    pipe(image_paths[0], COLOR)
    pipe.images.max_bytes = 2 * pipe.images.bytes
    pipe(image_paths[1], COLOR), pipe(image_paths[0], COLOR), pipe(image_paths[2], COLOR)
    assert len(pipe.images) == 2 and pipe.images.bytes == pipe.images.max_bytes
    pipe(image_paths[0], COLOR), pipe(image_paths[1], COLOR)
    assert image_sizes == [1, 1, 1, 1]  # 0, 1, 2, and 1 again


def test_a_negative_cache_is_refused(model, processor):
    with pytest.raises(ValueError, match="embedding_cache_mib must not be negative, found -1"):
        DualVQAPipeline(model, processor, embedding_cache_mib=-1)
