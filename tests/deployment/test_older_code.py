"""An export tells that a saved folder's own code is another version's."""

import shutil

import pytest
from helpers import SOURCES

from dualvqa.deployment import onnx_export, space_export
from dualvqa.deployment.older_code import other_code


@pytest.fixture
def folder(tmp_path):
    for name in ("image_loading_dualvqa.py", "modeling_dualvqa.py"):
        shutil.copy(SOURCES[name], tmp_path)
    return tmp_path


def test_code_of_this_version_is_not_told_however_its_lines_end(folder):
    path = folder / "modeling_dualvqa.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / "handler_of_mine.py").write_text("# the person's own")
    assert other_code(folder) == []
    assert other_code("owner/name-on-the-hub") == []


@pytest.mark.parametrize("export", [onnx_export.export_onnx, space_export.export_space])
def test_an_export_of_a_folder_with_other_code_says_so_and_how_to_renew_it(folder, export, tmp_path, caplog):
    with (folder / "image_loading_dualvqa.py").open("a") as file:
        file.write("# earlier\n")
    (folder / "gone_dualvqa.py").write_text("# no longer there\n")
    with pytest.raises(ValueError, match="no config.json"):  # before anything is loaded
        export(str(folder), tmp_path / "out")
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{folder} holds the code of another version (gone_dualvqa.py and 1 more)" in said
    assert f"`dualvqa renew {folder}`" in said
