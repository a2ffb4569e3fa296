"""A trainer's memory: what it is made of, what it is fitted on, what it gives."""

import copy
import functools
import json
import re
from pathlib import Path

import pytest
import torch
from datasets import Sequence, Value, concatenate_datasets
from helpers import TINY, lines_of, write_images, write_many
from helpers import data_arguments as data_of
from peft import LoraConfig, get_peft_model
from training_helpers import training_arguments

from dualvqa import DualVQATrainer, build_model, load_model, optimize_for_inference, prepare_datasets
from dualvqa.run import main as run_vqa
from dualvqa.trust import remembering
from dualvqa.trust.memory_fitting import FITTED
from modeling_dualvqa.memory_examples_dualvqa import PARAMETERS

PLAIN = {**TINY, "image_size": 32, "preset": "none"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of images, and the parts of many questions about them."""
    folder = write_images(tmp_path_factory.mktemp("many"))
    return folder, prepare_datasets(data_of(folder, train_file=write_many(folder), validation_fraction=0.5))[0]


def new_trainer(data, output_dir, train=None, validation=None, settings=PLAIN, **fields):
    folder, parts = data
    train, validation = train or parts["train"], validation or parts["validation"]
    model, processor = build_model(train, **settings)
    sizes = {"max_steps": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "memory": True}
    args = training_arguments(**{"folder": str(output_dir), **sizes, **fields})
    given = {"train_dataset": train, "eval_dataset": validation, "data_args": data_of(folder)}
    return DualVQATrainer(model=model, processing_class=processor, args=args, **given)


@pytest.fixture
def make_trainer(data, tmp_path):
    return functools.partial(new_trainer, data, tmp_path / "run")


@pytest.fixture(scope="module")
def trained_here(data, tmp_path_factory):
    """A trainer that has trained, and its folder: tests add to it, and change neither model nor rows."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("remembers") / "run"
    trainer = new_trainer(data, folder)
    trainer.train()
    return trainer, folder


@pytest.mark.slow
def test_training_leaves_a_folder_whose_memory_is_the_training_part(trained_here):
    trainer, folder = trained_here
    train = trainer.parts()["train"]
    model, processor = load_model(folder)
    assert len(model.memory) == len(train) and model.config.memory["images"] == len(set(train["image_key"]))
    texts = lines_of(folder / "memory_examples.jsonl")
    assert [text["question"] for text in texts] == train["question"][:]
    assert [text["answer"] for text in texts] == train["answer"][:] and re.fullmatch(
        r"many_\d+\.png", texts[0]["image"]
    )
    kinds = model.memory.question_type
    words = [("no", "yes"), processor.all_answers]
    said = [words[kind][index] for index, kind in zip(model.memory.answer_index, kinds)]
    assert said == train["answer"][:]
    figures = model.config.model_card["memory"]
    assert figures["rows"] == len(trainer.parts()["validation"]) and 0 <= figures["with"] <= 1
    assert {name: model.config.memory[name] for name in FITTED} == {name: figures[name] for name in FITTED}
    assert figures["held_out"] == "held out by image"


@pytest.mark.slow
def test_of_several_answers_the_most_frequent_is_remembered(make_trainer, tmp_path):
    rows = make_trainer().parts()["train"]
    answers = [["teal", "Mauve", "mauve"] if answer not in ("yes", "no") else [answer] for answer in rows["answer"]]
    answers[0:2] = [["no"], ["teal", "Ochre", "ochre"]]
    rows = rows.remove_columns("answer").add_column("answer", answers, feature=Sequence(Value("string")))
    make_trainer(train=rows, settings={**PLAIN, "max_answers": 1}).train()
    _, processor = load_model(tmp_path / "run")
    assert processor.answers == ["Mauve"] and processor.memory_answers == ["Ochre"]
    texts = {text["answer"] for text in lines_of(tmp_path / "run" / "memory_examples.jsonl")}
    assert {"Mauve", "Ochre"} <= texts and not {"teal", "mauve"} & texts


@pytest.mark.slow
def test_images_that_the_tower_does_not_tell_apart_are_counted():
    keys = torch.nn.functional.normalize(torch.eye(6)[:, :4] + torch.tensor([[0.0], [0], [0], [0], [3], [3.1]]), dim=1)
    assert remembering.images_alike(keys) == (2, 6) and remembering.images_alike(keys, most=5) == (0, 5)
    assert remembering.images_alike(keys.half()) == (2, 6)


@pytest.mark.slow
def test_a_question_never_finds_itself_while_fitting(make_trainer, caplog, monkeypatch):
    own = make_trainer().parts()
    both = concatenate_datasets([own["validation"], own["train"].select(range(9))])
    searched = []
    search = remembering.Memory.search

    def watched(memory, *args, **fields):
        searched.append(fields)
        return search(memory, *args, **fields)

    monkeypatch.setattr(remembering.Memory, "search", watched)
    trainer = make_trainer(validation=both)
    trainer.train()
    assert "9 held-out questions are in the memory word for word: not fitted on" in caplog.text
    found = trainer.model.config.model_card["memory"]
    assert found["rows"] == len(own["validation"])
    fitting = [fields for fields in searched if fields]
    assert fitting and all(len(fields["image_index"]) <= len(own["validation"]) for fields in fitting)


@pytest.mark.slow
def test_a_calibration_is_dropped_with_what_it_was_of(make_trainer, caplog):
    trainer = make_trainer(memory=False)
    trainer.train()
    for what in ("without a memory", "with the memory that this one takes the place of"):
        caplog.clear()
        trainer.processing_class.calibration = {"temperatures": {"binary": 1.5}}
        trainer.build_memory()
        assert f"the calibration is of the model {what}, and dropped" in caplog.text
        assert trainer.processing_class.calibration is None


@pytest.mark.slow
def test_few_held_out_questions_leave_the_usual_parameters(make_trainer, caplog, tmp_path):
    validation = make_trainer().parts()["validation"]
    trainer = make_trainer(validation=validation.select(range(20)))
    trainer.train()
    assert "the memory keeps its usual parameters: 20 held-out questions, 50 needed" in caplog.text
    assert {name: trainer.model.config.memory[name] for name in PARAMETERS} == PARAMETERS
    assert "wasn't fitted: the parameters are the usual ones" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.slow
def test_embeddings_of_frozen_towers_give_the_same_memory(make_trainer):
    frozen = {**PLAIN, "freeze_vision": True, "freeze_text": True}
    off = {"random_crop_scale": 1.0, "color_jitter": 0.0}
    trainer = make_trainer(settings=frozen, memory=False, **off)
    trainer.train()
    assert trainer.data_collator.embeddings is not None
    rows = trainer.parts()["validation"]
    kept = remembering.encode(trainer, rows)
    trainer.data_collator.embeddings = None
    for name, tensor in remembering.encode(trainer, rows).items():
        torch.testing.assert_close(tensor, kept[name])


@pytest.mark.slow
def test_answers_that_only_the_validation_part_has_are_not_the_first_models_in_the_report(make_trainer, tmp_path):
    validation = make_trainer().parts()["validation"]
    own = [f"thing {number}" for number in range(4)] + validation["answer"][4:]
    validation = validation.remove_columns("answer").add_column("answer", own, feature=validation.features["answer"])
    trainer = make_trainer(validation=validation, refit=True)
    trainer.train()
    trainer.evaluate()
    trainer.write_report()
    before = json.loads((tmp_path / "run" / "report.json").read_text())["parts"]["validation"]["accuracy"]
    trainer.refit()
    assert {"thing 0", "thing 3"} <= set(trainer.processing_class.memory_answers)
    trainer.write_report()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["parts"]["validation"]["accuracy"] == before
    rows = trainer.parts()["validation"]
    path = trainer.write_predictions(rows, str(tmp_path / "predictions.jsonl"), top_k=1)  # the new model's
    assert len(lines_of(Path(path))) == len(rows)


@pytest.mark.slow
def test_a_refit_keeps_the_parameters_and_makes_the_keys_anew(make_trainer, tmp_path):
    trainer = make_trainer(refit=True)
    trainer.train()
    trainer.evaluate()
    first = copy.deepcopy(trainer.model.memory)
    trainer.refit()
    model, _ = load_model(tmp_path / "run")
    assert len(model.memory) == sum(map(len, trainer.parts().values())) > len(first)
    assert all(model.memory.settings[name] == first.settings[name] for name in PARAMETERS)
    assert len(lines_of(tmp_path / "run" / "memory_examples.jsonl")) == len(model.memory)
    with pytest.raises(ValueError, match="call build_memory\\(\\) before refit"):
        trainer.build_memory()
    trainer.write_report()  # the answers without memory are those of the first model too
    accuracy = json.loads((tmp_path / "run" / "report.json").read_text())["parts"]["validation"]["accuracy"]
    assert set(accuracy) >= {"routed", "heads_routed"}


@pytest.mark.slow
def test_card_and_report_say_what_the_memory_gave(trained_here):
    trainer, folder = trained_here
    trainer.evaluate()
    trainer.write_report()
    card = (folder / "README.md").read_text()
    figures, held = trainer.model.config.model_card["memory"], len(trainer.parts()["validation"])
    assert f"fitted on {held} held-out questions (held out by image)" in card
    assert f"the heads alone answer {figures['without']:.1%} correctly" in card and "profits from rewordings" in card
    report = json.loads((folder / "report.json").read_text())
    part, page = report["parts"]["validation"], (folder / "report.html").read_text()
    assert part["accuracy"]["heads_routed"]["all"]["value"] == pytest.approx(figures["without"])
    assert set(part["memory_difference"]) == set(part["types"])
    assert "Without its memory the model reaches" in page
    assert "from the memory:" in page or "nothing in the memory" in page


@pytest.mark.slow
def test_a_quantized_model_is_reported_on_and_keeps_its_memory(trained_here, make_trainer, tmp_path):
    model, processor = load_model(trained_here[1])
    processor.memory_answers = ["lilac"]
    settings = model.config.memory
    model.memory.settings["new_answers"] = settings["new_answers"] = 1
    trainer = make_trainer(memory=False, folder=str(tmp_path / "int8"))
    trainer.model, trainer.processing_class = optimize_for_inference(model, "int8"), processor
    memory = trainer.model.memory
    alone = remembering.heads_alone(trainer, trainer.parts()["validation"])
    assert alone["open_ended_logits"].shape[1] == len(processor.answers)
    assert trainer.model.memory is memory is not None and trainer.model.config.memory == settings
    assert processor.memory_answers == ["lilac"]


@pytest.mark.slow
def test_without_texts_there_is_no_evidence_and_no_file(make_trainer, tmp_path):
    trainer = make_trainer(memory_texts=False)
    trainer.train()
    assert trainer.evidence() is None and not (tmp_path / "run" / "memory_examples.jsonl").exists()


def test_a_memory_that_cannot_be_is_refused_before_anything_is_trained(make_trainer, recipe, monkeypatch):
    trainer = make_trainer()
    with pytest.raises(ValueError, match="the model is not trained yet.*before build_memory"):
        trainer.build_memory()
    monkeypatch.setattr("modeling_dualvqa.memory_examples_dualvqa.free_bytes", lambda: 1000)
    with pytest.raises(
        ValueError, match="there is room for 1,000 bytes. Give it fewer examples, .*by a smaller train_fraction"
    ):
        trainer.train()
    monkeypatch.undo()
    trainer.model = get_peft_model(trainer.model, LoraConfig(r=2, target_modules=r"text_encoder\..*\.q_lin"))
    with pytest.raises(ValueError, match="of a model with adapters these alone are saved"):
        trainer.train()
    with pytest.raises(SystemExit, match="--memory needs --do_train, and can't be with --streaming"):
        run_vqa.main([recipe(), "--memory", "--streaming"])
