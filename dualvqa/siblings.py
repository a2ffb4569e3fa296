"""DualVQA's other two packages have common names: an error names what hides them before they are imported."""

import importlib.util
from pathlib import Path


def check_siblings(home):
    """
    Args:
        home: the folder that holds this package, and beside it the others.

    Raises:
        ImportError: Python finds another package of the same name first, or none.
    """
    for name in ("processing", "modeling_dualvqa"):
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec and spec.submodule_search_locations) or ()]
        if Path(home).resolve() / name in places:
            continue
        if spec is None:
            raise ImportError(f"DualVQA's package {name} is missing in {home}: install dualvqa again")
        found = places[0] if places else spec.origin
        raise ImportError(
            f"{found} hides DualVQA's package {name} in {home}: Python looks in the folder of the script, or the "
            f"current one, first. Rename {found}, or start Python from another folder or with -P (3.11)"
        )
