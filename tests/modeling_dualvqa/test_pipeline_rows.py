"""Rows of every kind of collection, shared by workers and threads, and what the pipeline refuses of them."""

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
from helpers import COLOR, RED, QuietHandler, same_answers
from PIL import Image
from transformers.pipelines.pt_utils import KeyDataset

from modeling_dualvqa import DualVQAPipeline


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
def numbered_rows(image_paths):
    """Rows of which no two neighbours are the same."""
    return [{"image": image_paths[number % 3], "question": (COLOR, RED)[number % 2]} for number in range(7)]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers, batch_sizes", [(0, (1, 3)), (2, (3,))])
def test_every_row_is_answered_once_and_in_order(pipe, numbered_rows, image_paths, num_workers, batch_sizes):
    expected = [pipe(row) for row in numbered_rows]
    images, questions = (KeyDataset(numbered_rows, name) for name in ("image", "question"))
    for batch_size in batch_sizes:
        options = {"num_workers": num_workers, "batch_size": batch_size}
        for kind, collect in COLLECTIONS.items():
            assert same_answers(list(pipe(collect(numbered_rows), **options)), expected), kind
        assert same_answers(list(pipe(images, questions, **options)), expected)
        assert same_answers(
            pipe(image_paths, [COLOR, RED], **options), [pipe(i, q) for i in image_paths for q in (COLOR, RED)]
        )


def test_no_rows_give_no_answers(pipe):
    assert pipe([]) == [] and pipe(image=[], question=RED) == []
    for kind in COLLECTIONS:
        if kind != "datasets.IterableDataset":  # which can't be made of no rows
            assert list(pipe(COLLECTIONS[kind]([]))) == [], kind


@pytest.mark.parametrize("count", [1, 2])
def test_several_images_in_one_row_are_refused_and_reach_no_other_row(pipe, image_paths, count):
    arrays = [np.zeros((32, 32, 3), dtype=np.uint8), np.full((32, 32, 3), 255, dtype=np.uint8)][:count]
    expected = [pipe(image=path, question=COLOR, top_k=3) for path in image_paths]
    pipe.images.clear()
    for several in (arrays, tuple(arrays), np.stack(arrays), torch.from_numpy(np.stack(arrays))):
        rows = [{"image": image, "question": COLOR} for image in (image_paths[0], several, *image_paths[1:])]
        with pytest.raises(ValueError, match=f"expected one image, found a .* of {count}"):
            pipe(rows, batch_size=4)
        assert same_answers([pipe(image=path, question=COLOR, top_k=3) for path in image_paths], expected)


def test_embeddings_that_are_not_one_for_each_image_or_question_are_refused_and_not_kept(pipe, image_paths):
    for name in ("encode_questions", "encode_images"):
        encode = getattr(pipe.model, name)
        setattr(pipe.model, name, lambda *inputs, encode=encode: encode(*inputs).repeat_interleave(2, dim=0))
        with pytest.raises(ValueError, match="expected 1 embeddings for 1 inputs, found 2"):
            pipe(image=image_paths[0], question=COLOR)
        setattr(pipe.model, name, encode)
    assert not len(pipe.images)


@pytest.mark.slow
def test_threads_get_the_answers_that_one_after_another_gets(model, processor, image_paths):
    """Fast tokenizers hold the padding of a call, and a full cache drops while others look into it."""
    pipe = DualVQAPipeline(model, processor)
    pipe.images.max_bytes = pipe.questions.max_bytes = 6000
    rows = [{"image": path, "question": question} for path in image_paths for question in (COLOR, RED, "is it? " * 3)]
    expected = {str(row): DualVQAPipeline(model, processor)(row) for row in rows}
    found = []

    def ask(number):
        for row in rows[number % len(rows) :] + rows[: number % len(rows)]:
            found.append((str(row), pipe(row)))
            processor(text=row["question"], padding="max_length", truncation=number % 2 == 0)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert len(found) == 8 * len(rows) and all(same_answers(answer, expected[row]) for row, answer in found)
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


def test_options_of_the_pipeline_that_transformers_had_are_taken_or_refused_by_name(pipe, image_paths):
    expected = pipe(image=image_paths[0], question=COLOR)
    assert pipe(image=image_paths[0], question=COLOR, padding=True, truncation=True) == expected
    assert pipe(image=image_paths[0], question=COLOR, padding="max_length", truncation=False) == expected
    with pytest.raises(ValueError, match="tokens without truncation, found"):
        pipe(image=image_paths[0], question=COLOR * 20, truncation=False)
    with pytest.raises(ValueError, match="padding must be one of .*; found 'sideways' and None"):
        pipe(image=image_paths[0], question=COLOR, padding="sideways")
    with pytest.raises(TypeError, match="unknown options: topk; see DualVQAPipeline.__call__"):
        pipe(image=image_paths[0], question=COLOR, topk=2)


class Slow(QuietHandler):
    def do_GET(self):
        time.sleep(0.5)
        super().do_GET()


def test_a_download_has_as_long_as_its_caller_says(pipe, image_paths, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Slow, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    try:
        with pytest.raises(ValueError, match="not complete after 0.1 seconds"):
            pipe(image=url, question=COLOR, timeout=0.1)
        assert pipe(image=url, question=COLOR, timeout=9) == pipe(image=image_paths[0], question=COLOR, timeout=9)
        with pytest.raises(ValueError, match="expected seconds of image sources to be a number above 0, found -1"):
            pipe(image=url, question=COLOR, timeout=-1)
    finally:
        server.shutdown()
        server.server_close()
    assert pipe(image=Image.open(image_paths[0]), question=COLOR, timeout=0.1) == pipe(
        image=image_paths[0], question=COLOR
    )


def test_a_file_that_is_replaced_while_it_is_read_is_kept_under_its_own_content(pipe, image_paths, monkeypatch):
    """What is hashed is what is decoded."""
    image, content = image_paths[0], [Path(path).read_bytes() for path in image_paths]
    expected = [pipe(image=path, question=COLOR, top_k=3) for path in image_paths[:2]]
    pipe.images.clear()
    read = type(pipe.processor.image_processor).read

    def read_and_replace(image_processor, path):
        found = read(image_processor, path)
        Path(image).write_bytes(content[1])
        return found

    monkeypatch.setattr(type(pipe.processor.image_processor), "read", read_and_replace)
    assert same_answers(pipe(image=image, question=COLOR, top_k=3), expected[0])
    assert same_answers(pipe(image=image, question=COLOR, top_k=3), expected[1])


def test_a_pipeline_that_faces_strangers_opens_what_it_is_allowed_to(model, processor, image_paths, tmp_path):
    expected = DualVQAPipeline(model, processor)(image_paths[0], COLOR)
    content = (tmp_path / "a.png").read_bytes()
    pipe = DualVQAPipeline(model, processor, image_sources="objects")
    for image in (content, Image.open(image_paths[0]), {"bytes": content, "path": None}):
        assert pipe(image=image, question=COLOR) == expected
    for image in (image_paths[0], tmp_path / "a.png", {"bytes": None, "path": image_paths[0]}):
        with pytest.raises(ValueError, match="paths are not allowed here"):
            pipe(image=image, question=COLOR)
    with pytest.raises(ValueError, match="URLs are not allowed here"):
        pipe(image="http://127.0.0.1/a.png", question=COLOR)
    assert DualVQAPipeline(model, processor)(image_paths[0], COLOR) == expected  # the processor given is as it was
    small = DualVQAPipeline(model, processor, image_sources={"folders": [tmp_path], "max_pixels": 1100})
    with pytest.raises(ValueError, match="40 x 30 pixels, and the limit max_pixels is 1,100"):
        small(image_paths[0], COLOR)
    assert small(image_paths[2], COLOR) and not small.processor.image_processor.sources.internal


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e30])
def test_an_image_with_one_odd_pixel_is_refused(pipe, odd):
    array = np.zeros((8, 8, 3))
    array[0, 0, 0] = odd
    for image in (array, torch.from_numpy(array).permute(2, 0, 1), array[..., 0]):
        with pytest.raises(ValueError, match="finite pixels|values from 0 to 1e"):
            pipe(image=image, question=COLOR)


def test_each_row_may_have_a_group_of_its_own(tiny_model, processor):
    processor.calibration = {"abstention": {"by": "organ", "groups": {"HEAD": {"threshold": 0.0}, "CHEST": None}}}
    pipe, image = DualVQAPipeline(tiny_model(), processor), Image.new("RGB", (40, 30), "red")
    row = {"image": image, "question": RED}
    rows = [{**row, "group": "HEAD"}, {**row, "question": [RED, COLOR], "group": ["CHEST", "HEAD"]}, row]
    for given, last in ((None, None), ("CHEST", None), ("HEAD", "answered")):
        one, (two, three), four = pipe(rows, batch_size=2, group=given)
        answers = [best[0]["answer"] is not None for best in (one, two, three, four)]
        assert answers == [True, False, True, last == "answered"]
    with pytest.raises(ValueError, match="group must be that of all questions; to ask about several, give rows"):
        pipe(image, [RED, COLOR], group=["HEAD", "CHEST"])
    with pytest.raises(ValueError, match="expected one group, or as many as questions, 1; found 2"):
        pipe([{**row, "group": ["HEAD", "CHEST"]}])
    with pytest.raises(ValueError, match="were made: CHEST, HEAD; found 'head'"):
        pipe(image, RED, group="head")
    processor.calibration = None
    for asked in ((row, {"group": "HEAD"}), ([{**row, "group": "HEAD"}], {})):
        with pytest.raises(ValueError, match="this model has no promises by group, found group='HEAD'"):
            pipe(asked[0], **asked[1])
    assert pipe(row, group=None) == pipe([{**row, "group": None}])[0]
