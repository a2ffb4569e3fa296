"""The package as it is installed: built once, from a source distribution, and used from a folder of its own."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from helpers import TINY
from processes import run_code

import dualvqa
from dualvqa.shipped import shipped

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
PACKAGES = ("dualvqa", "dualvqa_light", "modeling_dualvqa", "processing")
OWN = ("pyproject.toml", "setup.py")  # of the light package as a distribution of its own
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def call(command, folder, **variables):
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def build(kind, source, output):
    code, printed = call([sys.executable, "-c", BUILD, f"build_{kind}", output], source)
    assert code == 0, printed
    return next(output.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel that the source distribution builds, from a copy: a folder build/ of before would get into it."""
    folder = tmp_path_factory.mktemp("package")
    source, output = folder / "source", folder / "output"
    for name in (*PACKAGES, "recipes", "launch", "space", "web"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source / name)
    with tarfile.open(build("sdist", source, output)) as file:
        file.extractall(folder, filter="data")
    return build("wheel", next(folder.glob("dualvqa-*")), output)


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """An empty folder into which the wheel alone was installed."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", target]
    code, printed = call([sys.executable, "-m", "pip", "install", *options, wheel], target)
    assert code == 0, printed
    return target


def read(wheel, ending):
    with zipfile.ZipFile(wheel) as file:
        return file.read(next(name for name in file.namelist() if name.endswith(ending)))


def test_the_packages_are_at_the_top_and_nothing_else(installed):
    tops = {path.name for path in installed.iterdir()} - {"bin", "Scripts"}
    assert tops == {*PACKAGES, f"dualvqa-{dualvqa.__version__}.dist-info"}


def test_every_file_of_the_packages_is_installed(installed):
    for package in PACKAGES:
        files = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
        files = {path for path in files if "__pycache__" not in path.parts and path.name not in OWN}
        assert files == {path for path in files if (installed / path).is_file()}
    assert (installed / "dualvqa" / "py.typed").is_file()


def test_recipes_launch_files_and_the_web_page_are_in_the_package(installed):
    for folder in ("recipes", "launch", "space", "web"):
        names = {path.name for path in (ROOT / folder).iterdir()}
        assert names and names == {path.name for path in (installed / "dualvqa" / folder).iterdir()}
        code = f"from dualvqa.shipped import shipped; print(shipped({folder!r}))"
        found = call([sys.executable, "-c", code], installed, PYTHONPATH="")[1].strip()
        assert Path(found) == (installed / "dualvqa" / folder).resolve()


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="without its folder nothing: install dualvqa again"):
        shipped("nothing")


def test_the_package_says_its_version_command_and_addresses(wheel):
    metadata = message_from_bytes(read(wheel, "METADATA"))
    assert metadata["Version"] == dualvqa.__version__
    home = metadata["Home-page"]
    assert home.startswith("https://")
    assert all(line.split(", ")[1].startswith(home) for line in metadata.get_all("Project-URL"))
    commands = configparser.ConfigParser()
    commands.read_string(read(wheel, "entry_points.txt").decode())
    assert dict(commands["console_scripts"]) == {"dualvqa": "dualvqa.cli:main"}


def test_the_description_has_neither_relative_links_nor_images(wheel):
    text = message_from_bytes(read(wheel, "METADATA")).get_payload(decode=True).decode()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.strip().splitlines()[0] == readme.splitlines()[0]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)  # a command may hold anything
    links = re.findall(r'\]\(([^)\s]+)|(?:href|src)="([^"]+)"', prose)
    assert links and all(re.match(r"https://|#|mailto:", "".join(link)) for link in links)
    assert not re.search(r"!\[[^\]]*\]\((?!https://)", prose)


@pytest.fixture(scope="session")
def light_wheel(tmp_path_factory):
    """The wheel that the light package's source distribution builds, away from the checkout."""
    folder = tmp_path_factory.mktemp("light")
    for name in ("dualvqa_light", "processing"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(build("sdist", folder / "dualvqa_light", folder / "output")) as file:
        file.extractall(folder / "elsewhere", filter="data")
    assert {path.name for path in (folder / "dualvqa_light").iterdir()} == names_of("dualvqa_light")  # nothing was left
    return build("wheel", next((folder / "elsewhere").iterdir()), folder / "output")


def names_of(folder):
    return {path.name for path in (ROOT / folder).iterdir()} - {"__pycache__"}


def test_the_light_package_is_a_distribution_of_its_own_without_torch(light_wheel):
    metadata = message_from_bytes(read(light_wheel, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("dualvqa-light", dualvqa.__version__)
    required = [line.partition("; extra == ") for line in metadata.get_all("Requires-Dist")]
    needed = {re.match(r"[\w-]+", line).group() for line, _, extra in required if not extra}
    assert metadata.get_all("Provides-Extra") == ["serve"] and len(required) == len(needed) + 3
    commands = configparser.ConfigParser()
    commands.read_string(read(light_wheel, "entry_points.txt").decode())
    assert dict(commands["console_scripts"]) == {"dualvqa-light": "dualvqa_light.serve:main"}
    assert needed == {"numpy", "onnxruntime", "pillow", "tokenizers"}
    with zipfile.ZipFile(light_wheel) as file:
        packed = {name.removeprefix("dualvqa_light/") for name in file.namelist() if ".dist-info/" not in name}
    modules = {name for name in names_of("dualvqa_light") if name.endswith(".py")} - set(OWN)
    assert modules < packed and packed - modules < names_of("processing")


def test_the_light_wheel_is_imported_where_nothing_else_of_ours_nor_torch_is(light_wheel, tmp_path):
    code = """
import sys
for name in ("torch", "torchvision", "transformers", "processing", "dualvqa", "modeling_dualvqa"):
    sys.modules[name] = None
import dualvqa_light, dualvqa_light.downloads_dualvqa, dualvqa_light.dicom_dualvqa
print(dualvqa_light.__file__)
"""
    status, printed = call([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(light_wheel))
    assert status == 0 and printed.startswith(str(light_wheel)), printed


def test_a_copy_of_the_light_folder_alone_is_not_built(tmp_path):
    shutil.copytree(ROOT / "dualvqa_light", tmp_path / "light", ignore=shutil.ignore_patterns("__pycache__"))
    status, printed = call([sys.executable, "-c", BUILD, "build_wheel", tmp_path], tmp_path / "light")
    assert status == 1 and "build dualvqa-light from a whole checkout" in printed


@pytest.mark.slow
def test_it_trains_predicts_and_reports_from_a_folder_with_a_package_of_the_same_name(
    installed, image_folder, tmp_path
):
    recipe = {
        "train_file": "train.jsonl",
        "test_file": "train.jsonl",
        "output_dir": "out",
        "image_size": 32,
        "validation_fraction": 0.25,
        "max_steps": 1,
        "do_train": True,
        "do_eval": True,
        "do_predict": True,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "config": TINY,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "processing").mkdir()
    (tmp_path / "processing" / "__init__.py").touch()
    words, environment = ("train", "own.yaml"), {**os.environ, "PYTHONPATH": str(installed)}
    script = str(installed / "bin" / "dualvqa")
    code = f"import sys, runpy\nsys.path.insert(0, {str(installed)!r})\nrunpy.run_path({script!r}, run_name='__main__')"
    run_code(code, *words, folder=tmp_path, environment=environment)
    assert {"model.safetensors", "report.html", "README.md"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 16
    assert json.loads((tmp_path / "out" / "report.json").read_text())


@pytest.mark.parametrize("hiding", ["processing/__init__.py", "processing.py", "modeling_dualvqa/__init__.py"])
def test_a_package_that_hides_ours_is_named(installed, tmp_path, hiding):
    (tmp_path / hiding).parent.mkdir(exist_ok=True)
    (tmp_path / hiding).touch()
    status, printed = call([sys.executable, "-c", "import dualvqa"], tmp_path, PYTHONPATH=str(installed))
    found = tmp_path / hiding.partition("/")[0]
    assert status == 1 and f"ImportError: {found} hides DualVQA's package" in printed and f"Rename {found}" in printed


def test_a_folder_of_the_same_name_without_code_hides_nothing(installed, tmp_path):
    (tmp_path / "processing").mkdir()
    status, printed = call([sys.executable, "-c", "import dualvqa"], tmp_path, PYTHONPATH=str(installed))
    assert status == 0, printed


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_files_hold_their_settings_themselves(stage, tmp_path, monkeypatch):
    file = ROOT / "launch" / f"zero{stage}.yaml"
    monkeypatch.chdir(tmp_path)
    settings = HfDeepSpeedConfig(load_config_from_file(str(file)).deepspeed_config["deepspeed_config_file"])
    assert settings.get_value("zero_optimization.stage") == stage
    assert settings.get_value("train_batch_size") == "auto"
