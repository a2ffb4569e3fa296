"""A saved folder holds all that a machine without this package needs, and nothing else."""

import copy
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import OTHER_FILES, SOURCES, contents, familiar
from packaging.requirements import Requirement
from PIL import Image
from torch.distributed.fsdp import FSDPModule

from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import DualVQAProcessor


# Everything that is shipped is named so.
@pytest.fixture
def model(tiny_model):
    return tiny_model(fusion_type="cross_attention")


@pytest.fixture
def folder(model, processor, tmp_path):
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_it_has_the_files_of_the_design_and_no_others(folder):
    assert set(contents(folder)) == set(SOURCES) | OTHER_FILES
    assert len(SOURCES) >= 12


def test_a_model_that_fsdp_has_spread_saves_the_same_folder(model, processor, folder, tmp_path):
    """FSDP2 makes every wrapped module an instance of a class of its own, whose code is torch's."""
    kind = type(model)
    model.__class__ = type(f"FSDP{kind.__name__}", (FSDPModule, kind), {})
    model.save_pretrained(tmp_path / "spread")
    assert type(model).__name__.startswith("FSDP")
    processor.save_pretrained(tmp_path / "spread")
    assert contents(tmp_path / "spread") == contents(folder)


def test_its_code_is_that_of_the_sources(folder):
    for name, source in SOURCES.items():
        assert (folder / name).read_bytes() == source.read_bytes(), name


def test_its_configuration_names_the_classes_to_load(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_dualvqa.DualVQAConfig",
        "AutoModel": "modeling_dualvqa.DualVQAForQuestionAnswering",
        "AutoModelForVisualQuestionAnswering": "modeling_dualvqa.DualVQAForQuestionAnswering",
    }
    assert list(config["custom_pipelines"]) == ["visual-question-answering"]  # one, so that the task may be left out
    processor = json.loads((folder / "processor_config.json").read_text())
    auto_map = {**processor["image_processor"]["auto_map"], **processor["auto_map"]}
    assert auto_map == {
        "AutoImageProcessor": "image_processing_dualvqa.DualVQAImageProcessor",
        "AutoProcessor": "processing_dualvqa.DualVQAProcessor",
    }


def test_model_and_processor_may_be_saved_in_any_order(folder, model, processor, tmp_path):
    processor.save_pretrained(tmp_path / "other")
    model.save_pretrained(tmp_path / "other")
    assert contents(tmp_path / "other") == contents(folder)


def test_loaded_and_saved_again_it_is_the_same_folder(folder, tmp_path):
    model, processor = DualVQAForQuestionAnswering.from_pretrained(folder), DualVQAProcessor.from_pretrained(folder)
    # Use leaves traces in a tokenizer, which must not get into the folder.
    pipe = DualVQAPipeline(model, processor)
    pipe(image=Image.new("RGB", (9, 9)), question="is it red?")
    pipe.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_the_processor_does_not_ask_whether_code_may_be_run(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    DualVQAProcessor.from_pretrained(folder)


@pytest.fixture(scope="session")
def bare_site_packages(tmp_path_factory):
    """A folder with torch, torchvision, transformers and what these require: links to the installed packages."""
    names, wanted = set(), ["torch", "torchvision", "transformers"]
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in names:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # required on other systems only
            continue
        names.add(name)
        parsed = map(Requirement, requirements)
        wanted += [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]
    folder = tmp_path_factory.mktemp("site-packages")
    for name in names:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            link, target = folder / top, Path(distribution.locate_file(top))
            if target.exists() and not link.exists():
                link.symlink_to(target)
    return folder


# Each leaves what it found. They run in one process, the one that must not copy code first.
RUN_ELSEWHERE = """
import json, sys
site_packages, scripts = sys.argv[1:]
sys.path.append(site_packages)
found = []
for script, arguments in json.loads(scripts):
    sys.argv[1:] = arguments
    names = {"__name__": "__main__"}
    exec(script, names)
    found.append(names["found"])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def elsewhere(bare_site_packages, tiny_model, new_processor, tmp_path_factory):
    """What the scripts found on a machine that has never seen this repository, and what they loaded there."""
    torch.manual_seed(0)
    tmp_path = tmp_path_factory.mktemp("elsewhere")
    home, image = tmp_path / "home", str(tmp_path / "image.png")
    home.mkdir()
    Image.effect_noise((40, 30), 80).convert("RGB").save(image)
    model, processor = tiny_model(fusion_type="cross_attention"), new_processor()
    calibrated, calibrated_processor = copy.deepcopy(model), new_processor()
    familiar(calibrated)
    calibrated_processor.calibration = {
        "temperatures": {"binary": 0.1 + 0.2, "open_ended": 3.0, "question_type": 2.0},
        "abstention": {"threshold": 1.0, "max_risk": 0.1, "confidence": 0.95, "rows": 300},
        "familiarity": {"image": -1e9, "question": 1e9},
    }
    for name, parts in {"plain": (model, processor), "calibrated": (calibrated, calibrated_processor)}.items():
        for part in parts:
            part.save_pretrained(tmp_path / name)
    images = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, path in enumerate(images):
        Image.effect_noise((40, 30), 30 + 60 * number).convert("RGB").save(path)
    remembering = DualVQAPipeline(copy.deepcopy(model), new_processor())
    remembering.memory.build(images, ["is it red?", "what color is it?", "is it red?"], ["yes", "ochre", "no"])
    remembering.save_pretrained(tmp_path / "remembering")
    scripts = {
        "without trust": (LOAD_WITHOUT_TRUST, [str(tmp_path / "plain")]),
        "plain": (LOAD_IN_EVERY_WAY, [str(tmp_path / "plain"), image, str(tmp_path / "plain again")]),
        "handled": (HANDLE, [str(tmp_path / "plain"), image]),
        "calibrated": (ASK, [str(tmp_path / "calibrated"), image, str(tmp_path / "calibrated again")]),
        "remembering": (TEACH, [str(tmp_path / "remembering"), images[0], str(tmp_path / "remembering again")]),
    }
    command = [sys.executable, "-I", "-S", "-c", RUN_ELSEWHERE, str(bare_site_packages)]
    environment = {
        "HOME": str(home),
        "HF_HOME": str(home / "cache"),
        "PATH": "/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [*command, json.dumps(list(scripts.values()))],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        folder=tmp_path,
        image=image,
        found=dict(zip(scripts, json.loads(done.stdout.splitlines()[-1]))),
        plain=DualVQAPipeline(model, processor),
        calibrated=DualVQAPipeline(calibrated, calibrated_processor),
        remembering=remembering,
        remembered=images[0],
    )


LOAD_IN_EVERY_WAY = """
import importlib.util, re, sys
for name in ("modeling_dualvqa", "processing", "datasets", "evaluate", "accelerate", "sklearn", "pandas", "peft"):
    assert importlib.util.find_spec(name) is None, f"{name} is importable, so this would show nothing"
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, pipeline

folder, image, again = sys.argv[1:]
question = "what color is it?"

# The lines of the model card, as they are but for the folder's name.
card = open(f"{folder}/README.md").read()
exec(re.search(r"```python\\n(.*?)```", card, re.S).group(1).replace("path/to/this/folder", folder))
assert type(model).__module__.startswith("transformers_modules.")
assert type(pipe).__name__ == "DualVQAPipeline"

from transformers import AutoModelForVisualQuestionAnswering
for auto_class in (AutoModel, AutoModelForVisualQuestionAnswering):
    again_loaded = auto_class.from_pretrained(folder, trust_remote_code=True)
    assert type(again_loaded).__name__ == "DualVQAForQuestionAnswering"
    assert all((again_loaded.state_dict()[name] == tensor).all() for name, tensor in model.state_dict().items())

config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
assert config.model_type == "dualvqa" and config.num_answers == len(processor.answers)
pixels = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)(image, return_tensors="pt")["pixel_values"]
inputs = processor(images=image, text=question, return_tensors="pt")
assert (pixels == inputs["pixel_values"]).all()
found = {
    "classes": processor.post_process_question_answering(model(**inputs))[0],
    "pipeline": pipe(image=image, question=question),
    "vqa": pipeline("vqa", model=folder, trust_remote_code=True)(image=image, question=question),
    "without a task": pipeline(model=folder, trust_remote_code=True)(image=image, question=question),
    "instance": pipeline("dualvqa", model=model, processor=processor)(image=image, question=question),
}
pipe.save_pretrained(again)
"""


@pytest.mark.slow
def test_it_answers_where_nothing_but_transformers_is_importable(elsewhere):
    answers = elsewhere.found["plain"]
    (expected,) = elsewhere.plain(image=elsewhere.image, question="what color is it?")
    assert set(answers) == {"classes", "pipeline", "vqa", "without a task", "instance"}
    for (found,) in answers.values():
        assert found == {**expected, "score": pytest.approx(expected["score"], abs=1e-6)}
    assert contents(elsewhere.folder / "plain again") == contents(elsewhere.folder / "plain")


# As the toolkit of Inference Endpoints finds the handler.
HANDLE = """
import base64, importlib.util, json, sys
sys.dont_write_bytecode = True  # the folder is compared with another one
folder, image = sys.argv[1:]
spec = importlib.util.spec_from_file_location("handler", folder + "/handler.py")
handler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(handler)
endpoint = handler.EndpointHandler(folder)
content = base64.b64encode(open(image, "rb").read()).decode()
found = endpoint({"inputs": {"image": content, "question": "what color is it?"}, "parameters": {"top_k": 2}})
found = json.loads(json.dumps(found))
for place in (image, "http://localhost/a.png"):
    try:
        endpoint({"inputs": {"image": place, "question": "what color is it?"}})
    except ValueError as error:
        found.append(str(error))
"""


@pytest.mark.slow
def test_its_handler_answers_there_too_and_opens_neither_files_nor_urls(elsewhere):
    *answers, path, url = elsewhere.found["handled"]
    expected = elsewhere.plain(image=elsewhere.image, question="what color is it?", top_k=2)
    assert answers == [{**item, "score": pytest.approx(item["score"], abs=1e-6)} for item in expected]
    assert "paths are not allowed here" in path and "URLs are not allowed here" in url


ASK = """
import sys
from transformers import pipeline
folder, image, again = sys.argv[1:]
pipe = pipeline("visual-question-answering", model=folder, trust_remote_code=True)
found = [pipe(image=image, question="is it red?", abstain=abstain) for abstain in (None, False)]
pipe.save_pretrained(again)
"""


@pytest.mark.slow
def test_calibration_and_familiarity_go_with_it(elsewhere):
    (withheld,), (guess,) = elsewhere.found["calibrated"]
    (expected,) = elsewhere.calibrated(image=elsewhere.image, question="is it red?", abstain=False)
    assert guess == {**expected, "score": pytest.approx(expected["score"], abs=1e-6)} and guess["unfamiliar"] == {
        "image": True,
        "question": False,
    }
    assert withheld == {**guess, "answer": None, "best_guess": guess["answer"]}
    assert contents(elsewhere.folder / "calibrated again") == contents(elsewhere.folder / "calibrated")


TEACH = """
import sys
from transformers import pipeline
folder, image, again = sys.argv[1:]
pipe = pipeline("visual-question-answering", model=folder, trust_remote_code=True)
before = pipe(image=image, question="is it red?", evidence=2)
pipe.memory.add(image, "what color is it?", "mauve")
found = before, pipe(image=image, question="what color is it?", evidence=1)
pipe.memory.remove(image, "what color is it?")
pipe.save_pretrained(again)
"""


@pytest.mark.slow
def test_a_memory_goes_with_it_and_can_be_taught(elsewhere):
    before, (said,) = elsewhere.found["remembering"]
    (expected,) = elsewhere.remembering(image=elsewhere.remembered, question="is it red?", evidence=2)
    assert before[0]["answer"] == expected["answer"] == "yes"
    assert before[0]["evidence"][0]["image"] == elsewhere.remembered
    assert before[0]["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert said["answer"] == said["evidence"][0]["answer"] == "mauve"
    assert contents(elsewhere.folder / "remembering again") == contents(elsewhere.folder / "remembering")


def test_a_folder_of_before_which_lists_its_pipeline_twice_is_saved_with_it_once(folder, tmp_path):
    path = folder / "config.json"
    before = json.loads(path.read_text())
    (entry,) = before["custom_pipelines"].values()
    path.write_text(json.dumps({**before, "custom_pipelines": {"visual-question-answering": entry, "vqa": entry}}))
    config = DualVQAForQuestionAnswering.from_pretrained(folder).config
    assert config.custom_pipelines["vqa"] == entry and "vqa" in config.custom_pipelines
    assert "dance" not in config.custom_pipelines
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == before


LOAD_WITHOUT_TRUST = """
import os, sys
from pathlib import Path
from transformers import AutoModel, AutoProcessor, pipeline
folder, messages = sys.argv[1], []
for load in (
    AutoModel.from_pretrained,
    AutoProcessor.from_pretrained,
    lambda folder: pipeline("visual-question-answering", model=folder),
):
    try:
        load(folder)
    except ValueError as error:
        messages.append(str(error))
print()  # transformers asks first, and its question has no end of line
found = messages, [str(path) for path in Path(os.environ["HOME"]).rglob("*_dualvqa.py")]
"""


@pytest.mark.slow
def test_without_trust_it_is_refused_and_none_of_its_code_is_copied(elsewhere):
    messages, copied = elsewhere.found["without trust"]
    assert len(messages) == 3 and all("trust_remote_code=True" in message for message in messages)
    assert not copied


def test_an_unknown_fusion_in_its_configuration_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "fusion_type": "telepathy"}))
    with pytest.raises(
        ValueError,
        match="fusion_type must be one of attention, cross_attention, concat, product, gated; found 'telepathy'",
    ):
        DualVQAForQuestionAnswering.from_pretrained(folder)


def test_a_processor_of_another_model_is_refused(folder, processor, tiny_config, tokenizer):
    small = tiny_config().text_config
    small.vocab_size = len(tokenizer) - 1
    model = DualVQAForQuestionAnswering(tiny_config(text_config=small))
    with pytest.raises(ValueError, match=rf"{len(tokenizer)} tokens and the model's text tower {len(tokenizer) - 1}"):
        DualVQAPipeline(model, processor)
    with pytest.raises(ValueError, match="head has 5 answers and the processor's vocabulary 3"):
        DualVQAPipeline(DualVQAForQuestionAnswering(tiny_config(num_answers=5)), processor)
