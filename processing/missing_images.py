"""What may be the matter with images that aren't there: another folder, or a name that nearly fits."""

import os
import unicodedata

from .image_sources_dualvqa import printable

SHOWN = 10
MOST_FOLDERS = 100  # in which missing images are looked for


def hints_of_missing(missing, image_dir, file):
    """What may be the matter where rows name images that don't exist, as a list of one line or none.

    Args:
        missing: for each row the path, as it was looked for.
        image_dir: folder that relative paths start from, or None.
        file: that of the rows, or None.
    """
    if not missing:
        return []
    paths = list(dict.fromkeys(missing))
    rows = "1 row names" if len(missing) == 1 else f"{len(missing):,} rows name"
    number = f"{rows} {'an image' if len(paths) == 1 else f'{len(paths):,} images'} that "
    number += "doesn't exist" if len(paths) == 1 else "don't exist"
    listings = {}
    for path in paths[:SHOWN]:
        found = similar(path, listings)
        if found:
            return [f"{number}; there is {printable(found)}, {difference(path, found)}: mend the names"]
    started = f"--image_dir {image_dir}" if image_dir else f"{os.getcwd()}, for there is no --image_dir"
    folders = folders_near(os.path.dirname(file) or os.curdir) if file else []
    folders += [os.curdir, os.path.dirname(os.path.normpath(image_dir))] if image_dir else []
    for path in paths[:SHOWN]:
        own = os.path.relpath(path, image_dir) if image_dir else path
        for folder in folders:
            found = os.path.join(folder, own)
            if not os.path.isabs(own) and os.path.isfile(found):
                return [f"{number}; {printable(found)} is one: give --image_dir {folder or os.curdir}"]
    return [f"{number}; relative paths start from {started}"]


def folders_near(folder):
    """A folder, and those in it."""
    with os.scandir(folder) as found:
        inner = sorted(entry.name for entry in found if entry.is_dir())
    return [folder, *(os.path.join(folder, name) for name in inner[:MOST_FOLDERS])]


def similar(path, listings):
    """The only file whose path differs from one that isn't there by no more than backslashes, upper and lower case, how
    its letters are composed, or a lacking extension; None where there is none, or there are several.

    Args:
        listings: folder -> the names in it, kept from call to call.
    """
    *folders, name = path.replace("\\", "/").split("/")
    place = "/" if path.startswith("/") else ""
    for part in filter(None, folders):
        known = part in (os.curdir, os.pardir) or os.path.isdir(os.path.join(place, part))
        part = part if known else only(n for n in names_in(place, listings) if folded(n) == folded(part))
        if part is None:
            return None
        place = os.path.join(place, part)
    names = names_in(place, listings)
    same = [n for n in names if folded(n) == folded(name)]
    found = only(same or (n for n in names if folded(os.path.splitext(n)[0]) == folded(name)))
    found = found and os.path.join(place, found)
    return found if found and os.path.isfile(found) else None


def names_in(folder, listings):
    """The names in a folder; none where it can't be read."""
    if folder not in listings:
        try:
            listings[folder] = os.listdir(folder or os.curdir)
        except (OSError, ValueError):  # a NUL
            listings[folder] = []
    return listings[folder]


def only(names):
    names = list(names)
    return names[0] if len(names) == 1 else None


def folded(name):
    return unicodedata.normalize("NFC", name).casefold()


def difference(path, found):
    """In words how the path of a file that is there differs from one that isn't."""
    given, own = path.replace("\\", "/"), found
    reasons = ["with / for \\"] if given != path else []
    if folded(os.path.basename(given)) != folded(os.path.basename(own)):
        reasons.append("with an extension")
        given += os.path.splitext(own)[1]
    given, own = (unicodedata.normalize("NFC", os.path.normpath(text)) for text in (given, own))
    if given != own:
        reasons.append("with other upper and lower case")
    elif unicodedata.normalize("NFC", path) != path or unicodedata.normalize("NFC", found) != found:
        reasons.append("with its accents written as other characters (composed or decomposed Unicode)")
    return " and ".join(reasons)
