"""The recipes, launch files, web page and Space that come with the package."""

from pathlib import Path


def shipped(folder):
    """The path of "recipes", "launch", "web" or "space": in the package once it is installed, beside it in a checkout.

    Raises:
        FileNotFoundError: the package was installed without them.
    """
    package = Path(__file__).resolve().parent
    for place in (package / folder, package.parent / folder):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{package} was installed without its folder {folder}: install dualvqa again")
