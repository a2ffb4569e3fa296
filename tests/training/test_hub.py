"""Pushing to a Hub and loading from it, over a socket, in processes of their own: the client reads its settings when it
is imported."""

import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from helpers import ANSWERS, OTHER_FILES, SOURCES, contents, short_run, write_images
from hub_server import HubServer
from huggingface_hub import ModelCard
from PIL import Image
from processes import run_code

pytestmark = pytest.mark.slow
FOLDER = {*OTHER_FILES, *SOURCES, ".gitattributes"}


@pytest.fixture(scope="module")
def pushed(tiny_model, new_processor, tmp_path_factory):
    """What a process left that pushed in every way: the hub, the folder it worked in, what it printed."""
    torch.manual_seed(0)
    folder = write_images(tmp_path_factory.mktemp("pushed"))
    for part in (tiny_model(), new_processor()):
        part.save_pretrained(folder / "saved")
    settings = {**short_run(folder), "do_eval": True, "do_predict": True, "test_file": str(folder / "train.jsonl")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    with HubServer() as hub:
        printed = run_code(PUSH, folder=folder, environment=hub.environment(folder / "home"), package=True)
        yield SimpleNamespace(hub=hub, folder=folder, said=json.loads(printed.splitlines()[-1]))


PUSH = """
import json, os, torch
from PIL import Image
from dualvqa.run import main as run_vqa
from modeling_dualvqa import DualVQAForQuestionAnswering, DualVQAPipeline
from processing import DualVQAProcessor

model, processor = (kind.from_pretrained("saved") for kind in (DualVQAForQuestionAnswering, DualVQAProcessor))
processor.push_to_hub("dualvqa")  # without a namespace: the token's owner's
first = model.push_to_hub("someone/dualvqa").oid
torch.nn.init.zeros_(model.open_ended_head[-1].weight)
torch.nn.init.zeros_(model.open_ended_head[-1].bias)
model.add_model_tags("radiology")
pipe = DualVQAPipeline(model, processor)
pipe.push_to_hub("someone/dualvqa", tags=["yes: no", "dualvqa"])
request = pipe.push_to_hub("someone/other", create_pr=True)
assert request.pr_revision == "refs/pr/1"
processor.push_to_hub("someone/other", tags=["of the processor"])
model.push_to_hub("someone/other", tags=["of the model"])
pipe.save_pretrained("copy", push_to_hub=True, repo_id="someone/third")

pipe.memory.build([Image.new("RGB", (9, 9))] * 2, ["is it red?", "what color is it?"], ["no", "black"])
pipe.push_to_hub("someone/remembers_first")
pipe.save_pretrained("remembers", push_to_hub=True, repo_id="someone/remembers_second")
pipe.model.save_pretrained("remembers_too", push_to_hub=True, repo_id="someone/remembers_third")
pipe.model.memory.push_texts = True
pipe.push_to_hub("someone/remembers_fourth")

run = ["recipe.yaml", "--push_to_hub", "--hub_model_id"]
run_vqa.main([*run, "someone/trained", "--save_steps", "1", "--save_strategy", "steps"])
os.environ["HF_TOKEN"] = ""
try:
    run_vqa.main([*run, "someone/x", "--output_dir", "refused"])
except SystemExit as error:
    refused = error.code
print()
print(json.dumps({"first": first, "refused": refused}))
"""

LOAD = """
import json, sys
from transformers import AutoModel, AutoProcessor, pipeline
image, first, folder = sys.argv[1:]
answers = {}
for revision in (first, "main"):
    options = {"revision": revision, "trust_remote_code": True}
    model = AutoModel.from_pretrained("someone/dualvqa", **options)
    processor = AutoProcessor.from_pretrained("someone/dualvqa", **options)
    assert type(model).__module__.startswith("transformers_modules.someone.dualvqa.")
    pipe = pipeline("visual-question-answering", model="someone/dualvqa", **options)
    answers[revision] = pipe(image=image, question="what color is it?", question_type="open_ended", top_k=3)
    inputs = processor(images=image, text="what color is it?", return_tensors="pt")
    assert processor.post_process_question_answering(model(**inputs), 3, "open_ended") == [answers[revision]]
pipe.save_pretrained(folder)
print(json.dumps(answers))
"""


def test_what_is_pushed_is_loaded_by_its_name_and_revision(pushed, tmp_path):
    hub, first = pushed.hub, pushed.said["first"]
    Image.effect_noise((40, 30), 80).save(tmp_path / "image.png")
    for revision in (first, "main"):
        files = hub.files("someone/dualvqa", revision)
        assert set(files) == FOLDER
        assert all(files[name] == source.read_bytes() for name, source in SOURCES.items())

    # Model and processor go together, in one commit or one pull request.
    one, both = "Upload DualVQAForQuestionAnswering", "Upload model and processor"
    messages = [commit.message for commit in hub.repos["someone/dualvqa"].commits]
    assert messages == ["initial commit", "Upload processor", one, both]
    other = hub.repos["someone/other"]
    assert [commit.message for commit in other.commits] == ["initial commit", both, "Upload processor", one]
    assert set(hub.files("someone/other", "refs/pr/1")) == FOLDER
    assert [commit.message for commit in hub.repos["someone/third"].commits] == ["initial commit", both]
    assert set(hub.files("someone/third")) == FOLDER

    own = ["visual-question-answering", "dualvqa", "custom_code"]
    for repo_id, revision, tags in (
        ("someone/dualvqa", first, []),
        ("someone/dualvqa", "main", ["radiology", "yes: no"]),
        ("someone/other", "refs/pr/1", ["radiology", "yes: no"]),
        ("someone/other", "main", ["radiology", "yes: no", "of the processor", "of the model"]),
    ):
        card = ModelCard(hub.files(repo_id, revision)["README.md"].decode())
        assert sorted(card.data.tags) == sorted(own + tags), (repo_id, revision)

    given, environment = (tmp_path / "image.png", first, tmp_path / "again"), hub.environment(tmp_path / "home")
    answers = json.loads(run_code(LOAD, *given, folder=tmp_path, environment=environment).splitlines()[-1])
    assert {item["answer"] for item in answers[first]} == set(ANSWERS)
    assert len({item["score"] for item in answers[first]}) == 3
    assert [item["score"] for item in answers["main"]] == pytest.approx([1 / 3] * 3)
    # Loaded and saved again it is what the Hub has.
    assert contents(tmp_path / "again") == {n: c for n, c in files.items() if n != ".gitattributes"}
    card = (tmp_path / "again" / "README.md").read_text()
    assert card.count('"someone/dualvqa"') == 3 and "processing_dualvqa.py" in card


def test_the_texts_of_a_memory_stay_here_unless_they_are_to_be_pushed(pushed):
    texts = "memory_examples.jsonl"
    assert (pushed.folder / "remembers" / texts).exists() and (pushed.folder / "remembers_too" / texts).exists()
    for name, expected in (("first", False), ("second", False), ("third", False), ("fourth", True)):
        files = pushed.hub.files(f"someone/remembers_{name}")
        assert (texts in files) == expected and "model.safetensors" in files, name


def test_a_run_pushes_its_model_and_card_and_nothing_of_the_users_rows(pushed, tmp_path):
    hub, out = pushed.hub, pushed.folder / "out"
    assert (out / "predictions.jsonl").exists()
    repo = hub.repos["someone/trained"]
    assert repo.commits[-1].message == "End of training"
    for commit in repo.commits[1:]:
        assert FOLDER <= set(commit.files)
        assert not {name for name in commit.files if not name.endswith((".json", ".py", ".md", ".safetensors", "utes"))}
    files = hub.files("someone/trained")
    (tmp_path / "README.md").write_bytes(files["README.md"])
    card = ModelCard.load(tmp_path / "README.md")
    reached = json.loads((out / "test_results.json").read_text())
    values = {(result.dataset_split, result.metric_name): result.metric_value for result in card.data.eval_results}
    assert values["test", "routed accuracy, all"] == pytest.approx(reached["test_routed_accuracy"], abs=1e-6)
    assert ("validation", "routed accuracy, yes/no") in values
    assert "train.jsonl | 12 | 6" in card.text and str(pushed.folder) not in card.text
    assert files["model.safetensors"] == (out / "model.safetensors").read_bytes()


def test_a_push_without_a_token_stops_before_training(pushed):
    assert pushed.said["refused"].startswith("error:")
    assert not (pushed.folder / "refused" / "model.safetensors").exists()
