"""What a recipe's values mean, and what of a recipe is refused, in one line that names it."""

import os

import pytest

from dualvqa.run import main as run_vqa
from dualvqa.run.recipe import LARGEST, find_recipe, read_recipe, read_yaml


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-6", 1e-6),
        ("5e-1", 0.5),
        ("-1E+2", -100.0),
        (".5", 0.5),
        ("[5e-1, 1]", [0.5, 1]),
        ("010", 10),
        ("0x10", 16),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("no", "no"),
        ("off", "off"),
        ("true", True),
        ("null", None),
        ("'1e-6'", "1e-6"),
        ("", None),
    ],
)
def test_plain_values_are_what_they_look_like(text, value):
    found = read_yaml(text, "it")
    assert found == value and type(found) is type(value)


def parsed(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    return run_vqa.parse_arguments([str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path), "--use_cpu"])


def test_values_have_the_type_of_their_key(tmp_path):
    text = """
        learning_rate: 1e-4
        num_train_epochs: 3
        image_mean: [5e-1, 5e-1, 5e-1]
        eval_strategy: no
        calibrate: true
        do_train: true
        exclude_rows: phrase_type=frame
        config: {head_dropout: 1e-1, text_config: {n_layers: 2}}
    """
    model, data, training = parsed(tmp_path, text)
    assert training.learning_rate == 1e-4 and training.num_train_epochs == 3.0 and training.do_train is True
    assert model.image_mean == [0.5, 0.5, 0.5] and training.eval_strategy == "no" and model.calibrate == "true"
    assert data.exclude_rows == ["phrase_type=frame"]
    assert model.config == ["head_dropout=0.1", "text_config.n_layers=2"]


def test_a_configuration_may_be_written_as_on_the_command_line(tmp_path):
    assert parsed(tmp_path, "config: [fusion_type=concat]")[0].config == ["fusion_type=concat"]
    assert parsed(tmp_path, "config:")[0].config == []


BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(9))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, message",
    [
        ("- learning_rate: 1", "a recipe has lines of the form key: value; found"),
        ("just words", "a recipe has lines of the form key: value; found 'just words'"),
        ("learning_rate: {a: 1}", "learning_rate must be a finite number, at least 0; found {'a': 1}"),
        ("learning_rate: [1]", "learning_rate must be a finite number"),
        ("learning_rate: fast", "learning_rate must be a finite number, at least 0; found 'fast'"),
        ("learning_rate: .nan", "learning_rate must be a finite number, at least 0; found nan"),
        ("learning_rate:", "learning_rate must be a finite number, at least 0; found null"),
        ("do_train: maybe", "do_train must be true or false; found 'maybe'"),
        ("seed: 1.5", "seed must be a whole number, .*; found 1.5"),
        ("top_k: true", "top_k must be a whole number, at least 1; found 'true'"),
        ("output_dir: 2024", "output_dir must be text or null; found 2024; put it in quotes"),
        ("image_mean: [0.5, much]", "image_mean must be a list of finite numbers or null"),
        ("config: 5", "config has lines of the form field: value below it; found 5"),
        ("learning_rat: 1", "unknown key 'learning_rat'; did you mean learning_rate"),
        ("seed: 1\nseed: 2", "'seed' is there twice"),
        ("1: 2", "1 is no name"),
        ("? [a, b]\n: c", "is no name"),
        ("a: [", "is not valid YAML"),
        ("seed: 1\n---\nseed: 2", "is not valid YAML"),
        ("x: !!python/object/apply:os.getcwd []", "is not valid YAML"),
        (BOMB, "aliases .* are not read: write the value again"),
        ("x: " + "[" * 5000, "nested too deeply"),
        ("seed: " + "1" * 5000, "is not valid YAML"),
        ("#" * (LARGEST + 1), "is larger than"),
    ],
)
def test_a_recipe_of_the_wrong_shape_is_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        parsed(tmp_path, text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600 and "recipe.yaml" in str(error.value)


def test_what_is_no_recipe_file_is_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, problem in (
        ("gone.yaml", "no such file"),
        ("", "it is no file"),
        ("pipe.yaml", "it is no file"),
        ("binary.yaml", "it is no text in UTF-8"),
    ):
        with pytest.raises(ValueError, match=f"cannot read the recipe .*{problem}"):
            read_recipe(str(tmp_path / name), {})


def test_an_empty_recipe_sets_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_recipe(str(tmp_path / "empty.yaml"), {}) == {}


def test_a_shipped_recipe_has_a_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("easy_vqa").endswith("easy_vqa.yaml")
    (tmp_path / "easy_vqa").mkdir()  # a folder of that name, with images perhaps, is no recipe
    assert find_recipe("easy_vqa").endswith("easy_vqa.yaml")
    for name in ("easy_vqaa", "recipes/easy-vqa.yaml"):
        with pytest.raises(ValueError, match="no such file; did you mean easy_vqa.* by name are easy_vqa, vqa_rad"):
            find_recipe(name)
