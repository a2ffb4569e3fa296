"""Tells that a saved folder's own code is not this version's, with which it is about to be exported."""

import logging
from pathlib import Path

import modeling_dualvqa
import processing

logger = logging.getLogger(__name__)

LIKELY = " (that of some versions turns photos with an EXIF orientation twice)"


def tell_other_code(folder):
    """Warns where Python files of a saved folder differ from those that this version would save there.

    What is exported reads images and answers as this version does; the folder itself, opened with the code in it, goes
    on as before. So the two may answer differently.
    """
    differing = other_code(folder)
    if differing:
        known = LIKELY if "image_loading_dualvqa.py" in differing else ""
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        logger.warning(
            f"{folder} holds the code of another version ({differing[0]}{more}): what is exported answers as this "
            f"version does, and the folder itself may not, opened with its own code{known}. `dualvqa renew {folder}` "
            f"gives it this version's code"
        )


def other_code(folder):
    """The names of a folder's `*_dualvqa.py` that are not this version's, none where it is no folder or has no code."""
    own = [Path(package.__file__).parent for package in (modeling_dualvqa, processing)]
    ours = {path.name: path for place in own for path in place.glob("*_dualvqa.py")}
    found = sorted(Path(folder).glob("*_dualvqa.py")) if Path(folder).is_dir() else []
    return [path.name for path in found if path.name not in ours or not same_text(path, ours[path.name])]


def same_text(one, other):
    """Whether two files have the same lines, whatever ends them."""
    return one.read_bytes().splitlines() == other.read_bytes().splitlines()
