"""Public sets: each from tiny files of its published layout, and what is said of files that aren't so."""

import json
import pickle
from pathlib import Path

import pytest
from helpers import ROOT, lines_of
from made_sets import MADE, draw, put, vqa

from dualvqa.run import main as run_vqa
from dualvqa.run.arguments import parse_arguments
from dualvqa.run.recipe import shipped_recipes
from processing import DataArguments, prepare_datasets
from processing.files import read_file
from processing.public_sets import parts_of, public_sets

TEN = ["yes"] * 7 + ["no"] * 3
FIRST = {  # of each set the first training row, and the rows of training, validation and test part
    "vqa_v1": ("is it red?", TEN, (4, 4, 4)),
    "vqa_v2": ("is it red?", TEN, (4, 4, 4)),
    "ok_vqa": ("is it red?", TEN, (4, 0, 4)),
    "vizwiz": ("What color is this?", ["red"] * 10, (3, 3, 3)),
    "gqa": ("What color is it?", "red", (3, 3, 3)),
    "gqa_all": ("What color is it?", "red", (3, 3, 3)),
    "slake": ("Is it abnormal?", "Yes", (4, 4, 4)),
    "slake_en": ("Is it abnormal?", "Yes", (2, 2, 2)),
    "slake_zh": ("是否异常？", "是", (2, 2, 2)),
    "path_vqa": ("what is shown?", "red", (3, 3, 3)),
    "vqa_med_2019": ("what plane is this?", "axial", (2, 2, 1)),
    "vqa_med_2020": ("what is most alarming?", "a | b", (2, 2, 1)),
    "vqa_med_2021": ("what is most alarming?", "a | b", (4, 1, 1)),
    "daquar": ("what is on the left side of the image ?", "table, chair", (6, 0, 6)),
    "daquar_37": ("what is on the left side of the image ?", "table, chair", (6, 0, 6)),
    "nlvr": ("There is a box.", "true", (3, 3, 3)),
    "clevr": ("Are there any cubes?", "yes", (3, 3, 3)),
    "easy_vqa": ("what color is the shape?", "red", (6, 0, 6)),
    "vqa_rad": ("How many masses?", "2", (2, 0, 2)),
}
OF_ANOTHER = (
    "gqa_all",
    "slake",
    "daquar_37",
    "vqa_med_2020",
    "vqa_med_2021",
    "vqa_rad",
)  # sets with the recipe of another
PARTS = ("train", "validation", "test")
# One of each kind: ten answers, no validation part, one answer, own words, files with their images, lists, one head.
TRAINED = ("vqa_v2", "ok_vqa", "gqa", "slake_zh", "path_vqa", "vqa_med_2020", "daquar", "nlvr")


def arguments(name, folder, **fields):
    return DataArguments(dataset_name=name, data_dir=str(folder), validation_fraction=0.0, **fields)


def read(name, folder, **fields):
    return prepare_datasets(arguments(name, folder, **fields))[0]


@pytest.mark.parametrize("name", FIRST)
def test_a_set_is_read_from_its_files(name, tmp_path):
    MADE[name](tmp_path)
    parts, (question, answer, sizes) = read(name, tmp_path), FIRST[name]
    assert {part: len(rows) for part, rows in parts.items()} == {p: n for p, n in zip(PARTS, sizes) if n}
    row = parts["train"][0]
    assert (row["question"], row["answer"]) == (question, answer)
    assert ("answer" in parts["test"].column_names) == (name not in ("vqa_v1", "vqa_v2", "vizwiz", "clevr"))


def test_every_set_is_tested_here_has_a_recipe_and_a_section_of_the_page():
    page = " ".join((ROOT / "docs/reference/public_sets.md").read_text(encoding="utf-8").split())
    assert set(public_sets()) == set(FIRST) == set(MADE)
    recipes = "".join(Path(path).read_text(encoding="utf-8") for path in shipped_recipes().values())
    for name, known in public_sets().items():
        assert known["home"] in page and f"`{name}`" in page and known["known_from"] in page and parts_of(name)["train"]
        known_recipe = name in OF_ANOTHER or name == "vqa_med_2019"
        assert f"dataset_name: {name}\n" in recipes or known_recipe


@pytest.mark.parametrize(("name", "yes"), [("nlvr", "true"), ("slake_zh", "是"), ("slake", "Yes"), ("slake", "是")])
def test_the_words_for_yes_are_those_of_the_set(name, yes):
    assert arguments(name, ".").rules.form(yes) == "yes"
    if yes == "是":
        assert arguments(name, ".").rules.form("不是") == "no"
    assert arguments(name, ".", yes_answers=["oui"], no_answers=["non"]).rules.form("oui") == "yes"


def test_what_ten_people_answered_is_scored_officially():
    assert {name: arguments(name, ".").metric for name in ("vqa_v2", "vqa_v1", "ok_vqa", "vizwiz", "gqa")} == {
        **dict.fromkeys(("vqa_v2", "vqa_v1", "ok_vqa"), "vqa"),
        "vizwiz": "vizwiz",
        "gqa": "gqa",
    }


def test_a_bad_row_is_named_by_the_id_of_its_question(tmp_path):
    MADE["vqa_v2"](tmp_path)
    (tmp_path / "train2014" / "COCO_train2014_000000000010.jpg").unlink()
    with pytest.raises(ValueError, match="question_id 11 .*COCO_train2014_000000000010.jpg"):
        read("vqa_v2", tmp_path)


def test_further_fields_stay_and_those_that_nobody_reads_go(tmp_path):
    MADE["gqa"](tmp_path)
    row = read("gqa", tmp_path)["train"][1]
    assert row["structural"] == "query" and row["question_id"] == "015" and row["fullAnswer"] == "It is green."
    assert row["entailed"] == '["05"]' and row["global"] is None
    assert not {"types", "semanticStr", "annotations"} & set(row)


def test_the_further_file_of_a_set_lends_its_fields_and_what_it_lacks_is_said(tmp_path, caplog):
    MADE["gqa_all"](tmp_path)
    change(tmp_path / "eval" / "val_choices.json", lambda content: content.pop("2"))
    rows = read("gqa_all", tmp_path)["validation"]
    assert list(rows["plausible"]) == ['["green"]', None, '["green"]']
    assert "1 of 3 questions are not in" in caplog.text and "val_choices.json: 2" in caplog.text
    assert "validity and plausibility (1 of 3 rows have no list in valid)" in caplog.text


def test_images_are_found_by_coco_names_elsewhere_and_by_stem(tmp_path):
    MADE["vqa_v2"](tmp_path / "vqa")
    (tmp_path / "coco").mkdir()
    (tmp_path / "vqa" / "train2014").rename(tmp_path / "coco" / "train2014")
    (tmp_path / "vqa" / "val2014").rename(tmp_path / "coco" / "val2014")
    (tmp_path / "vqa" / "test2015").rename(tmp_path / "coco" / "test2015")
    row = read("vqa_v2", tmp_path / "vqa", image_dir=str(tmp_path / "coco"))["train"][0]
    assert row["image"]["path"].endswith("coco/train2014/COCO_train2014_000000000009.jpg")
    MADE["nlvr"](tmp_path / "nlvr")
    assert read("nlvr", tmp_path / "nlvr")["train"][2]["image"]["path"].endswith("train/images/2/train-72-0-0.png")


def test_two_folders_of_images_with_one_name_are_refused_where_both_have_files(tmp_path):
    MADE["gqa"](tmp_path)
    (tmp_path / "images").rename(tmp_path / "questions1.2" / "images")
    (tmp_path / "copy" / "images").mkdir(parents=True)
    assert "questions1.2/images" in read("gqa", tmp_path)["train"][0]["image"]["path"]
    draw(tmp_path / "copy" / "images" / "2370.jpg", 5)
    with pytest.raises(
        ValueError, match=r"folder images is there 2 times \(.*copy/images, .*questions1.2/images\): give"
    ):
        read("gqa", tmp_path)
    image_dir = str(tmp_path / "questions1.2")
    assert "questions1.2" in read("gqa", tmp_path, image_dir=image_dir)["train"][0]["image"]["path"]


def test_an_unanswerable_question_of_vizwiz_is_answered_so(tmp_path):
    MADE["vizwiz"](tmp_path)
    row = read("vizwiz", tmp_path)["train"][2]
    assert row["answer"].count("unanswerable") == 6 and row["answerable"] == 0


def test_the_number_of_the_image_is_no_part_of_a_question(tmp_path):
    MADE["daquar"](tmp_path)
    assert not any(digit in text for text in read("daquar", tmp_path)["train"]["question"] for digit in "0123456789")


def test_questions_without_their_annotations_are_refused(tmp_path):
    vqa(tmp_path, "v2_")
    (tmp_path / "v2_mscoco_train2014_annotations.json").unlink()
    with pytest.raises(ValueError, match="without their answers: v2_mscoco_train2014_annotations.json belongs to it"):
        read("vqa_v2", tmp_path)


def change(path, function):
    content = json.loads(path.read_text(encoding="utf-8"))
    function(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_annotations_of_other_questions_are_refused(tmp_path):
    vqa(tmp_path, "v2_")
    path = tmp_path / "v2_mscoco_train2014_annotations.json"

    def renumber(content):
        for row in content["annotations"]:
            row["question_id"] += 5000

    change(path, renumber)
    with pytest.raises(ValueError, match=r"the answers of other questions: none of its 4 question_ids \(5031, 5021"):
        read("vqa_v2", tmp_path)


def test_annotations_that_name_another_image_are_refused(tmp_path):
    vqa(tmp_path, "v2_")
    change(
        tmp_path / "v2_mscoco_train2014_annotations.json",
        lambda content: content["annotations"][0].update(image_id=77),
    )
    with pytest.raises(ValueError, match="question_id 31 has the image_id 77 there, and 12 in"):
        read("vqa_v2", tmp_path)


def test_a_question_whose_annotation_is_missing_is_a_bad_row_and_told(tmp_path, caplog):
    vqa(tmp_path, "v2_")
    change(tmp_path / "v2_mscoco_train2014_annotations.json", lambda content: content["annotations"].pop())
    with pytest.raises(ValueError, match="no answer"):
        read("vqa_v2", tmp_path)
    assert "1 question_ids of" in caplog.text and "are not in" in caplog.text
    assert len(read("vqa_v2", tmp_path, on_bad_example="skip")["train"]) == 3


def test_missing_images_are_bad_rows(tmp_path):
    MADE["clevr"](tmp_path)
    for path in (tmp_path / "images" / "train").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="CLEVR_train_000000.png"):
        read("clevr", tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"dataset_name": "vqa_v2"},
            "VQA v2 is read from the files .* give --data_dir, .*v2_OpenEnded_mscoco_tr",
        ),
        ({"dataset_name": "vqa-v2", "data_dir": "nowhere"}, "--data_dir nowhere: no such folder"),
        ({"dataset_name": "some/set", "data_dir": "x"}, "give its name with --dataset_name, one of vqa_v2, vqa_v1"),
    ],
)
def test_a_set_without_its_folder_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        prepare_datasets(DataArguments(**fields))


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no file of CLEVR; expected .*CLEVR_train_questions.json"):
        read("clevr", tmp_path)


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    vqa(tmp_path / "one", "v2_")
    vqa(tmp_path / "two", "v2_")
    with pytest.raises(ValueError, match="is there 2 times .*give the folder of one"):
        read("vqa_v2", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        (
            "clevr",
            "questions/CLEVR_train_questions.json",
            [1],
            "expected an object with 'questions', found a list of 1",
        ),
        ("clevr", "questions/CLEVR_train_questions.json", "{", "line 1 is not valid JSON"),
        ("gqa", "questions1.2/train_balanced_questions.json", [1], "expected an object of rows by their question_id"),
        ("slake", "train.json", ["x"], "row 1: expected an object with the row's fields, found a str"),
        ("slake", "train.json", [{"a": 1}], "train.json: expected rows with 'question', found a|a row has a"),
        ("easy_vqa", "data/train/questions.json", [["what?"]], "row 1: expected a list of question, answer, image_id"),
        ("daquar", "qa.894.raw.train.txt", "what?\n", "expected a question and its answer in turns, found 1 lines"),
        ("nlvr", "train/train.json", '{"sentence": "a"}\n{', "train.json line 2 is not valid JSON"),
        ("vqa_med_2019", "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt", "a|b", r"line 1: expected image\|"),
        ("path_vqa", "pvqa/qas/train/train_qa.pkl", b"no", "can't be read as a pickle"),
    ],
)
def test_files_of_another_layout_are_refused(name, file, content, message, tmp_path):
    MADE[name](tmp_path)
    put(tmp_path / file, content)
    with pytest.raises(ValueError, match=message):
        read(name, tmp_path)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    MADE["path_vqa"](tmp_path)
    path = tmp_path / "pvqa" / "qas" / "train" / "train_qa.pkl"
    path.write_bytes(pickle.dumps([print]))
    with pytest.raises(ValueError, match="it would run builtins.print"):
        read("path_vqa", tmp_path)


def test_a_name_that_is_nearly_a_set_gets_a_hint(tmp_path, monkeypatch):
    monkeypatch.setattr("processing.datasets.load_hub", lambda args: (_ for _ in ()).throw(OSError("no such data set")))
    with pytest.raises(ValueError, match="no such data set; did you mean vqa_v2, with --data_dir"):
        prepare_datasets(DataArguments(dataset_name="vqav2"))


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name not in ("easy_vqa", "vqa_rad_small")])
def test_a_recipe_of_a_set_names_what_there_is(name, tmp_path):
    settings = parse_arguments([name, "--output_dir", str(tmp_path), "--use_cpu"])
    assert "/" in settings.data.dataset_name or settings.data.dataset_name in public_sets()


def test_questions_with_one_id_are_refused_before_they_get_each_others_answers(tmp_path):
    vqa(tmp_path, "v2_")
    questions = tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json"
    change(questions, lambda content: content["questions"][1].update(question_id=1, question="other?"))
    with pytest.raises(ValueError, match="train2014_questions.json has several rows for question_id 1;"):
        read("vqa_v2", tmp_path)
    change(questions, lambda content: content["questions"][1].pop("question_id"))
    with pytest.raises(ValueError, match="1 rows have no question_id: row 2"):
        read("vqa_v2", tmp_path)


def test_a_key_that_comes_twice_in_a_set_by_id_is_refused(tmp_path):
    MADE["gqa"](tmp_path)
    row = '{"question": "a?", "imageId": "2370", "answer": "b"}'
    put(tmp_path / "questions1.2" / "train_balanced_questions.json", f'{{"7": {row}, "7": {row}}}')
    with pytest.raises(ValueError, match="train_balanced_questions.json: the key '7' comes twice"):
        read("gqa", tmp_path)


def test_ids_as_text_and_as_numbers_are_the_same(tmp_path):
    vqa(tmp_path, "v2_")

    def as_texts(content):
        for row in content["questions"]:
            row |= {"question_id": str(row["question_id"]), "image_id": str(row["image_id"])}

    change(tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json", as_texts)
    row = read("vqa_v2", tmp_path)["train"][0]
    assert row["answer"] == TEN and row["image"]["path"].endswith("COCO_train2014_000000000009.jpg")


@pytest.mark.parametrize(("one", "other"), [("a.jpg", "a.png"), ("x/a.png", "y/a.png")])
def test_an_image_that_may_be_either_of_two_files_is_refused_where_a_row_needs_it(one, other, tmp_path):
    MADE["path_vqa"](tmp_path)
    folder = tmp_path / "pvqa" / "images" / "train"
    for number, name in enumerate((one, other)):
        draw(folder / name, number)
    assert len(read("path_vqa", tmp_path)["train"]) == 3
    rows = [{"image": "a", "question": "what?", "answer": "red"}]
    put(tmp_path / "pvqa" / "qas" / "train" / "train_qa.pkl", pickle.dumps(rows))
    with pytest.raises(ValueError, match=f"the image a may be .*{one} or .*{other}, which are different files"):
        read("path_vqa", tmp_path)
    (folder / other).write_bytes((folder / one).read_bytes())
    assert read("path_vqa", tmp_path)["train"][0]["image"]["path"].endswith(one)


def test_lines_end_at_newlines_only(tmp_path):
    MADE["daquar"](tmp_path)
    odd = "what\u2028is on the image1 ?\r\n\r\na\x85b\r\n"
    put(tmp_path / "qa.894.raw.train.txt", odd.encode())
    row = read("daquar", tmp_path)["train"][0]
    assert row["answer"] == "a\x85b" and row["question"].startswith("what\u2028is")
    MADE["vqa_med_2019"](tmp_path / "med")
    put(tmp_path / "med" / "ImageClef-2019-VQA-Med-Training" / "All_QA_Pairs_train.txt", "synpic1train|a?|b\u2028c\n")
    assert read("vqa_med_2019", tmp_path / "med")["train"][0]["answer"] == "b\u2028c"


def test_a_bad_row_of_a_text_is_named_by_its_line(tmp_path):
    MADE["daquar"](tmp_path)
    text = (tmp_path / "qa.894.raw.train.txt").read_text()
    put(tmp_path / "qa.894.raw.train.txt", "\n" + text.replace("image2 ", "image99 "))
    with pytest.raises(ValueError, match=r"(?s)line 6 \(.*image99\).*line 8 \("):
        read("daquar", tmp_path)
    MADE["vqa_med_2021"](tmp_path / "med")
    path = tmp_path / "med" / "Val" / "VQAnswering_2020_Val_QA_Pairs.txt"
    put(path, path.read_text() + "nowhere|what?|x\n")
    with pytest.raises(ValueError, match="line 3 of VQAnswering_2020_Val_QA_Pairs.txt .*nowhere"):
        read("vqa_med_2021", tmp_path / "med")
    parts = read("vqa_med_2021", tmp_path / "med", on_bad_example="skip")
    assert "line" not in parts["train"].column_names


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_of_a_set_given_as_a_table_is_told_how_the_set_is_read(whole, tmp_path):
    vqa(tmp_path, "v2_")
    path = tmp_path / "v2_OpenEnded_mscoco_train2014_questions.json"
    if not whole:
        change(path, lambda content: [content.pop(name) for name in list(content) if name != "questions"])
    with pytest.raises(ValueError, match=r"public set \(vqa_v2\), give --dataset_name vqa_v2 --data_dir FOLDER"):
        read_file(str(path))


def test_a_table_of_columns_with_such_names_is_one(tmp_path):
    put(tmp_path / "train.json", {"image": ["a.png"], "questions": ["what?"], "answer": ["b"]})
    assert len(read_file(str(tmp_path / "train.json"))) == 1


@pytest.mark.parametrize("name", ["VQAv2", "vqav2"])
def test_the_name_of_a_set_with_its_folder_gets_a_hint(name):
    with pytest.raises(ValueError, match=f"found {name}; did you mean vqa_v2, with --data_dir"):
        DataArguments(dataset_name=name, data_dir="x")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_run_trains_on_a_set_and_predicts_its_test_part(name, recipe, tmp_path):
    folder = tmp_path / "set"
    MADE[name](folder)
    path = recipe(train_file=None, image_dir=None, dataset_name=name, validation_fraction=0.25)
    heads = ["--config", "heads=[binary]"] if name == "nlvr" else []
    run = run_vqa.main([path, "--data_dir", str(folder), "--do_predict", "--max_steps", "1", *heads])
    predicted = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert len(predicted) == len(run.parts["test"]) and all(row["answer"] for row in predicted)
