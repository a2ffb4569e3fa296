"""What `modeling_dualvqa.values_dualvqa` offers, without that package's import, which takes torch along."""

import importlib.util
import sys
from pathlib import Path

NAME = "modeling_dualvqa.values_dualvqa"


def load_values():
    if NAME in sys.modules:
        return sys.modules[NAME]
    package = importlib.util.find_spec(NAME.partition(".")[0])  # finds its place, and runs nothing
    path = Path(package.origin).with_name("values_dualvqa.py")
    spec = importlib.util.spec_from_file_location("dualvqa.run._values", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


values = load_values()
checked, hint, shown = values.checked, values.hint, values.shown
