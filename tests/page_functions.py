"""The page's functions under node, called from Python."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent / "web/arithmetic.mjs"


def called(*calls):
    """What each call gives, or a ValueError with the message of its error."""
    given = json.dumps(calls)
    done = subprocess.run([shutil.which("node"), SCRIPT], input=given, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return [one["found"] if "found" in one else ValueError(one["error"]) for one in json.loads(done.stdout)]


def given(image):
    data = base64.b64encode(image.convert("RGBA").tobytes()).decode()
    return {"width": image.width, "height": image.height, "data": data}
