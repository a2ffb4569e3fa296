import shutil

import pytest
import yaml
from helpers import write_images
from training_helpers import long_run

from dualvqa.run import main as run_vqa


@pytest.fixture
def settings(image_folder):
    return long_run(image_folder)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of a run with `settings` that was not interrupted; it is read only."""
    folder = write_images(tmp_path_factory.mktemp("finished"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(long_run(folder)))
    run_vqa.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "out")])
    return folder / "out"


@pytest.fixture
def whole(finished_run, tmp_path):
    """A copy of it that may be written into."""
    return shutil.copytree(finished_run, tmp_path / "whole")
