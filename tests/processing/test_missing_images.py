import pytest

from processing.missing_images import hints_of_missing


@pytest.mark.parametrize(
    "there, named, how",
    [
        ("scans/x.png", "scans\\x.png", "with / for \\"),
        ("scans/x.PNG", "scans/x.png", "with other upper and lower case"),
        ("Scans/x.png", "scans\\X.png", "with / for \\ and with other upper and lower case"),
        ("scans/x.png", "scans/x", "with an extension"),
        ("scans/ma\u0308dchen.png", "scans/m\u00e4dchen.png", "with its accents written as other characters"),
        ("scans/m\u00e4dchen.png", "scans/ma\u0308dchen.png", "with its accents written as other characters"),
    ],
)
def test_an_image_whose_name_nearly_fits_is_named_with_the_difference(there, named, how, tmp_path):
    (tmp_path / there).parent.mkdir()
    (tmp_path / there).touch()
    missing = 5 * [f"{tmp_path}/{named}"] + [f"{tmp_path}/gone.png"]
    (hint,) = hints_of_missing(missing, str(tmp_path), None)
    assert hint.startswith(f"6 rows name 2 images that don't exist; there is {tmp_path / there}, {how}")
    assert hint.endswith(": mend the names") and hint.count("with") == how.count("with")


def test_of_several_images_that_nearly_fit_none_is_named(tmp_path):
    for name in ("x.png", "x.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "y").mkdir()
    for name in ("x", "y", "a/b/x.png"):
        (hint,) = hints_of_missing([f"{tmp_path}/{name}"], str(tmp_path), None)
        assert hint == f"1 row names an image that doesn't exist; relative paths start from --image_dir {tmp_path}"
