"""Every block of code in README and the site runs, on tiny data and tiny towers that bear the names in the text.

What would take long, download or push is replaced or only checked:
- Pretrained towers are tiny folders of the same name in the working folder; torchvision's weights are random.
- `load_dataset` gives 120 rows; trainings take two steps; nothing is pushed.
- ONNX files are not written, which takes half a minute: tests/deployment/test_onnx.py does.
- Commands that install, clone, launch several processes or run a benchmark for hours are not run: that their files
  and flags are there is checked.
"""

import functools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import datasets
import huggingface_hub
import pandas
import pytest
import torchvision
import transformers
import yaml
from helpers import ROOT, TEXT, TINY, small_mobilenet, write_jsonl
from made_sets import MADE
from PIL import Image
from transformers import AutoConfig, AutoModel

from dualvqa.run.flags import load_description

PAGES = [
    ROOT / "README.md",
    ROOT / "model_card.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.M | re.S)
COLORS = ["red", "green", "blue"]
# What stands in the text and what is run in its place.
SHORTER = [
    (r'(DualVQATrainingArguments\("runs/\w+")(?:, num_train_epochs=\d+)?', r'\1, max_steps=2, report_to="none"'),
    (r'(text="distilbert-base-uncased")(?!, image_size|, num)', r"\1, image_size=32"),
    (r"folder or repo id", "runs/mine"),
    (r"(build_model\(rows, column_mapping=columns)\)", rf"\1, image_size=32, text_config={TEXT})"),
    (r"n_trials=3", "n_trials=2"),
    (r"coverage=0\.9\b", "coverage=None"),  # after two steps nothing can be promised
]
SHORT_RUN = (
    "--max_steps 2 --report_to none --use_cpu --disable_tqdm --per_device_train_batch_size 8 --image_size 32 "
    "--push_to_hub false"
).split()
# Recipes name data and towers that a test doesn't have.
SMALL_DATA = (
    "--train_file train.jsonl --validation_file checked.jsonl --test_file test.jsonl --image_dir photos".split()
)
RECIPES = [path.stem for path in (ROOT / "recipes").glob("*.yaml")]
# Commands whose files and flags are checked instead, and why.
NOT_RUN = {
    "curl": "asks a server: tests/dualvqa_light/test_server.py does",
    "docker": "is not installed: tests/dualvqa_light/test_dockerfile.py",
    "dualvqa-light": "serves until it is stopped: tests/dualvqa_light/test_serve.py",
    "pip": "installs",
    "git": "clones",
    "hf": "pushes to the Hub",
    "cd": "into what is not cloned",
    "source": "an environment that is not made",
    "make": "installs, trains or runs these very tests",
    "accelerate": "starts several processes: tests/training/test_distributed.py does",
    "python": "a benchmark of minutes to hours: tests/test_benchmarks.py runs them",
}
pytestmark = pytest.mark.slow


def blocks(path, language):
    return [code for found, code in BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def with_blocks(language):
    found = [path for path in PAGES if blocks(path, language)]
    return pytest.mark.parametrize("page", found, ids=lambda path: path.relative_to(ROOT).as_posix())


def commands(code):
    """The commands of a block as lists of words, as bash reads them."""
    names = "dualvqa", *NOT_RUN
    stubs = "".join(f'{name}() {{ printf "%s\\0" {name} "$@"; printf "\\n"; }}\n' for name in names)
    script = "set -euf\n" + stubs + code.replace(".venv/bin/", "")
    output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return [piece.split("\0") for piece in output.split("\0\n") if piece]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder that the blocks find: images, files of rows, towers, saved models."""
    from dualvqa import DualVQATrainer, DualVQATrainingArguments, build_model

    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "photos").mkdir()
    rows = []
    for number in range(52):  # enough to calibrate with
        color = COLORS[number % 3]
        Image.new("RGB", (24 + number, 24), color).save(folder / f"photos/{number}.png")
        # The further columns are those that recipes name.
        kinds = {"kind": "shape", "phrase_type": "freeform", "question_type": color}
        kinds["organ"] = ["HEAD", "CHEST"][number % 2]
        for question, answer in (("what color is it?", color), ("is it red?", "yes" if color == "red" else "no")):
            rows.append({"image": f"{number}.png", "question": question, "answer": answer, **kinds})
    for name in ("photo", "photo_of_a_dog", "scan", "scan_41"):
        shutil.copy(folder / "photos/0.png", folder / f"{name}.png")
    for name in ("train", "test", "checked", "corrections"):
        write_jsonl(folder / f"{name}.jsonl", rows)
    for name in ("questions", "examples"):
        write_jsonl(folder / f"{name}.jsonl", [{"image": row["image"], "question": row["question"]} for row in rows])
    write_jsonl(folder / "other.jsonl", [{**row, "answer": row["answer"].replace("red", "crimson")} for row in rows])
    whole = [{**row, "image": str(folder / "photos" / row["image"])} for row in rows]
    german = pandas.DataFrame(whole).rename(columns={"image": "Ansicht", "question": "Satz", "answer": "Befund"})
    german.to_csv(folder / "rows.csv", index=False)
    pandas.DataFrame(whole)[["image", "question"]].to_csv(folder / "questions.csv", index=False)
    (folder / "shards").mkdir()
    with_bytes = [{**row, "image": {"bytes": Path(row["image"]).read_bytes()}} for row in whole]
    datasets.Dataset.from_list(with_bytes).to_parquet(folder / "shards/train-0.parquet")
    for name in ("recipes", "launch", "processing", "benchmarks", "docs"):
        (folder / name).symlink_to(ROOT / name)
    MADE["vqa_v2"](folder / "FOLDER")
    save_towers(folder, [row["question"] for row in rows])
    model, processor = build_model(whole, image_size=32, fusion_type="cross_attention", **TINY)
    trainer = DualVQATrainer(
        model=model,
        processing_class=processor,
        args=DualVQATrainingArguments(str(folder / "runs/mine"), max_steps=2, report_to="none", use_cpu=True),
        train_dataset=whole,
        eval_dataset=whole,
    )
    trainer.train()
    trainer.evaluate()
    trainer.write_report()
    for name in ("easy_vqa", "a", "b", "c", "large"):
        shutil.copytree(folder / "runs/mine", folder / "runs" / name)
    return folder


def save_towers(folder, questions):
    """Tiny towers in folders that are called as the pretrained ones."""
    from processing import train_tokenizer

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    tokenizer = train_tokenizer(questions, vocab_size=120, model_max_length=64)
    for name, fields in {
        "distilbert-base-uncased": {**TEXT, "max_position_embeddings": 64},
        "sentence-transformers/all-MiniLM-L6-v2": {"model_type": "bert", "max_position_embeddings": 64, **sizes},
        "timm/tf_efficientnet_lite0.in1k": {"model_type": "vit", "image_size": 32, "patch_size": 16, **sizes},
    }.items():
        if name[:4] != "timm":
            fields["vocab_size"] = len(tokenizer)
            tokenizer.save_pretrained(folder / name)
        fields = dict(fields)
        AutoModel.from_config(AutoConfig.for_model(fields.pop("model_type"), **fields)).save_pretrained(folder / name)


@pytest.fixture(scope="module")
def seen():
    """The blocks that have run: each runs once."""
    return set()


@pytest.fixture
def here(folder, monkeypatch):
    """The working folder, and stand-ins for what downloads, pushes or takes long."""
    import dualvqa_light
    from dualvqa import DualVQATrainer
    from dualvqa.deployment import onnx_pipeline
    from dualvqa_light import server

    rows = datasets.Dataset.from_list(
        [
            {**row, "image": {"path": str(folder / "photos" / row["image"]), "bytes": None}}
            for row in map(json.loads, (folder / "train.jsonl").read_text().splitlines())
        ]
    ).cast_column("image", datasets.Image())
    for answers in folder.glob("answers*"):  # of another page, by a model that has learned since
        answers.unlink()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(datasets, "load_dataset", lambda name: {"train": rows, "test": rows})
    monkeypatch.setattr(onnx_pipeline, "load_onnx_pipeline", lambda folder: load_pipeline("runs/mine"))
    for module in (dualvqa_light, dualvqa_light.answerer):
        monkeypatch.setattr(module, "LightPipeline", lambda folder: load_pipeline("runs/mine"))
    create_app = functools.partial(server.create_app, open_folder=lambda folder, **options: load_pipeline("runs/mine"))
    monkeypatch.setattr(server, "create_app", create_app)
    small_mobilenet(monkeypatch)
    monkeypatch.setattr(  # no server listens there: tests/dualvqa_light/test_server.py asks one
        huggingface_hub.InferenceClient, "visual_question_answering", lambda self, image, question: Path(image).stat()
    )
    monkeypatch.setattr(DualVQATrainer, "push_to_hub", lambda self, *args, **kwargs: None)
    monkeypatch.setattr(
        torchvision.models.MobileNet_V3_Small_Weights,
        "get_state_dict",
        lambda self, **options: torchvision.models.mobilenet_v3_small(weights=None).state_dict(),
    )
    return folder


def names_of_earlier_blocks(folder):
    """What a reader has from the pages before: a model, a pipeline, rows and a trainer."""
    from dualvqa import DualVQATrainer, DualVQATrainingArguments, prepare_dataset

    pipe = load_pipeline("runs/mine")
    model, processor = pipe.model, pipe.processor
    rows = [{**row, "image": f"photos/{row['image']}"} for row in map(json.loads, open("train.jsonl"))]
    train = prepare_dataset(rows)
    args = DualVQATrainingArguments("runs/given", max_steps=2, report_to="none")
    given = {"processing_class": processor, "train_dataset": train, "eval_dataset": train}
    return {
        "model": model,
        "processor": processor,
        "pipe": pipe,
        "pipeline_a": pipe,
        "pipeline_b": load_pipeline("runs/b"),
        "pipeline": transformers.pipeline,
        "folder": "runs/mine",
        "rows": rows,
        **{f"{name}s": [row[name] for row in rows] for name in ("image", "question", "answer")},
        "train": train,
        "validation": train,
        "trainer": DualVQATrainer(model=model, args=args, **given),
    }


def load_pipeline(folder):
    from dualvqa import DualVQAPipeline, load_model

    return DualVQAPipeline(*load_model(folder))


@with_blocks("python")
@pytest.mark.slow
def test_python_blocks_run_in_their_order(page, here, seen):
    names = names_of_earlier_blocks(here)
    for number, code in enumerate(blocks(page, "python"), 1):
        if code in seen:  # the ten lines stand in README and in the tutorial
            continue
        seen.add(code)
        for written, run in SHORTER:
            code = re.sub(written, run, code)
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)


@with_blocks("bash")
@pytest.mark.slow
def test_commands_run_or_name_files_and_flags_that_are_there(page, here):
    for code in blocks(page, "bash"):
        found = commands(code)
        assert found, code
        for program, *words in found:
            if program == "dualvqa":
                run_command(words)
            else:
                check_command(program, words)


def run_command(words):
    """Runs `dualvqa` with these words, a training for two steps."""
    from dualvqa.cli import main

    if words[0] in ("export", "serve"):  # see above; tests/cli/test_serving.py
        return
    if words[0] == "predict" and words[2].count("/") == 1 and not Path(words[2]).parent.exists():
        return  # a data set of the Hub: tests/prediction/test_hub_prediction.py
    if words[0] == "merge":  # the page's command wrote one part of sixteen, and the one before it the whole
        Path(words[1]).unlink(missing_ok=True)
        for part in range(1, 17):
            main(["predict", "runs/mine", "shards/*.parquet", "--output", words[1], "--shard", f"{part}/16"])
    named = [word for word in words[1:3] if word.endswith(".yaml") or (word == words[1] and word in RECIPES)]
    words = [*words, *(SMALL_DATA if named else [])]
    if words[0] == "train":
        words += SHORT_RUN
    assert main(words) in (None, 0), words


def check_command(program, words):
    """Makes sure of what a command that isn't run names: targets, extras, files, flags."""
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.M), words
    elif program == "accelerate":
        at = words.index("run_vqa.py")
        config = words[words.index("--config_file") + 1] if "--config_file" in words else "launch/cpu.yaml"
        assert yaml.safe_load((ROOT / config).read_text())
        check_flags(words[at + 1 :], "")
    elif program == "python" and words[0] == "run_vqa.py":
        check_flags(words[1:], "")
    elif program == "python" and words[0].startswith("benchmarks/"):
        check_flags(words[1:], (ROOT / words[0]).read_text())
    else:
        assert program in NOT_RUN, program


def check_flags(words, source):
    """Every flag is one of a run's or stands in the source of the benchmark, or of what it imports."""
    known = {flag for group in load_description()["groups"] for flag in group["flags"]}
    source += "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py")) if source else ""
    for word in (word for words in map(shlex.split, words) for word in words):  # some have flags in quotes
        if word.startswith("--"):
            assert word[2:].partition("=")[0] in known or f'"{word}"' in source, word


def test_blocks_are_read_as_bash_reads_them():
    code = 'A="--x 1\n  --y 2"\npython benchmarks/a.py $A  # (1)\n'
    code += 'dualvqa ask f "what is \\"it\\"?" \\\n    again && make test\n'
    assert commands(code) == [
        ["python", "benchmarks/a.py", "--x", "1", "--y", "2"],
        ["dualvqa", "ask", "f", 'what is "it"?', "again"],
        ["make", "test"],
    ]
