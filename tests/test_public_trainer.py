"""What README promises of Python: raw data in, a whole folder out; searches, callbacks, own metrics and adapters."""

import json

import optuna
import pytest
import torch
from datasets import IterableDataset
from helpers import TEXT, lines_of
from peft import LoraConfig, get_peft_model
from PIL import Image
from towers import vision_config
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    TrainerCallback,
    TrainingArguments,
    pipeline,
    set_seed,
)

from dualvqa import (
    DataArguments,
    DualVQAPipeline,
    DualVQATrainer,
    DualVQATrainingArguments,
    answers_of,
    build_model,
    load_model,
    prepare_dataset,
)
from dualvqa.run import main as run_vqa

COLORS = ["red", "green", "blue"]
TINY = {"vision_config": vision_config("resnet"), "fusion_hidden_size": 16, "fusion_num_attention_heads": 2}
TINY |= {"image_size": 32, "text_config": TEXT}
MAPPING = {"Bild": "image", "Frage": "question", "Antwort": "answer"}


def make_rows(count, start=0):
    """Two questions about each of some images of one color."""
    rows = []
    for n in range(start, start + count):
        image, color = Image.new("RGB", (40, 30 + n), COLORS[n % 3]), COLORS[n % 3]
        rows.append({"image": image, "question": "what color is it?", "answer": color})
        rows.append({"image": image, "question": "is it red?", "answer": "yes" if color == "red" else "no"})
    return rows


@pytest.fixture(scope="module")
def data():
    return {"train": make_rows(12), "test": make_rows(52, 12)}


@pytest.fixture
def arguments(tmp_path):
    def make(**fields):
        defaults = {"max_steps": 2, "per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True}
        return DualVQATrainingArguments(str(tmp_path / "run"), disable_tqdm=True, **{**defaults, **fields})

    return make


@pytest.fixture
def make_trainer(data, arguments):
    def make(args=None, **options):
        model, processor = build_model(data["train"], **TINY)
        given = {"processing_class": processor, "train_dataset": data["train"], "eval_dataset": data["test"], **options}
        return DualVQATrainer(model=model, args=args or arguments(), **given)

    return make


@pytest.mark.slow
def test_the_ten_lines_leave_what_a_run_leaves(make_trainer, data, tmp_path, recipe, monkeypatch):
    trainer = make_trainer()
    trainer.train()
    metrics = trainer.evaluate()
    figures = trainer.calibrate(max_risk=0.9)
    trainer.evaluate(data["test"][:60], metric_key_prefix="test")
    trainer.write_predictions(data["test"], tmp_path / "run" / "predictions.jsonl", top_k=2)
    trainer.write_report()
    pushed = []
    monkeypatch.setattr(trainer, "upload", lambda folder, *args, **options: pushed.append(folder))
    trainer.hub_model_id = "someone/mine"
    trainer.push_to_hub(blocking=False)
    assert pushed == [str(tmp_path / "run")]
    folder = tmp_path / "run"
    assert metrics["eval_routed_accuracy"] >= 0 and metrics["eval_coverage"] == 1.0 == figures["calibration_rows"] / 104
    lines = lines_of(folder / "predictions.jsonl")
    assert len(lines) == 104 and lines[0]["source_answer"] == "red" and len(lines[0]["top_k"]) == 2
    card = (folder / "README.md").read_text()
    assert "| train | given in Python | 24 | 12 | 100.0% |" in card and "| test | given in Python | 60 | 30 |" in card
    assert "| preset | scratch (24 questions" in card and "fusion_hidden_size 16" in card
    assert "training time" in card and "| routed |" in card
    report = json.loads((folder / "report.json").read_text())
    assert list(report["parts"]) == ["validation", "test"]
    asked = {"image": data["test"][0]["image"], "question": "is it red?"}
    saved = pipeline("visual-question-answering", model=str(folder), trust_remote_code=True)
    trained = DualVQAPipeline(trainer.model.eval(), trainer.processing_class)
    assert saved(**asked) == trained(**asked) and saved(**asked)[0]["answer"] in (*COLORS, "yes", "no", None)

    settings = {"eval_steps": 2, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 2, "calibrate": "auto"}
    run_vqa.main([recipe(**settings), "--do_eval", "--output_dir", str(tmp_path / "other")])
    left = {path.name for path in (tmp_path / "other").iterdir()}
    assert left <= {path.name for path in folder.iterdir()} | {"checkpoint-2"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_as_a_run_on_files(recipe, image_folder, tmp_path):
    flags = ["--validation_fraction", "0", "--output_dir", str(tmp_path / "files")]
    run = run_vqa.main([recipe(), *flags])
    args = run.settings.training
    args.output_dir = str(tmp_path / "python")
    read = DataArguments(image_dir=str(image_folder))
    rows = prepare_dataset(image_folder / "train.jsonl", data_args=read)
    set_seed(args.seed)
    model, processor = build_model(rows, preset="none", **{**run.model.start.fields, "image_size": 32})
    DualVQATrainer(model=model, processing_class=processor, args=args, train_dataset=rows).train()
    for (name, one), other in zip(run.model.state_dict().items(), model.state_dict().values()):
        assert torch.equal(one, other), name


@pytest.mark.slow
def test_columns_are_mapped_for_training_evaluation_and_prediction(data, arguments):
    german = {
        part: [{"Bild": row["image"], "Frage": row["question"], "Antwort": row["answer"]} for row in rows[:8]]
        for part, rows in data.items()
    }
    model, processor = build_model(german["train"], column_mapping=MAPPING, **TINY)
    trainer = DualVQATrainer(
        model=model,
        processing_class=processor,
        args=arguments(max_steps=1),
        train_dataset=german["train"],
        eval_dataset=german["test"],
        column_mapping=MAPPING,
    )
    trainer.train()
    assert "eval_routed_accuracy" in trainer.evaluate()
    assert model.config.model_card["columns"] == {name: column for column, name in MAPPING.items()}
    asked = [{"Bild": row["Bild"], "Frage": row["Frage"]} for row in german["test"]]
    assert len(trainer.predict(asked).predictions[0]) == 8


def test_a_tower_that_has_no_size_of_its_own_takes_images_of_any(data, tmp_path):
    model, processor = build_model(data["train"], **TINY)
    model.vision_encoder.model.save_pretrained(tmp_path)
    again, other = build_model(data["train"], **{**TINY, "vision_config": None}, vision=str(tmp_path))
    assert processor.image_processor.size == other.image_processor.size == {"height": 32, "width": 32}
    assert not hasattr(model.config.vision_config, "image_size")
    assert not hasattr(again.config.vision_config, "image_size")


@pytest.mark.slow
def test_a_stream_trains(data, arguments):
    stream = IterableDataset.from_generator(lambda: iter(prepare_dataset(data["train"]).to_list()))
    model, processor = build_model(stream, **TINY)
    trainer = DualVQATrainer(model=model, processing_class=processor, args=arguments(), train_dataset=stream)
    assert trainer.train().global_step == 2


@pytest.mark.slow
def test_own_metrics_and_callbacks_work(make_trainer, data, arguments):
    seen, steps = [], []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)

    def share_of_yes(prediction):
        seen.extend(answers_of(prediction, trainer.processing_class))
        return {"yes": sum(best[0]["answer"] == "yes" for best in seen) / len(seen)}

    trainer = make_trainer(arguments(eval_strategy="steps", eval_steps=2), compute_metrics=share_of_yes)
    trainer.add_callback(Count())
    trainer.train()
    assert steps == [1, 2] and len(seen) == 104 and set(seen[0][0]) >= {"answer", "score", "question_type"}
    assert "eval_yes" in trainer.state.log_history[-2] or "eval_yes" in trainer.state.log_history[-1]
    assert len(answers_of(trainer.predict(data["test"][:4]), trainer.processing_class, top_k=2)[0]) == 2


@pytest.mark.slow
def test_every_searched_argument_takes_effect(data, arguments):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    built = build_model(data["train"], **TINY)
    torch.manual_seed(0)
    start = {name: tensor.clone() for name, tensor in built[0].state_dict().items()}
    losses, weights = [], [0.1, 1.0, 3.0]

    def model_init(trial=None):
        model = type(built[0])(built[0].config)
        model.load_state_dict(start)
        return model

    class Keep(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs and state.global_step == 1:
                losses.append((args.binary_loss_weight, logs["loss"], logs["binary_weight"], logs["binary_loss"]))

    trainer = DualVQATrainer(
        model_init=model_init,
        processing_class=built[1],
        args=arguments(logging_steps=1, eval_strategy="steps", eval_steps=2, save_strategy="no"),
        train_dataset=data["train"],
        eval_dataset=data["test"][:10],
        callbacks=[Keep()],
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"binary_loss_weight": trial.suggest_categorical("binary_loss_weight", weights)},
        compute_objective=lambda metrics: metrics["eval_loss"],
        n_trials=3,
        backend="optuna",
        sampler=optuna.samplers.GridSampler({"binary_loss_weight": weights}),
    )
    assert sorted(weight for weight, *_ in losses) == weights and best.hyperparameters["binary_loss_weight"] in weights
    assert all(weight == in_force for weight, _, in_force, _ in losses)
    (_, low, _, one), (_, high, _, other) = sorted(losses)[0], sorted(losses)[-1]
    assert one == pytest.approx(other, rel=1e-4) and high - low == pytest.approx(2.9 * one, rel=1e-3)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT in a folder as the Hub has them."""
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "it", "red", "what", "color", "?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["distilbert", "bert"])
def test_adapters_train_on_any_text_tower(family, bert, data, arguments, tmp_path):
    """MiniLM is a BERT; the regular expression names the linear layers of every transformers text tower."""
    options = {**TINY, "text": bert, "text_config": {}, "max_question_length": 16} if family == "bert" else TINY
    model, processor = build_model(data["train"], **options)
    model.freeze_encoders(vision=True, text=False)
    settings = LoraConfig(r=2, target_modules=r"text_encoder\..*(q_lin|v_lin|query|value)")
    adapted = get_peft_model(model, settings)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    trainer = DualVQATrainer(
        model=adapted, processing_class=processor, args=arguments(learning_rate=0.1), train_dataset=data["train"]
    )
    trainer.train()
    changed = {name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    with pytest.raises(ValueError, match="has adapters .*merge_and_unload"):
        load_model(tmp_path / "run")
    answers = trainer.predict(data["test"][:8]).predictions[1]
    trainer.model.merge_and_unload().save_pretrained(tmp_path / "merged")
    processor.save_pretrained(tmp_path / "merged")
    loaded, _ = load_model(tmp_path / "merged")
    again = DualVQATrainer(model=loaded, processing_class=processor, args=arguments()).predict(data["test"][:8])
    assert torch.allclose(torch.tensor(again.predictions[1]), torch.tensor(answers), atol=1e-5)


@pytest.mark.slow
def test_what_can_not_work_is_said_before_training(make_trainer, data, arguments):
    with pytest.raises(ValueError, match="not trained yet.*call train"):
        make_trainer().calibrate()
    with pytest.raises(ValueError, match="not trained yet, and its answers mean nothing: call train"):
        make_trainer().push_to_hub()
    with pytest.raises(ValueError, match="there is nothing to evaluate: give the trainer an eval_dataset"):
        make_trainer(eval_dataset=None).evaluate()
    with pytest.raises(ValueError, match="nothing to report on"):
        make_trainer(eval_dataset=None).write_report()
    with pytest.raises(ValueError, match="train_dataset has no column 'image'"):
        make_trainer(train_dataset=[{"view": 1, "question": "?", "answer": "a"}])
    with pytest.raises(ValueError, match=r"eval_dataset, row 1 .*unreadable image"):
        make_trainer(eval_dataset=[{"image": b"nothing", "question": "what?", "answer": "a"}])
    with pytest.raises(ValueError, match="need processing_class"):
        DualVQATrainer(model=build_model(data["train"], **TINY)[0], args=arguments(), train_dataset=data["train"])
    with pytest.raises(ValueError, match="has no setting 'fusion_typ'; did you mean fusion_type"):
        build_model(data["train"], fusion_typ="attention")


@pytest.mark.slow
def test_answers_of_one_kind_train_their_head_and_the_other_is_warned_about(data, arguments, caplog):
    rows = [row for row in data["train"] if row["answer"] in COLORS]
    model, processor = build_model(rows, **TINY)
    DualVQATrainer(model=model, processing_class=processor, args=arguments(), train_dataset=rows).train()
    assert "the binary head learns nothing: of 12 training rows none has the answer yes or no" in caplog.text


@pytest.mark.slow
def test_a_saved_folder_is_loaded_evaluated_and_calibrated(make_trainer, data, arguments, tmp_path, caplog):
    make_trainer().train()
    model, processor = load_model(tmp_path / "run")
    args = DualVQATrainingArguments(str(tmp_path / "later"), report_to="none", use_cpu=True)
    trainer = DualVQATrainer(model=model, processing_class=processor, args=args, eval_dataset=data["test"])
    assert "calibration_rows" in trainer.calibrate() and "was trained on about" not in caplog.text
    trainer = DualVQATrainer(model=model, processing_class=processor, args=args, eval_dataset=data["train"])
    trainer.evaluate()
    assert "validation: the model was trained on about 100 % of these 24 questions (24 of 24 that" in caplog.text
    assert load_model(tmp_path / "later")[1].calibration["temperatures"]


@pytest.mark.slow
def test_figures_belong_to_the_rows_and_the_weights_that_they_say(make_trainer, data, tmp_path):
    trainer = make_trainer(eval_dataset=data["test"][:40])
    trainer.train()
    trainer.evaluate()
    first = (tmp_path / "run" / "eval_results.json").read_text()
    assert trainer.evaluate(data["test"][40:44])["eval_coverage"] == 1.0  # other rows: given back, and that is all
    assert (tmp_path / "run" / "eval_results.json").read_text() == first
    assert len(trainer.last_outputs["eval"][0]) == 40
    trainer.evaluate(data["test"][:40])  # the same rows
    assert (tmp_path / "run" / "eval_results.json").read_text() != first  # its time at least

    trainer.evaluate(data["test"][:10], metric_key_prefix="test")
    trainer.evaluate(data["test"][:30], metric_key_prefix="test")
    trainer.predict(data["test"][:4])  # no result
    trainer.write_predictions(data["test"][:6], tmp_path / "some.jsonl")
    card = (tmp_path / "run" / "README.md").read_text()
    assert "| test | given in Python | 30 | 15 |" in card and "| 10 | 5 |" not in card and "| 6 | 3 |" not in card

    trainer.train()
    assert not trainer.last_outputs
    trainer.write_report()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["parts"]) == ["validation"]


@pytest.mark.slow
def test_what_is_no_data_and_no_arguments_is_named(make_trainer, data, arguments, tmp_path):
    with pytest.raises(ValueError, match="eval_dataset: there are no rows"):
        make_trainer(eval_dataset=[])
    with pytest.raises(ValueError, match="train_dataset: expected a Dataset, a list of dicts"):
        make_trainer(train_dataset={"image": [1], "question": ["what?"]})
    with pytest.raises(ValueError, match="test_dataset: expected a Dataset, a list of dicts"):
        make_trainer().predict(data["test"][0])
    with pytest.raises(ValueError, match="args must be DualVQATrainingArguments, found TrainingArguments"):
        make_trainer(TrainingArguments(str(tmp_path), use_cpu=True))
    with pytest.raises(ValueError, match="column_mapping maps"):
        make_trainer(column_mapping="Bild")
    with pytest.raises(ValueError, match="the model has 3 open-ended answers and the processor 2"):
        make_trainer(processing_class=build_model(data["train"][:4], **TINY)[1])
    with pytest.raises(ValueError, match="expected canonical rows, found the columns image, question, answer"):
        trainer = make_trainer()
        make_trainer(data_collator=lambda rows: trainer.data_collator(rows)).train()


@pytest.mark.slow
def test_a_second_training_leaves_nothing_of_the_first_model(make_trainer, tmp_path, caplog):
    trainer = make_trainer()
    trainer.train()
    trainer.calibrate()
    trainer.write_report()
    assert json.loads((tmp_path / "run" / "report.json").read_text())["fitted_on"] == "validation"
    (tmp_path / "run" / "predictions.jsonl").touch()
    trainer.train()
    assert f"predictions.jsonl in {tmp_path / 'run'} is of a model that was there before" in caplog.text
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not left & {"calibration_results.json", "eval_results.json", "report.json", "report.html"}
    assert not [key for key in json.loads((tmp_path / "run" / "all_results.json").read_text()) if "calibration" in key]


@pytest.mark.slow
def test_a_report_on_other_rows_does_not_say_that_temperatures_were_fitted_there(make_trainer, data, tmp_path):
    trainer = make_trainer()
    trainer.train()
    trainer.calibrate()
    model, processor = load_model(tmp_path / "run")
    args = DualVQATrainingArguments(str(tmp_path / "later"), report_to="none", use_cpu=True)
    later = DualVQATrainer(model=model, processing_class=processor, args=args, eval_dataset=data["test"][:6])
    later.write_report()
    assert json.loads((tmp_path / "later" / "report.json").read_text())["fitted_on"] is None


@pytest.mark.slow
def test_each_training_takes_its_own_arguments_and_towers(data, arguments):
    """As a search has them: augmentation, seed, sampling and frozen towers change from one training to the next."""
    fixed = {"random_crop_scale": 1.0, "color_jitter": 0.0}
    built = build_model(data["train"], freeze_vision=True, **TINY)
    frozen = [True]

    def model_init():
        return build_model(data["train"], freeze_vision=frozen[0], **TINY)[0]

    trainer = DualVQATrainer(
        model_init=model_init, processing_class=built[1], args=arguments(**fixed), train_dataset=data["train"]
    )
    trainer.train()
    first = trainer.train_collator.embeddings.images
    assert first is not None and trainer.train_collator.augmentation is None
    trainer.args.seed = 1  # another tower, whose embeddings are others
    trainer.train()
    key = trainer.train_dataset["image_key"][0]
    assert not torch.equal(first.get([key])[0], trainer.train_collator.embeddings.images.get([key])[0])
    frozen[0] = False
    trainer.args.horizontal_flip, trainer.args.seed, trainer.args.balanced_sampling = 0.5, 7, 0.5
    trainer.train()
    assert trainer.train_collator.embeddings is None and trainer.data_collator.embeddings is None
    assert trainer.train_collator.augmentation is not None and trainer.train_collator.seed == 7
    assert trainer.train_sampler.weights is not None
