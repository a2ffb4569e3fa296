"""Random tables, images, arrays, questions and settings: a result, or a ValueError of this project.

`pytest tests/test_fuzzing.py --hypothesis-profile long` tries many more.
"""

import io
import json
import math
import os
import traceback
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from modeling_dualvqa import DualVQAConfig, DualVQAPipeline
from processing import DataArguments, consensus, normalise_answer, prepare_datasets, write_predictions
from processing.datasets import image_key

ROOT = Path(__file__).resolve().parents[2]
TEXTS = st.text(max_size=12) | st.text(st.characters(), max_size=4)  # the second with halves of surrogate pairs
NUMBERS = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
IMAGES = st.sampled_from(["0.png", "1.png"])
ODD_IMAGES = (
    st.sampled_from(["missing.png", "", ".", "../0.png", "\0", "text.png"]) | JSON | st.lists(IMAGES, max_size=2)
)
WORDS = (
    st.sampled_from(["red", "Yes", "no", "2", "2.0", "A.P.", "the", "?", "N/A", "Hepatitis A", "none", "true"]) | TEXTS
)
WORDS_OF_FILES = st.text(min_size=1, max_size=8)
ANSWERS = WORDS | st.lists(WORDS | st.none(), min_size=1, max_size=4)
OWN_NAMES = st.sampled_from(["id", "fold", "date", "score", "answer", "row", "image_key", "a b", "é"]) | TEXTS
CELLS = {"image": (IMAGES, ODD_IMAGES), "question": (WORDS, JSON), "answer": (ANSWERS, JSON)}


def refuses(call):
    """What a call gives, and whether it refused instead, in words of this project."""
    try:
        return call(), False
    except ValueError as error:
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        assert ROOT in place.parents and ".venv" not in place.parts, f"a message of {place}: {error}"
        assert str(error).strip() and len(str(error)) < 5000
        return None, True


@st.composite
def tables(draw):
    """Rows with an image, a question and an answer each, few of them odd, and fields of their own."""
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        odd = draw(st.sampled_from([None, None, None, None, "image", "question", "answer"]))
        row = {name: draw(unusual if name == odd else usual) for name, (usual, unusual) in CELLS.items()}
        if draw(st.integers(0, 9)) == 0:
            del row[draw(st.sampled_from(list(CELLS)))]
        own = draw(st.dictionaries(OWN_NAMES.filter(lambda name: name not in CELLS), JSON, max_size=3))
        rows.append({**own, **row})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzing")
    for number, color in enumerate(("red", "blue")):
        Image.new("RGB", (40, 30), color).save(folder / f"{number}.png")
    (folder / "text.png").write_text("no image")
    return folder


def as_jsonl(rows, ascii_only):
    return "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)


def as_array(rows, ascii_only):
    return json.dumps(rows, ensure_ascii=ascii_only, indent=1)


WRITERS = {"rows.jsonl": as_jsonl, "rows.json": as_array, "array.jsonl": as_array, "lines.json": as_jsonl}


@pytest.mark.slow
@given(
    rows=tables(),
    name=st.sampled_from(list(WRITERS)),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    rule=st.sampled_from(["error", "skip"]),
    ascii_only=st.booleans(),
)
def test_a_table_is_read_as_it_says_or_refused(folder, rows, name, encoding, rule, ascii_only):
    path = folder / name
    path.write_bytes(WRITERS[name](rows, ascii_only).encode(encoding, errors="ignore"))
    readable = ascii_only or encoding.startswith("utf-8")
    args = DataArguments(
        train_file=os.fspath(path), image_dir=os.fspath(folder), validation_fraction=0.0, on_bad_example=rule
    )
    found, refused = refuses(lambda: prepare_datasets(args))
    if refused or not readable:
        return
    parts, raw, bad = found
    train = parts["train"]
    assert len(train) + len(bad) == len(rows)
    if not ascii_only:  # what no file can hold was left out when it was written
        rows = json.loads(json.dumps(rows, ensure_ascii=False).encode(errors="ignore"))
    for row in train:
        source, answer = rows[row["row"]], row["answer"]
        if isinstance(source["question"], str) and not source["question"].strip().startswith("["):
            assert row["question"] == source["question"]
        said = [answer] if isinstance(answer, str) else answer
        assert said and all(isinstance(text, str) and text.strip() for text in said)
        if isinstance(source["answer"], str) and not source["answer"].strip().startswith("["):
            assert said == [source["answer"]]
        assert normalise_answer(consensus(answer)) == consensus(answer)
    check_own_fields(folder / "predictions.jsonl", train["row"], rows, raw["train"])


def check_own_fields(path, numbers, rows, raw):
    """A predictions file has each row's own fields as they were."""
    best = [[{"answer": "yes", "score": 1.0, "question_type": "binary"}]] * len(numbers)
    write_predictions(os.fspath(path), best, list(numbers), raw)
    for number, line in zip(numbers, path.read_text(encoding="utf-8").split("\n")):
        written = json.loads(line)
        for name, value in rows[number].items():
            name = f"source_{name}" if name in ("answer", "score", "question_type", "top_k") else name
            assert json.dumps(written[name]) == json.dumps(value), name


PLAIN_TEXTS = st.text(max_size=12)
COLUMNS = [PLAIN_TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=4), IMAGES]
COLUMNS += [st.lists(column, max_size=2) for column in COLUMNS] + [st.fixed_dictionaries({"bytes": COLUMNS[4]})]


@st.composite
def column_tables(draw):
    """An Arrow table, each of whose columns has one type."""
    names = ["image", "question", "answer", *draw(st.lists(PLAIN_TEXTS, max_size=2))]
    count, columns = draw(st.integers(1, 4)), {}
    for name in names:
        usual = {"image": IMAGES, "question": WORDS_OF_FILES, "answer": WORDS_OF_FILES}.get(name)
        cells = usual if usual is not None and draw(st.integers(0, 2)) else draw(st.sampled_from(COLUMNS))
        columns[name] = draw(
            st.lists(cells | st.none() if draw(st.booleans()) else cells, min_size=count, max_size=count)
        )
    return pyarrow.table(columns)


@pytest.mark.slow
@given(table=column_tables(), rule=st.sampled_from(["error", "skip"]))
def test_a_parquet_table_is_read_as_it_says_or_refused(folder, table, rule):
    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(table, path)
    args = DataArguments(
        train_file=os.fspath(path), image_dir=os.fspath(folder), validation_fraction=0.0, on_bad_example=rule
    )
    found, refused = refuses(lambda: prepare_datasets(args))
    if refused:
        return
    parts, raw, bad = found
    assert len(parts["train"]) + len(bad) == len(table)
    rows = table.to_pylist()
    for row in parts["train"]:
        if isinstance(rows[row["row"]]["answer"], str) and not rows[row["row"]]["answer"].strip().startswith("["):
            assert row["answer"] == rows[row["row"]]["answer"]
    best = [[{"answer": "yes", "score": 1.0, "question_type": "binary"}]] * len(parts["train"])
    write_predictions(os.fspath(folder / "predictions.jsonl"), best, parts["train"]["row"], raw["train"])
    assert (folder / "predictions.jsonl").read_text(encoding="utf-8").count("\n") == len(best)


@given(content=st.binary(max_size=200), name=st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.parquet"]))
def test_a_file_of_any_bytes_is_read_or_refused(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    args = DataArguments(train_file=os.fspath(path), image_dir=os.fspath(folder), validation_fraction=0.0)
    refuses(lambda: prepare_datasets(args))


@given(
    cells=st.lists(st.tuples(IMAGES, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4),
    separator=st.sampled_from([",", ";", "\t"]),
)
def test_a_csv_table_is_read_as_it_says_or_refused(folder, cells, separator):
    rows = [separator.join(quoted(cell) for cell in row) for row in [("image", "question", "answer", "own"), *cells]]
    path = folder / "rows.csv"
    path.write_bytes("\r\n".join(rows).encode(errors="ignore"))
    args = DataArguments(
        train_file=os.fspath(path), image_dir=os.fspath(folder), validation_fraction=0.0, on_bad_example="skip"
    )
    found, refused = refuses(lambda: prepare_datasets(args))
    if not refused:
        for row in found[0]["train"]:
            expected = [cell.encode(errors="ignore").decode() for cell in cells[row["row"]]]
            assert [row["question"], row["own"]] == [expected[1], expected[3]] or "[" in "".join(expected)


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


@st.composite
def image_files(draw):
    """The bytes of an image of any mode and format, whole or spoilt."""
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"]))
    kind = draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "JPEG2000"]))
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    exif = draw(st.none() | st.binary(max_size=60).map(lambda block: b"Exif\0\0" + block))
    image, buffer = Image.new(mode, size, draw(st.integers(0, 255)) if mode != "1" else 1), io.BytesIO()
    try:
        image.save(buffer, kind, **({"exif": exif} if exif and kind in ("JPEG", "PNG", "WEBP") else {}))
    except (OSError, ValueError, KeyError, SyntaxError):
        assume(False)  # a format that doesn't have that mode
    content = bytearray(buffer.getvalue())
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)):
        content[place % len(content)] = byte
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


@given(content=image_files())
def test_the_check_of_an_image_says_what_the_run_will_say(folder, processor, content):
    path = folder / "random.img"
    path.write_bytes(content)
    key = image_key(os.fspath(path))
    pixels, refused = refuses(lambda: processor(images=os.fspath(path), return_tensors="pt")["pixel_values"])
    assert refused == isinstance(key, Exception), key
    assert refused or (pixels.shape == (1, 3, 32, 32) and pixels.isfinite().all())


@given(
    image=arrays.arrays(
        st.sampled_from(["uint8", "int16", "uint16", "int64", "float32", "float64", "bool"]),
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    ),
    as_tensor=st.booleans(),
)
def test_an_array_gives_finite_pixels_or_is_refused(processor, image, as_tensor):
    image = torch.from_numpy(image.astype("int32") if image.dtype == "uint16" else image) if as_tensor else image
    pixels, refused = refuses(lambda: processor(images=[image], return_tensors="pt")["pixel_values"])
    assert refused or (pixels.shape[1:] == (3, 32, 32) and pixels.isfinite().all())


@given(values=arrays.arrays("uint8", (6, 7, 3)), kind=st.sampled_from(["int16", "int64", "float64", "unit"]))
def test_an_array_of_another_type_is_the_same_image(processor, values, kind):
    assume(values.max() > 2)  # else floats could be of either range
    other = (values / 255).astype(np.float32) if kind == "unit" else values.astype(kind)
    one, two = (processor(images=image, return_tensors="pt")["pixel_values"] for image in (values, other))
    assert torch.equal(one, two)


@pytest.fixture(scope="module")
def pipe(request):
    return {}


@given(
    question=st.text(max_size=40) | TEXTS | st.integers() | st.none() | st.lists(TEXTS, max_size=2),
    content=image_files(),
)
def test_the_pipeline_answers_with_a_finite_score_or_refuses(tiny_model, processor, pipe, question, content):
    if not pipe:  # one for all examples
        pipe["it"] = DualVQAPipeline(tiny_model(), processor)
    found, refused = refuses(lambda: pipe["it"](image=content, question=question))
    if not refused:
        lists = found if isinstance(question, list) else [found]
        assert all(math.isfinite(best["score"]) and best["answer"] for answers in lists for best in answers)


FIELDS = sorted(DualVQAConfig.limits)
ODD_VALUES = SCALARS | st.floats() | st.sampled_from(["1e-3", "true", "maybe", "-1", [], [1], {}, 0, -1, 1e9])


@given(name=st.sampled_from(FIELDS), value=ODD_VALUES)
def test_a_setting_is_taken_as_its_type_or_refused(name, value):
    config, refused = refuses(lambda: DualVQAConfig(**{name: value}))
    if not refused:
        found = getattr(config, name)
        assert not isinstance(found, float) or math.isfinite(found)
        assert DualVQAConfig.from_dict(json.loads(config.to_json_string())).to_dict() == config.to_dict()
