"""Tiny public sets, laid out as the whole ones are distributed: name -> function that makes one in a folder."""

import json
import pickle

from PIL import Image

COLORS = ("red", "green", "blue")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")


def draw(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 20 + number), COLORS[number % 3]).save(path)


def vqa(folder, prefix="", raw=False):
    parts = ("train2014", "val2014") if raw else ("train2014", "val2014", "test2015")
    for part in parts:
        questions, annotations = [], []
        for n in range(4):
            draw(folder / part / f"COCO_{part}_{n + 9:012d}.jpg", n)
            shared = {"image_id": n + 9, "question_id": 10 * n + 1}
            questions.append({**shared, "question": "what color is it?" if n % 2 else "is it red?"})
            said = [COLORS[n % 3] if n % 2 else "yes"] * 7 + ["no"] * 3
            answers = [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(said)]
            for answer in answers if raw else []:
                answer["raw_answer"] = answer["answer"] + "s"
            kind = {"question_type": "what", "answer_type": "other", "multiple_choice_answer": said[0]}
            annotations.append({**shared, **kind, "answers": answers})
        head = {"info": {"version": "1"}, "license": {"url": "x"}, "data_subtype": part, "data_type": "mscoco"}
        put(folder / f"{prefix}OpenEnded_mscoco_{part}_questions.json", {**head, "questions": questions})
        if part != "test2015":
            put(folder / f"{prefix}mscoco_{part}_annotations.json", {**head, "annotations": annotations[::-1]})


def vizwiz(folder):
    for part in ("train", "val", "test"):
        rows = []
        for n in range(3):
            name = f"VizWiz_{part}_{n:08d}.jpg"
            draw(folder / part / name, n)
            said = ["unanswerable"] * 6 + ["unsuitable"] * 4 if n == 2 else [COLORS[n]] * 10
            row = {"image": name, "question": "What color is this?"}
            answers = [{"answer": answer, "answer_confidence": "maybe"} for answer in said]
            own = {"answers": answers, "answer_type": "other", "answerable": int(n != 2)}
            rows.append(row if part == "test" else {**row, **own})
        put(folder / "Annotations" / f"{part}.json", rows)


def gqa_question(color, entailed=("05",), balanced=True, kind="query", group=None):
    """A question as GQA has it, about the image of the color."""
    return {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "x"}],
        "entailed": list(entailed),
        "equivalent": ["05"],
        "question": "What color is it?",
        "imageId": str(COLORS.index(color) + 2370),
        "isBalanced": balanced,
        "groups": {"global": group, "local": "x"},
        "answer": color,
        "semanticStr": "select: x",
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": "colorQuery", "semantic": "attr", "structural": kind},
        "fullAnswer": f"It is {color}.",
    }


def gqa(folder):
    for n in range(3):
        draw(folder / "images" / f"{n + 2370}.jpg", n)
    for part in ("train", "val", "testdev"):
        rows = {f"0{n}5": gqa_question(COLORS[n]) for n in range(3)}
        put(folder / "questions1.2" / f"{part}_balanced_questions.json", rows)


def gqa_all(folder):
    """Evaluated on two balanced questions, of which one entails two others."""
    gqa(folder)
    rows = {
        "1": gqa_question("red", ["1", "2", "3"], group="color"),
        "2": gqa_question("green", ["2"], kind="verify", group="color"),
        "3": gqa_question("blue", ["3", "1"], balanced=False, group="color"),
    }
    for part in ("val", "testdev"):
        put(folder / "questions1.2" / f"{part}_all_questions.json", rows)
    choices = {name: {"valid": ["red", "green", "blue"], "plausible": ["green"]} for name in rows}
    put(folder / "eval" / "val_choices.json", choices)


def slake(folder):
    for part in ("train", "validate", "test"):
        rows = []
        for n in range(4):
            draw(folder / "imgs" / f"xmlab{n}" / "source.jpg", n)
            chinese = ("是否异常？", "是") if n < 2 else ("什么器官？", "肺")
            asked = chinese if n % 2 else (("Is it abnormal?", "Yes") if n < 2 else ("Which organ?", "Lung"))
            row = {"img_id": n, "img_name": f"xmlab{n}/source.jpg", "question": asked[0], "answer": asked[1]}
            row |= {"q_lang": ("en", "zh")[n % 2], "location": "Lung", "modality": "CT", "answer_type": "CLOSED"}
            rows.append({**row, "base_type": "vqa", "content_type": "KG", "triple": ["vhead", "_", "_"], "qid": n})
        put(folder / f"{part}.json", rows)


def path_vqa(folder):
    for part in ("train", "val", "test"):
        rows = []
        for n in range(3):
            draw(folder / "pvqa" / "images" / part / f"{part}_{n:04d}.jpg", n)
            rows.append({"image": f"{part}_{n:04d}", "question": "what is shown?", "answer": COLORS[n]})
        put(folder / "pvqa" / "qas" / part / f"{part}_qa.pkl", pickle.dumps(rows))


def lines(*rows):
    return "".join("|".join(row) + "\n" for row in rows)


def vqa_med_2019(folder):
    for part, inner in (("train", "Training"), ("val", "Validation")):
        top = folder / f"ImageClef-2019-VQA-Med-{inner}"
        draw(top / f"{part.capitalize()}_images" / f"synpic1{part}.jpg")
        asked = [(f"synpic1{part}", "what plane is this?", "axial"), (f"synpic1{part}", "is this a ct scan?", "no")]
        put(top / f"All_QA_Pairs_{part}.txt", lines(*asked))
    test = folder / "VQAMed2019Test"
    draw(test / "VQAMed2019_Test_Images" / "synpic3.jpg")
    put(test / "VQAMed2019_Test_Questions.txt", lines(("synpic3", "what plane is this?")))
    asked = lines(("synpic3", "plane", "what plane is this?", "axial"))
    put(test / "VQAMed2019_Test_Questions_w_Ref_Answers.txt", asked)


def vqa_med_2020(folder, new=False):
    for part, name in (("Train", "Train_QA_pairs"), ("Val", "Val_QA_Pairs")):
        draw(folder / part / f"VQAnswering_2020_{part}_images" / f"synpic1{part}.jpg")
        asked = [(f"synpic1{part}", "what is most alarming?", "a | b"), (f"synpic1{part}", "is it normal?", "no")]
        put(folder / part / f"VQAnswering_2020_{name}.txt", lines(*asked))
    if new:
        draw(folder / "ImageCLEF-2021-VQA-Med-New-Validation-Images" / "synpic7.jpg")
        asked = lines(("synpic7", "what is abnormal?", "cyst"))
        put(folder / "VQA-Med-2021-VQAnswering-Task1-New-ValidationSet.txt", asked)
    stem = folder / ("Task1-VQA-2021-TestSet" if new else "VQAMed2020-Task1-VQAnswering-Test")
    draw(folder / "Task1-2020-VQAnswering-Test-Images" / "synpic9.jpg")
    put(stem.with_name(stem.name + "-Questions.txt"), lines(("synpic9", "what is abnormal?")))
    put(stem.with_name(stem.name + "-ReferenceAnswers.txt"), lines(("synpic9", "cyst")))


def daquar(folder, classes=894):
    for part, first in (("train", 1), ("test", 5)):
        text = ""
        for n in range(first, first + 3):
            draw(folder / "nyu_depth_images" / f"image{n}.png", n)
            text += f"what is on the left side of the image{n} ?\ntable, chair\n"
            text += f"how many chairs are in the image{n} ?\n{n}\n"
        put(folder / f"qa.{classes}.raw.{part}.txt", text)


def nlvr(folder):
    for part in ("train", "dev", "test"):
        text = ""
        for n in range(3):
            for permutation in range(6):
                draw(folder / part / "images" / str(n) / f"{part}-7{n}-0-{permutation}.png", permutation)
            row = {"sentence": "There is a box.", "label": ("true", "false")[n % 2], "identifier": f"7{n}-0"}
            row |= {"evals": {"r1": "true"}, "structured_rep": [[{"y_loc": 1, "type": "circle"}]]}
            text += json.dumps(row) + "\n"
        put(folder / part / f"{part}.json", text)


def clevr(folder):
    for part in ("train", "val", "test"):
        rows = []
        for n in range(3):
            name = f"CLEVR_{part}_{n:06d}.png"
            draw(folder / "images" / part / name, n)
            row = {"image_index": n, "split": part, "image_filename": name, "question_index": n}
            row |= {"question": "Are there any cubes?", "question_family_index": 3}
            solved = {"program": [{"inputs": [], "function": "scene"}], "answer": ("yes", "no", "cube")[n]}
            rows.append(row if part == "test" else {**row, **solved})
        put(folder / "questions" / f"CLEVR_{part}_questions.json", {"info": {"split": part}, "questions": rows})


def easy_vqa(folder):
    for part in ("train", "test"):
        rows = []
        for n in range(3):
            draw(folder / "data" / part / "images" / f"{n}.png", n)
            rows += [["what color is the shape?", COLORS[n], n], ["is there a red shape?", "yes", n]]
        put(folder / "data" / part / "questions.json", rows)


def vqa_rad(folder):
    rows = []
    for n, kind in enumerate(("freeform", "para", "test_freeform", "test_para")):
        draw(folder / "VQA_RAD Image Folder" / f"synpic{n}.jpg", n)
        row = {"qid": str(n), "phrase_type": kind, "image_name": f"synpic{n}.jpg", "image_organ": "HEAD"}
        row |= {"question": "How many masses?", "question_rephrase": "NULL", "question_frame": "NULL"}
        rows.append({**row, "question_type": "COUNT", "answer": 2, "answer_type": "OPEN"})
    put(folder / "VQA_RAD Dataset Public.json", rows)


MADE = {
    "vqa_v1": vqa,
    "vqa_v2": lambda folder: vqa(folder, "v2_"),
    "ok_vqa": lambda folder: vqa(folder, raw=True),
    "vizwiz": vizwiz,
    "gqa": gqa,
    "gqa_all": gqa_all,
    "slake": slake,
    "slake_en": slake,
    "slake_zh": slake,
    "path_vqa": path_vqa,
    "vqa_med_2019": vqa_med_2019,
    "vqa_med_2020": vqa_med_2020,
    "vqa_med_2021": lambda folder: vqa_med_2020(folder, new=True),
    "daquar": daquar,
    "daquar_37": lambda folder: daquar(folder, 37),
    "nlvr": nlvr,
    "clevr": clevr,
    "easy_vqa": easy_vqa,
    "vqa_rad": vqa_rad,
}
