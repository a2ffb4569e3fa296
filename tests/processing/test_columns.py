import logging

import openpyxl
import pandas
import pytest
from helpers import data_arguments, write_jsonl

from processing import DataArguments, prepare_dataset, prepare_datasets
from processing.columns import find_columns


def found(names, needs_answers=True, remembered=None, **fields):
    args = DataArguments(**fields)
    args.remembered_columns = remembered
    return find_columns(names, "rows.csv", args, needs_answers)


@pytest.mark.parametrize(
    "names",
    [
        ["image", "question", "answer"],
        ["Bild", "Frage", "Antwort"],
        ["file_name", "Prompt", "label"],
        ["Image Path", "QUESTION ", "answers"],
        ["画像", "質問", "回答"],
        ["изображение", "вопрос", "ответ"],
        ["imagen", "pregunta", "respuesta"],
        ["fichier", "question", "réponse"],
        ["zdjęcie", "pytanie", "odpowiedź"],
        ["이미지", "질문", "답변"],
    ],
)
def test_columns_are_found_by_usual_names(names, caplog):
    with caplog.at_level(logging.INFO):
        columns = found(["id", *names, "organ"])
    assert list(columns.values()) == names and list(columns) == ["image", "question", "answer"]
    told = [f"{name} {column!r}" for name, column in columns.items() if name != column]
    assert f"rows.csv: columns by their usual names: {', '.join(told)} (" in caplog.text if told else not caplog.text


@pytest.mark.parametrize("other", ["answers", "Antwort", "target"])
def test_a_name_counts_only_where_it_is_the_only_one(other, caplog):
    names = ["image", "question", "label", other]
    with pytest.raises(
        ValueError, match=f"rows.csv has no column 'answer', and 'label', '{other}' could each be it.*--answer_column"
    ):
        found(names)
    assert found(names, answer_column="label")["answer"] == "label"
    assert found(names, question_column="label")["answer"] == other
    assert found([*names, "answer"])["answer"] == "answer"
    assert "answer" not in found(names, needs_answers=False)
    assert "could each be it" in caplog.text and "its answers are not read" in caplog.text


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        ValueError, match=r"rows.csv has no column 'question' \(it has image, text\); name the right one"
    ):
        found(["image", "text"])
    with pytest.raises(ValueError, match="no column 'Frage'"):
        found(["image", "question", "answer"], question_column="Frage")
    with pytest.raises(ValueError, match="image, question and answer must be columns of their own"):
        found(["image", "question"], answer_column="question")


def test_flags_come_before_the_columns_of_the_training_and_these_before_usual_names(caplog):
    names, trained = ["image", "text", "prompt", "answer"], {"image": "image", "question": "text", "answer": "gone"}
    with caplog.at_level(logging.INFO):
        assert found(names, remembered=trained) == {"image": "image", "question": "text", "answer": "answer"}
    assert "rows.csv: columns as in the training of the saved model: question 'text' (image_column" in caplog.text
    assert found(names, remembered=trained, question_column="prompt")["question"] == "prompt"
    assert found(["image", "question", "answer"], remembered=trained)["question"] == "question"


def test_what_the_training_part_called_its_columns_is_kept(image_folder):
    rows = [{"Bild": f"{n}.png", "Frage": "rot?", "Antwort": "ja"} for n in range(4)]
    args = data_arguments(image_folder, train_file=write_jsonl(image_folder / "de.jsonl", rows))
    prepare_datasets(args)
    assert args.found_columns == {"image": "Bild", "question": "Frage", "answer": "Antwort"}
    assert args.changed(train_fraction=0.5).found_columns == args.found_columns


@pytest.mark.parametrize("kind", ["csv", "xlsx", "frame"])
def test_two_columns_of_one_name_are_refused_where_it_is_read(image_folder, kind):
    def rows(*names, values=("0.png", "q?", "red", "blue")):
        path = image_folder / f"twice.{kind}"
        if kind == "csv":
            path.write_text(f"{','.join(names)}\n{','.join(values)}\n")
        elif kind == "xlsx":
            book = openpyxl.Workbook()
            book.active.append(names)
            book.active.append(values)
            book.save(path)
        else:
            return pandas.DataFrame([values], columns=names)
        return str(path)

    args = DataArguments(image_dir=str(image_folder))
    with pytest.raises(
        ValueError, match="the data: expected one column 'answer', found several of that name; give the"
    ):
        prepare_dataset(rows("image", "question", "answer", "answer"), data_args=args)
    with pytest.raises(ValueError, match="expected one column 'label', found several"):
        prepare_dataset(rows("image", "question", "label", "label"), data_args=args)
    values = ("0.png", "q?", "red", "x", "y")
    others = prepare_dataset(rows("image", "question", "answer", "note", "note", values=values), data_args=args)
    assert (others["answer"][0], others["note"][0], others["note.1"][0]) == ("red", "x", "y")


def test_a_column_that_is_given_must_be_there_even_where_answers_need_not(image_folder, caplog):
    rows = [{"image": f"{n}.png", "question": "rot?", "Befund": "ja"} for n in range(4)]
    files = {"test_file": write_jsonl(image_folder / "test.jsonl", rows)}
    message = "no column 'Befundd' .*did you mean 'Befund'.*, or leave it out where there are no answers"
    with pytest.raises(ValueError, match=message):
        prepare_datasets(data_arguments(image_folder, **files, answer_column="Befundd"), needs_training=False)
    with pytest.raises(ValueError, match=message):
        mapping = {"Befundd": "answer"}
        prepare_dataset(rows, mapping, DataArguments(image_dir=str(image_folder)), needs_answers=False)
    args = data_arguments(image_folder, **files)
    args.remembered_columns = {"answer": "Befundd"}
    assert "answer" not in prepare_datasets(args, needs_training=False)[0]["test"].column_names


@pytest.mark.parametrize("needs_training", [True, False])
def test_a_test_part_may_lack_the_answers_that_another_part_has(image_folder, caplog, needs_training):
    rows = [{"image": f"{n}.png", "question": "rot?", "Befund": "ja"} for n in range(4)]
    train = write_jsonl(image_folder / "de.jsonl", rows)
    test = write_jsonl(image_folder / "test.jsonl", [{"image": "0.png", "question": "rot?"}])
    args = data_arguments(image_folder, train_file=train, test_file=test, answer_column="Befund")
    assert "answer" not in prepare_datasets(args, needs_training)[0]["test"].column_names
    assert "test.jsonl has no column 'Befund': there are no answers in it" in caplog.text
