import concurrent.futures
import functools
import http.server
import threading
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_dualvqa import DualVQAPipeline

COLOR, RED = "what color is it?", "is it red?"


@pytest.fixture
def model(tiny_model):
    model = tiny_model(fusion_type="cross_attention")
    for head in (model.binary_head, model.open_ended_head):  # larger steps between scores than rounding makes
        torch.nn.init.normal_(head[-1].weight, std=3.0)
    return model


@pytest.fixture
def pipe(model, processor):
    return DualVQAPipeline(model, processor)


@pytest.fixture
def pictures(tmp_path):
    """Paths of three pictures that differ."""
    paths = []
    for name, size in (("a", (40, 30)), ("b", (30, 40)), ("c", (33, 33))):
        paths.append(str(tmp_path / f"{name}.png"))
        Image.effect_noise(size, 90).convert("RGB").save(paths[-1])
    return paths


@pytest.fixture
def dataset(pictures):
    columns = {"image": pictures, "question": [COLOR, RED, COLOR]}
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


@pytest.fixture
def image_sizes(model):
    """The number of images in each call of the vision tower."""
    sizes = []
    model.vision_encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def same(found, expected):
    """Whether two results are alike up to rounding: nested lists of dicts."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return {**found, "score": pytest.approx(expected["score"], abs=1e-5)} == expected


def test_one_question_gives_its_best_answers(pipe, pictures):
    best = pipe(image=pictures[0], question=COLOR, question_type="open_ended", top_k=3)
    assert {item["answer"] for item in best} == {"red", "green", "blue"}
    assert sum(item["score"] for item in best) == pytest.approx(1) and best[0]["score"] > best[2]["score"]
    assert len(pipe(image=pictures[0], question=COLOR)) == 1
    assert pipe(image=pictures[0], question=COLOR, top_k=99, question_type="open_ended") == best


def test_the_scores_of_both_heads_share_one_probability(pipe, pictures):
    routed = pipe(image=pictures[0], question=RED, top_k=9)
    forced = pipe(image=pictures[0], question=RED, top_k=9, question_type=routed[0]["question_type"])
    share = sum(item["score"] for item in routed)
    assert 0.5 <= share < 1 and sum(item["score"] for item in forced) == pytest.approx(1)
    assert [item["score"] / share for item in routed] == pytest.approx([item["score"] for item in forced])


def test_every_kind_of_image_is_taken(pipe, pictures, tmp_path):
    expected = pipe(image=pictures[0], question=COLOR)
    image = Image.open(pictures[0])
    array = np.asarray(image)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_several_questions_about_one_image_encode_it_once(pipe, pictures, image_sizes):
    expected = [pipe(image=pictures[0], question=question) for question in (COLOR, RED)]
    image_sizes.clear()
    pipe.images.clear()
    assert same(pipe(image=pictures[0], question=[COLOR, RED]), expected)
    assert same(pipe({"image": pictures[0], "question": [COLOR, RED]}), expected)
    assert image_sizes == [1]


def test_lists_of_images_and_questions_give_every_pair(pipe, pictures, image_sizes):
    expected = [pipe(image=image, question=question) for image in pictures for question in (COLOR, RED)]
    image_sizes.clear()
    pipe.images.clear()
    assert same(pipe(image=pictures, question=[COLOR, RED], batch_size=2), expected)
    assert image_sizes == [2, 1]
    assert same(pipe(image=pictures, question=RED), expected[1::2])
    assert same(pipe(image=pictures[:1], question=RED), expected[1:2])


def test_dicts_come_alone_in_lists_and_from_generators(pipe, pictures):
    rows = [{"image": image, "question": RED} for image in pictures]
    expected = [pipe(image=image, question=RED) for image in pictures]
    assert same(pipe(rows[0]), expected[0])
    for batch_size in (1, 2, 8):
        assert same(pipe(rows, batch_size=batch_size), expected)
    assert same(list(pipe((row for row in rows), batch_size=2)), expected)
    mixed = pipe([rows[0], {"image": pictures[1], "question": [COLOR, RED]}], batch_size=2)
    assert same(mixed, [expected[0], [pipe(image=pictures[1], question=COLOR), expected[1]]])


def test_a_generator_is_read_only_as_far_as_answers_are_taken(pipe, pictures):
    read = []
    answers = pipe({"image": image, "question": RED} for image in pictures if read.append(image) is None)
    next(answers)
    assert len(read) <= 2


def test_data_sets_are_streams_of_rows_or_columns(pipe, dataset, pictures):
    expected = [pipe(image=image, question=question) for image, question in zip(pictures, dataset["question"])]
    assert same(list(pipe(dataset, batch_size=2)), expected)
    images, questions = KeyDataset(dataset, "image"), KeyDataset(dataset, "question")
    assert same(list(pipe(image=images, question=questions)), expected)
    assert same(list(pipe(images, question=RED)), [pipe(image=image, question=RED) for image in pictures])


def test_options_may_be_given_once_for_all(model, processor, pictures):
    pipe = pipeline(
        "dualvqa", model=model, processor=processor, device="cpu", batch_size=2, top_k=2, question_type="binary"
    )
    best = pipe(image=pictures[0], question=COLOR)
    assert [item["question_type"] for item in best] == ["binary", "binary"]
    assert len(pipe(image=pictures[0], question=COLOR, top_k=1)) == 1


def test_a_model_fresh_from_training_answers_without_dropout(model, processor, pictures):
    pipe = DualVQAPipeline(model.train(), processor)
    assert pipe(image=pictures[0], question=RED) == pipe(image=pictures[0], question=RED)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_alike(model, processor, pictures, dtype):
    expected = DualVQAPipeline(model, processor)(image=pictures[0], question=COLOR, top_k=9, question_type="binary")
    found = DualVQAPipeline(model.to(dtype), processor)(
        image=pictures[0], question=COLOR, top_k=9, question_type="binary"
    )
    scores = [{item["answer"]: item["score"] for item in best} for best in (found, expected)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"image": "picture.png"}, "expected a dict with image and question, found str"),
        ({"image": {"image": "picture.png"}}, r"expected a dict with image and question, found \['image'\]"),
        ({"image": None, "question": RED}, "expected an image for the question .*, found None"),
        ({"image": 42, "question": RED}, "expected a path, a URL, a PIL image, an array or a tensor, found 42"),
        ({"image": "gone.png", "question": RED}, "readable image at gone.png"),
        ({"image": __file__, "question": RED}, "readable image at .*test_pipeline_dualvqa.py"),
        ({"image": Image.new("RGB", (4, 4)), "question": " "}, "expected a question as text, found ' '"),
        ({"image": Image.new("RGB", (4, 4)), "question": [RED, 3]}, "expected a question as text, found 3"),
        ({"image": Image.new("RGB", (4, 4)), "question": []}, "expected a question as text, found ''"),
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
def test_what_was_encoded_before_is_known(pipe, pictures, image_sizes, question_counts, as_image):
    first = pipe(as_image(pictures[0]), [COLOR, RED])
    again = pipe([as_image(path) for path in pictures], [RED, "is it blue?"], batch_size=3)
    assert image_sizes == [1, 2] and question_counts == [2, 1]
    assert same(again[0], first[1])
    uncached = DualVQAPipeline(pipe.model, pipe.processor, embedding_cache_mib=0)
    assert same(uncached(pictures, [RED, "is it blue?"], batch_size=3), again)
    assert not len(uncached.images) and not len(uncached.questions)


def test_the_same_picture_and_question_twice_in_a_batch_are_encoded_once(pipe, pictures, image_sizes, question_counts):
    rows = [{"image": path, "question": COLOR} for path in [*pictures, *pictures]]
    answers = pipe(rows, batch_size=6)
    assert image_sizes == [3] and question_counts == [1]
    assert same(answers[:3], answers[3:])


def test_a_changed_file_is_encoded_anew(pipe, pictures, image_sizes):
    before = pipe(pictures[0], COLOR, top_k=3)
    Image.new("RGB", (40, 30), "red").save(pictures[0])
    assert pipe(pictures[0], COLOR, top_k=3) != before and image_sizes == [1, 1]


def test_changed_weights_and_settings_are_noticed(pipe, pictures, image_sizes, question_counts):
    pipe(pictures[0], COLOR)
    with torch.no_grad():
        pipe.model.visual_projection.weight.mul_(2)
    pipe(pictures[0], COLOR)
    pipe.model.load_state_dict(pipe.model.state_dict())
    pipe(pictures[0], COLOR)
    assert image_sizes == [1, 1, 1] and question_counts == [1, 1, 1]
    pipe.processor.image_processor.size = {"height": 64, "width": 64}
    pipe(pictures[0], COLOR)
    assert len(image_sizes) == 4 and len(question_counts) == 3


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest(pipe, pictures, image_sizes):
    pipe(pictures[0], COLOR)
    pipe.images.max_bytes = 2 * pipe.images.bytes
    pipe(pictures[1], COLOR), pipe(pictures[0], COLOR), pipe(pictures[2], COLOR)
    assert len(pipe.images) == 2 and pipe.images.bytes == pipe.images.max_bytes
    pipe(pictures[0], COLOR), pipe(pictures[1], COLOR)
    assert image_sizes == [1, 1, 1, 1]  # 0, 1, 2, and 1 again


def test_a_negative_cache_is_refused(model, processor):
    with pytest.raises(ValueError, match="embedding_cache_mib must not be negative, found -1"):
        DualVQAPipeline(model, processor, embedding_cache_mib=-1)


class Numbered(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


class Streamed(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


class StreamedWithLength(Streamed):
    def __len__(self):
        return len(self.rows)


COLLECTIONS = {
    "list": lambda rows: rows,
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "iterator": iter,
    "torch Dataset": Numbered,
    "torch IterableDataset": Streamed,
    "torch IterableDataset with a length": StreamedWithLength,
    "datasets.Dataset": lambda rows: datasets.Dataset.from_list(rows),
    "datasets.IterableDataset": lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(num_shards=2),
    "KeyDataset of rows": lambda rows: KeyDataset([{"row": row} for row in rows], "row"),
}


@pytest.fixture
def numbered_rows(pictures):
    """Rows of which no two neighbours are the same."""
    return [{"image": pictures[number % 3], "question": (COLOR, RED)[number % 2]} for number in range(7)]


@pytest.mark.parametrize("num_workers, batch_sizes", [(0, (1, 3)), (2, (3,))])
def test_every_row_is_answered_once_and_in_order(pipe, numbered_rows, pictures, num_workers, batch_sizes):
    expected = [pipe(row) for row in numbered_rows]
    images, questions = (KeyDataset(numbered_rows, name) for name in ("image", "question"))
    for batch_size in batch_sizes:
        options = {"num_workers": num_workers, "batch_size": batch_size}
        for kind, collect in COLLECTIONS.items():
            assert same(list(pipe(collect(numbered_rows), **options)), expected), kind
        assert same(list(pipe(images, questions, **options)), expected)
        assert same(pipe(pictures, [COLOR, RED], **options), [pipe(i, q) for i in pictures for q in (COLOR, RED)])


def test_no_rows_give_no_answers(pipe):
    assert pipe([]) == [] and pipe(image=[], question=RED) == []
    for kind in COLLECTIONS:
        if kind != "datasets.IterableDataset":  # which can't be made of no rows
            assert list(pipe(COLLECTIONS[kind]([]))) == [], kind


@pytest.mark.parametrize("count", [1, 2])
def test_several_images_in_one_row_are_refused_and_reach_no_other_row(pipe, pictures, count):
    arrays = [np.zeros((32, 32, 3), dtype=np.uint8), np.full((32, 32, 3), 255, dtype=np.uint8)][:count]
    expected = [pipe(image=path, question=COLOR, top_k=3) for path in pictures]
    pipe.images.clear()
    for several in (arrays, tuple(arrays), np.stack(arrays), torch.from_numpy(np.stack(arrays))):
        rows = [{"image": image, "question": COLOR} for image in (pictures[0], several, *pictures[1:])]
        with pytest.raises(ValueError, match=f"expected one image, found a .* of {count}"):
            pipe(rows, batch_size=4)
        assert same([pipe(image=path, question=COLOR, top_k=3) for path in pictures], expected)


def test_embeddings_that_are_not_one_for_each_image_or_question_are_refused_and_not_kept(pipe, pictures):
    for name in ("encode_questions", "encode_images"):
        encode = getattr(pipe.model, name)
        setattr(pipe.model, name, lambda *inputs, encode=encode: encode(*inputs).repeat_interleave(2, dim=0))
        with pytest.raises(ValueError, match="expected 1 embeddings for 1 inputs, found 2"):
            pipe(image=pictures[0], question=COLOR)
        setattr(pipe.model, name, encode)
    assert not len(pipe.images)


def test_threads_get_the_answers_that_one_after_another_gets(model, processor, pictures):
    """Fast tokenizers hold the padding of a call, and a full cache drops while others look into it."""
    pipe = DualVQAPipeline(model, processor)
    pipe.images.max_bytes = pipe.questions.max_bytes = 6000
    rows = [{"image": path, "question": question} for path in pictures for question in (COLOR, RED, "is it? " * 3)]
    expected = {str(row): DualVQAPipeline(model, processor)(row) for row in rows}
    found = []

    def ask(number):
        for row in rows[number % len(rows) :] + rows[: number % len(rows)]:
            found.append((str(row), pipe(row)))
            processor(text=row["question"], padding="max_length", truncation=number % 2 == 0)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(found) == 8 * len(rows) and all(same(answer, expected[row]) for row, answer in found)
    for cache in (pipe.images, pipe.questions):
        assert cache.bytes == sum(embedding.nbytes for embedding in cache.entries.values()) <= cache.max_bytes


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["open_ended_head.0.weight", "familiarity.whitening"])
def test_weights_that_are_no_numbers_are_refused_before_anything_is_asked(tiny_model, processor, name, value):
    model = tiny_model(familiarity=True)
    with torch.no_grad():
        model.state_dict()[name][0, 0] = value
    with pytest.raises(ValueError, match=f"the model's {name} has values that aren't finite"):
        DualVQAPipeline(model, processor)


def test_options_of_the_pipeline_that_transformers_had_are_taken_or_refused_by_name(pipe, pictures):
    expected = pipe(image=pictures[0], question=COLOR)
    assert pipe(image=pictures[0], question=COLOR, padding=True, truncation=True) == expected
    assert pipe(image=pictures[0], question=COLOR, padding="max_length", truncation=False) == expected
    with pytest.raises(ValueError, match="tokens without truncation, found"):
        pipe(image=pictures[0], question=COLOR * 20, truncation=False)
    with pytest.raises(ValueError, match="padding must be one of .*; found 'sideways' and None"):
        pipe(image=pictures[0], question=COLOR, padding="sideways")
    with pytest.raises(TypeError, match="unknown options: topk; see DualVQAPipeline.__call__"):
        pipe(image=pictures[0], question=COLOR, topk=2)


class Slow(Quiet):
    def do_GET(self):
        time.sleep(0.5)
        super().do_GET()


def test_a_download_has_as_long_as_its_caller_says(pipe, pictures, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Slow, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    try:
        with pytest.raises(ValueError, match="not complete after 0.1 seconds"):
            pipe(image=url, question=COLOR, timeout=0.1)
        assert pipe(image=url, question=COLOR, timeout=9) == pipe(image=pictures[0], question=COLOR, timeout=9)
        with pytest.raises(ValueError, match="expected seconds of image sources to be a number above 0, found -1"):
            pipe(image=url, question=COLOR, timeout=-1)
    finally:
        server.shutdown()
        server.server_close()
    assert pipe(image=Image.open(pictures[0]), question=COLOR, timeout=0.1) == pipe(image=pictures[0], question=COLOR)


def test_a_file_that_is_replaced_while_it_is_read_is_kept_under_its_own_content(pipe, pictures, monkeypatch):
    """What is hashed is what is decoded."""
    image, content = pictures[0], [Path(path).read_bytes() for path in pictures]
    expected = [pipe(image=path, question=COLOR, top_k=3) for path in pictures[:2]]
    pipe.images.clear()
    read = type(pipe.processor.image_processor).read

    def read_and_replace(image_processor, path):
        found = read(image_processor, path)
        Path(image).write_bytes(content[1])
        return found

    monkeypatch.setattr(type(pipe.processor.image_processor), "read", read_and_replace)
    assert same(pipe(image=image, question=COLOR, top_k=3), expected[0])
    assert same(pipe(image=image, question=COLOR, top_k=3), expected[1])


def test_a_pipeline_that_faces_strangers_opens_what_it_is_allowed_to(model, processor, pictures, tmp_path):
    expected = DualVQAPipeline(model, processor)(pictures[0], COLOR)
    content = (tmp_path / "a.png").read_bytes()
    pipe = DualVQAPipeline(model, processor, image_sources="objects")
    for image in (content, Image.open(pictures[0]), {"bytes": content, "path": None}):
        assert pipe(image=image, question=COLOR) == expected
    for image in (pictures[0], tmp_path / "a.png", {"bytes": None, "path": pictures[0]}):
        with pytest.raises(ValueError, match="paths are not allowed here"):
            pipe(image=image, question=COLOR)
    with pytest.raises(ValueError, match="URLs are not allowed here"):
        pipe(image="http://127.0.0.1/a.png", question=COLOR)
    assert DualVQAPipeline(model, processor)(pictures[0], COLOR) == expected  # the processor given is as it was
    small = DualVQAPipeline(model, processor, image_sources={"folders": [tmp_path], "max_pixels": 1100})
    with pytest.raises(ValueError, match="40 x 30 pixels, and the limit max_pixels is 1,100"):
        small(pictures[0], COLOR)
    assert small(pictures[2], COLOR) and not small.processor.image_processor.sources.internal


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e30])
def test_an_image_with_one_odd_pixel_is_refused(pipe, odd):
    array = np.zeros((8, 8, 3))
    array[0, 0, 0] = odd
    for image in (array, torch.from_numpy(array).permute(2, 0, 1), array[..., 0]):
        with pytest.raises(ValueError, match="finite pixels|values from 0 to 1e"):
            pipe(image=image, question=COLOR)
