"""The benchmarks run, at sizes that say nothing of what they measure."""

import importlib.util
import json
import shlex
import sys

import numpy as np
import pytest
import yaml
from helpers import ROOT, TINY, familiar
from processes import run_script
from towers import SIZES
from transformers import CLIPConfig

from dualvqa.trust.foreign_inputs import foreign_questions
from modeling_dualvqa import DualVQAConfig
from processing import prepare_dataset


def benchmark(name, *flags):
    run_script(ROOT / f"benchmarks/{name}.py", *flags)


@pytest.fixture
def small_recipe(tmp_path):
    """recipes/easy_vqa.yaml with tiny towers."""
    recipe = yaml.safe_load((ROOT / "recipes/easy_vqa.yaml").read_text(encoding="utf-8"))
    recipe["config"] |= TINY
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return str(tmp_path / "recipe.yaml")


@pytest.mark.slow
def test_inference_writes_a_row_for_each_model_and_both_plots(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import inference
    import inference_models

    page, known = tmp_path / "inference.md", {"vocab_size": 30_000}
    small = {**TINY, "text_config": {**TINY["text_config"], **known}}
    clip = CLIPConfig(text_config={**SIZES, **known}, vision_config={**SIZES, "image_size": 224, "patch_size": 32})
    monkeypatch.setattr(inference_models, "DualVQAConfig", lambda **fields: DualVQAConfig(**{**fields, **small}))
    monkeypatch.setattr(inference_models, "CLIPConfig", lambda: clip)
    flags = ["--output", str(page), "--quick", "--rows", "ours", "CLIP ViT-B/32"]
    monkeypatch.setattr(sys, "argv", ["inference.py", *flags])
    inference.main(flags)
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| ours |", "| CLIP"))]
    assert len(rows) == 3  # both in the first table, ours in that of questions about one image
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:2] for cell in row[1:4])
    assert {file.name for file in tmp_path.iterdir()} == {"inference.md", "inference.png", "inference_scaling.png"}


@pytest.mark.slow
def test_training_measures_plain_and_ours_in_both_modes(image_folder, tmp_path):
    page = tmp_path / "training_speed.md"
    files = ["--train_file", image_folder / "train.jsonl", "--image_dir", image_folder]
    benchmark("training", "--output", page, "--quick", "--data", "vqa_rad", "--rounds", 1, "--workers", 1, *files)
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line[:9] == "| vqa_rad"]
    assert [row[1] for row in rows[:2]] == ["full", "frozen"]
    assert all(float(cell.replace(",", "")) > 0 for row in rows[:2] for cell in row[2:6])
    assert page.with_suffix(".png").exists()


SMALL_ABLATION = """
import sys
sys.path.insert(0, {benchmarks!r})
import ablation
everything = ablation.plan()
everything["datasets"]["easy_vqa"]["recipe"] = {recipe!r}
ablation.plan = lambda: everything
if __name__ == "__main__":
    ablation.main()
"""


@pytest.mark.slow
def test_ablation_goes_on_where_it_stopped(image_folder, tmp_path, small_recipe):
    page, runs = tmp_path / "ablation.md", tmp_path / "runs"
    files = ["--train_file", image_folder / "train.jsonl", "--image_dir", image_folder, "--image_size", 32]
    files += ["--validation_fraction", 0.25, "--do_predict", "false"]
    flags = ["--dataset", "easy_vqa", "--seeds", 1, "--budget", 2, "--output", page, "--runs", runs]
    flags += ["--rows", "separate", "--jobs", 2, "--flags", *files]  # two runs at a time have one thread each
    script = tmp_path / "ablation.py"
    script.write_text(SMALL_ABLATION.format(benchmarks=str(ROOT / "benchmarks"), recipe=small_recipe))
    run_script(script, *flags)
    row = next(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| separate"))
    assert row.endswith("| 1 |")
    written = {path: path.stat().st_mtime_ns for path in runs.rglob("all_results.json")}
    assert len(written) == 2  # one model for each question type
    run_script(script, *flags)
    assert written == {path: path.stat().st_mtime_ns for path in runs.rglob("all_results.json")}


PLAN = """
title: Parts of a recipe
recipe: recipes/easy_vqa.yaml
about: Pictures of one colour.
arms:
  recipe: {label: the recipe}
  attention: {label: attention, config: {fusion_type: attention}}
  taught: {label: taught, teacher: [recipe]}
  together: {label: together, members: [recipe, attention]}
"""


@pytest.mark.slow
def test_cross_validation_scores_every_question_once_for_each_seed(image_folder, tmp_path, small_recipe):
    page, plan, runs = tmp_path / "parts.md", tmp_path / "plan.yaml", tmp_path / "runs"
    plan.write_text(PLAN.replace("recipes/easy_vqa.yaml", small_recipe))
    flags = ["--plan", plan, "--output", page, "--runs", runs, "--seeds", 1, "--folds", 2, "--jobs", 1]
    files = ["--train_file", image_folder / "train.jsonl", "--image_dir", image_folder, "--image_size", 32]
    benchmark("cross_validation", *flags, "--flags", *files, "--max_steps", 2)
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [
        "| the recipe",
        "| attention",
        "| taught",
        "| together",
        "| always the most frequent answer of the true type",
    ]
    figures = [json.loads((runs / f"recipe_{fold}_42/all_results.json").read_text()) for fold in (0, 1)]
    assert float(rows[2][3]) == pytest.approx(50 * sum(one["eval_routed_accuracy"] for one in figures), abs=0.06)
    assert float(rows[2][5]) == pytest.approx(50 * sum(one["eval_router_accuracy"] for one in figures), abs=0.06)
    assert rows[2][6] == "" and float(rows[3][6]) == pytest.approx(float(rows[3][3]) - float(rows[2][3]), abs=0.11)
    log = (runs / "taught_0_42/log.txt").read_text()
    assert "recipe_0_42" in log or (runs / "taught_0_42/teacher").exists()


def test_the_plot_of_an_ablation_is_drawn_from_the_table_of_its_page(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from ablation_plot import draw, rows_of_page

    page = tmp_path / "ablation.md"
    page.write_text((ROOT / "docs/results/ablation_vqa_rad.md").read_text(encoding="utf-8"), encoding="utf-8")
    rows = {row[""]: row for row in rows_of_page(page)}
    assert len(rows) == 16  # and none of the second table, which says what holds
    assert rows["no attention: concatenation"]["yes/no, oracle"] == "61.1 ± 2.7"
    assert rows["gated"]["all, oracle"] == "28.8" and rows["gated"]["expected"] == ""
    draw(page)
    assert page.with_suffix(".png").stat().st_size > 10_000
    page.write_text("# No table\n")
    with pytest.raises(SystemExit, match="expected a table with a column 'all, oracle'"):
        draw(page)


def test_a_claim_holds_where_the_interval_of_the_seeds_does_not_have_zero():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from ablation import check_rows
    from ablation_tables import verdict_on

    # 95 % interval of a mean of three: 2.48 deviations
    assert verdict_on([1.0, 2.0, 3.0]) == "undecided"
    assert verdict_on([2.0, 3.0, 4.0]) == "holds"
    assert verdict_on([-2.0, -3.0, -4.0]) == "does not hold"
    assert verdict_on([9.0]) == "undecided"
    with pytest.raises(SystemExit, match=r"no row 'ful'; did you mean full\?"):
        check_rows(["ful"], ["full", "concat"])


@pytest.mark.slow
def test_reliability_is_measured_of_saved_folders(image_folder, tmp_path, tiny_model, processor):
    folders = {}
    for name in ("one", "other"):
        model = tiny_model(fusion_type="cross_attention")
        folders[name] = tmp_path / name
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
    flags = f"--test_file {image_folder / 'train.jsonl'} --image_dir {image_folder} --output_dir {tmp_path / 'no'}"
    runs = [word for name, folder in folders.items() for word in ("--run", name, folder, flags)]
    benchmark("abstention", "--output", tmp_path / "abstention.md", "--splits", 3, "--max_risk", 0.1, *runs)
    rows = [line.split(" | ") for line in (tmp_path / "abstention.md").read_text().splitlines() if line[:5] == "| one"]
    assert rows[0][3].count(" → ") == 1 and rows[1][4] == "0 of 3"  # 16 questions show nothing


def test_no_question_that_is_measured_is_shown_to_a_fit():
    spec = importlib.util.spec_from_file_location("inputs", ROOT / "benchmarks" / "unfamiliar_inputs.py")
    inputs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inputs)
    texts = (inputs.FOOD, inputs.TRAFFIC, inputs.GERMAN, inputs.SPANISH)
    measured = {question for text in texts for question in inputs.listed(text)}
    shown = {question for questions in foreign_questions().values() for question in questions}
    assert len(measured) == 120 and not measured & shown


@pytest.mark.slow
def test_foreign_inputs_are_counted(many, image_folder, tmp_path, tiny_model, processor):
    """Each share of the page anew, from the novelties and limits that the script leaves behind."""
    runs = []
    flags = f"--train_file {many} --image_dir {image_folder} --validation_fraction 0.3 --output_dir {tmp_path / 'no'}"
    processor.calibration = {"familiarity": {"image": 0.5, "question": 0.5}}
    for name in ("one", "other"):
        model = familiar(tiny_model(fusion_type="cross_attention"))
        model.save_pretrained(tmp_path / name)
        processor.save_pretrained(tmp_path / name)
        runs += ["--run", name, tmp_path / name, flags]
    page, values = tmp_path / "unfamiliar.md", tmp_path / "values.json"
    benchmark("unfamiliar", "--output", page, "--values", values, *runs, "--most", 20)
    rows = [
        line.strip("| ").split(" | ") for line in page.read_text().splitlines() if line.startswith(("| one", "| oth"))
    ]
    found = {(row[0], row[1]): row[5] for row in rows if len(row) == 6}
    kept = json.loads(values.read_text())
    own = {one["model"]: one for one in kept if one["kind"] == "own"}
    kept = [one for one in kept if one["kind"] != "own"]
    assert len(kept) == 24 and {one["model"] for one in kept} == set(own) == {"one", "other"}
    over = {(one["model"], one["kind"]): [value > one["limit"] for value in one["novelty"]] for one in kept}
    for name, other in (("one", "other"), ("other", "one")):
        images, questions = (over[name, f"{kind} of {other}"] for kind in ("images", "questions"))
        both = [images[n % len(images)] or question for n, question in enumerate(questions)]
        assert found[name, f"images and questions of {other}"] == f"{100 * sum(both) / len(both):.1f}"
        pairs = zip(own[name]["image"], own[name]["question"])
        flagged = sum(any(novelty > limit for novelty, limit in pair) for pair in pairs)
        share, count = flagged / len(own[name]["image"]), own[name]["images"]
        cells = next(row for row in rows if len(row) == 7 and row[0] == name)
        assert cells[2:4] == [str(count), str(len(own[name]["image"]))] and cells[6].startswith(f"{100 * share:.2f} (")
        most = float(cells[6].split("(")[1].split()[0]) / 100  # which the share is 1.96 standard errors of it away from
        assert most - share == pytest.approx(1.96 * (most * (1 - most) / count) ** 0.5, abs=0.002)
    for one in kept:
        share = 100 * sum(value > one["limit"] for value in one["novelty"]) / len(one["novelty"])
        assert one["share"] == f"{share:.1f}" and found[one["model"], one["kind"]] == one["share"]
    assert (tmp_path / "unfamiliar_one.png").stat().st_size > 1000


def test_made_people_err_as_often_as_is_said():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from annotators import answers_of

    rng = np.random.default_rng(0)

    def shares(question, truth):
        said = [word for _ in range(500) for word in answers_of(question, truth, rng)]
        return {word: said.count(word) / len(said) for word in set(said)}

    assert shares("what color is it?", "teal")["blue"] == pytest.approx(0.45 * 0.9 + 0.55 * 0.1 / 7, abs=0.03)
    assert shares("what shape?", "circle")["circle"] == pytest.approx(0.9, abs=0.03)
    assert shares("is there not a circle?", "no")["yes"] == pytest.approx(0.35 * 0.9 + 0.65 * 0.1, abs=0.03)
    assert shares("is there a circle?", "no")["yes"] == pytest.approx(0.1, abs=0.03)


@pytest.mark.slow
def test_annotators_measures_a_model_against_ten_people(image_folder, tmp_path, tiny_model, processor):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from annotators import measure, of_the_people

    rows = [
        {"image": str(image_folder / f"{n}.png"), "question": "what color is it?", "answer": ["red"] * 7 + ["blue"] * 3}
        for n in range(8)
    ]
    rows += [{**row, "question": "is it red?", "answer": ["yes"] * 2 + ["no"] * 8} for row in rows]
    rows = prepare_dataset([{**row, "truth": "red"} for row in rows])
    tiny_model(fusion_type="cross_attention").save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    found = measure(tmp_path / "saved", rows, 2)
    assert 0 <= found["truth"] <= 50 and 0 <= found["vqa"] <= 100
    assert all(np.isfinite(found["off"])) and 0.3 < found["surprise"][0] < 3
    assert of_the_people(rows) == (50, 100)


def test_what_a_page_says_was_found_stays_when_it_is_measured_again(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pages import write_page

    page = tmp_path / "speed.md"
    write_page(page, "# Speed\n\nWritten by\n\n| ms |\n")
    assert page.read_text() == "# Speed\n\nWritten by\n\n| ms |\n"
    page.write_text("# How fast\n\n**Found:** it is\nfast.\n\nWritten by\n\n**old**\n")
    write_page(page, "# Speed\n\nWritten by\n\n| 2 ms |\n")
    assert page.read_text() == "# How fast\n\n**Found:** it is\nfast.\n\nWritten by\n\n| 2 ms |\n"


def test_a_page_tells_its_command_on_lines_that_fit(monkeypatch):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from pages import WIDTH, command

    words = ["benchmarks/a.py", "--about", "two words", *(f"--flag{number}" for number in range(60)), f"{ROOT}/b.md"]
    monkeypatch.setattr(sys, "argv", words)
    lines = command().splitlines()
    assert len(lines) > 4 and max(map(len, lines)) <= WIDTH and min(map(len, lines[:-1])) > WIDTH - 12
    assert shlex.split(command().replace("\\\n", "")) == ["python", *words[:-1], "b.md"]


def test_ways_to_hold_out_are_tabled_from_finished_runs(tmp_path, monkeypatch):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import held_out

    page, memory = tmp_path / "held_out.md", {"rows": 60, "without": 0.5, "with": 0.625}
    share = {"value": 0.25}
    accuracy = {"copied": {"all": share}, "majority": {"all": share}}
    for way, seed in (("wording", 0), ("image", 0), ("image", 1)):
        same = {"accuracy": {"copied_same_image": share}} if way == "wording" else None
        part = {"accuracy": accuracy, "same_image": same, "router_accuracy": share}
        (tmp_path / f"{way}_{seed}").mkdir()
        (tmp_path / f"{way}_{seed}/report.json").write_text(json.dumps({"parts": {"validation": part}}))
        (tmp_path / f"{way}_{seed}/machine.txt").write_text("2 cores")
        card = {"memory": {**memory, "with": 0.625 + seed / 4}}
        (tmp_path / f"{way}_{seed}/config.json").write_text(json.dumps({"model_card": card}))
    flags = ["held_out.py", "--runs", str(tmp_path), "--output", str(page), "--ways"]
    for way, seeds in (("wording", ["0"]), ("image", ["0", "1"])):
        monkeypatch.setattr(sys, "argv", [*flags, way, "--seeds", *seeds])
        held_out.main()
        figures = "60 | 50.0 | 62.5 | 25.0 | 25.0 |" if way == "wording" else "60, 60 | 50.0 ± 0.0 | 75.0 ± 17.7 |"
        assert f"| {way} | {figures} " in page.read_text(encoding="utf-8")
        assert max(map(len, page.read_text(encoding="utf-8").splitlines())) <= 120
    assert "| 25.0 ± 0.0 | - | 25.0 ± 0.0 |" in page.read_text(encoding="utf-8")  # nothing to copy about new images
    (tmp_path / "image_1/config.json").write_text(json.dumps({"model_card": {"memory": None}}))
    with pytest.raises(SystemExit, match="image_1: too few questions are held out to fit a memory's parameters"):
        held_out.main()


def test_the_page_of_the_light_runtime_reaches_or_misses_each_goal():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from light_page import goals_of, page

    starts = {"import torch, transformers": ([4.0, 5.0, 3.0], [700]), "PyTorch fp32": ([6.0], [800])}
    starts |= {"light int8": ([1.0], [200]), "light fp32": ([1.5], [300])}
    model = {
        "rows": 500,
        "equality": {"fp32": {"same": 499, "apart": 0.0004}},
        "bytes": {"fp32": 2**20},
        "latency": {"1": {"onnxruntime int8": [0.02], "OpenVINO int8": [0.03, 0.01, 0.01]}},
        "starts": {name: {"seconds": seconds, "peak": peak} for name, (seconds, peak) in starts.items()},
    }
    installed = {"light": 100 * 2**20, "full": 4000 * 2**20, "gpu": 3000 * 2**20}
    reached = [row[-1] for row in goals_of({"easy-VQA": model}, installed)]
    assert reached == ["0.25", "0.25", "0.50", "499 of 500", "0.00040", "0.025"]
    text = page({"easy-VQA": model}, installed)
    assert "light / full is 0.100." in text and "fastest (OpenVINO int8)" in text


def test_an_installed_size_has_all_that_is_needed_and_nothing_of_an_extra(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from installed import needs, sizes

    found = sizes(needs("dualvqa-light"))
    assert {"numpy", "onnxruntime", "pillow", "tokenizers"} <= set(found) and "torch" not in found
    assert found["numpy"] > 2**20
    assert any(line.startswith("torch>") for line in needs("dualvqa"))
