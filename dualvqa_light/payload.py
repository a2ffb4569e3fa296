"""The body of a request -> an image, its questions and the options of the call.

```json
{"image": "<base64 or data URL>", "question": "is it red?", "parameters": {"top_k": 3}}
```

`question` may be a list. The same may stand in `inputs`, as Inference Endpoints have it, and huggingface_hub's client
sends the image as `inputs` beside the question.
"""

import json

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

EXPECTED = "expected an image as base64 text or data URL in image, and a text or a list of texts in question"
QUESTION_TYPES = (None, "binary", "open_ended")
MOST_EVIDENCE = 30  # examples beside an answer; so many vote, unless a memory was made otherwise
PARAMETERS = {
    "top_k": "a whole number from 1",
    "question_type": "binary or open_ended",
    "abstain": "true or false",
    "coverage": "a number between 0 and 1",
    "group": "a text",
    "evidence": f"a whole number from 1 to {MOST_EVIDENCE}",
    "truncation": "true or false",
}
NUMBERS = ("top_k", "evidence")
AS_IT_IS = (*NUMBERS, "coverage", "group")
WORDS = {"true": True, "false": False}  # in the fields of a form
LONGEST_FIELD = 2**16  # bytes of a form's text


def from_json(body):
    """The row and the options of a JSON body.

    Raises:
        HTTPException: 400 where it is no JSON, 422 where it says something else than expected.
    """
    try:
        found = json.loads(body, object_pairs_hook=unique, parse_constant=refuse_constant)
    except RecursionError:
        raise HTTPException(400, "expected JSON, found lists or objects inside each other too deeply") from None
    except ValueError as error:  # also no UTF-8, and numbers of too many digits
        raise HTTPException(400, f"expected JSON: {error}"[:300]) from None
    if not isinstance(found, dict):
        raise HTTPException(422, f"{EXPECTED}; found {in_words(found)} in place of an object")
    inputs = found.get("inputs")
    row = inputs if isinstance(inputs, dict) else {"image": inputs, **found}
    unknown = set(found) - {"inputs", "image", "question", "parameters"}
    if unknown:
        raise HTTPException(422, f"{EXPECTED}, and parameters; found {sorted(unknown)[0]!r:.100}")
    return {"image": row.get("image"), "question": row.get("question")}, found.get("parameters")


def unique(pairs):
    """An object, where no name stands twice: two readers would take different values."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.100} stands twice in an object")
    return found


def refuse_constant(name):
    raise ValueError(f"{name} is no JSON")


class MemoryForm(MultiPartParser):
    """Writes no files: the body is in memory already."""

    spool_max_size = 2**40


async def from_form(body, headers, max_questions):
    """The row and the options of a multipart body: a file `image`, one or more fields `question`, fields of options.

    Raises:
        HTTPException: see `from_json`.
    """

    async def stream():
        yield body

    limits = {"max_files": 1, "max_fields": max_questions + len(PARAMETERS), "max_part_size": LONGEST_FIELD}
    try:
        form = await MemoryForm(Headers(headers), stream(), **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, f"expected a form with a file image and fields question: {error.message}") from None
    unknown = set(form) - {"image", "question", *PARAMETERS}
    if unknown:
        known = ", ".join(PARAMETERS)
        raise HTTPException(
            422, f"expected a file image, fields question, and {known}; found {sorted(unknown)[0]!r:.100}"
        )
    twice = [name for name in ("image", *PARAMETERS) if len(form.getlist(name)) > 1]
    if twice:
        raise HTTPException(422, f"expected {twice[0]} once, found it {len(form.getlist(twice[0]))} times")
    image, questions = form.get("image"), form.getlist("question")
    file = next((name for name, value in form.multi_items() if name != "image" and not isinstance(value, str)), None)
    if file:
        raise HTTPException(422, f"expected {file} as a text, found a file")
    if isinstance(image, str) and (not image.isascii() or "\0" in image):  # neither base64 nor a URL
        raise HTTPException(
            422, "expected image as a file, or as base64 text; found a text field of other letters (curl: image=@a.png)"
        )
    row = {
        "image": image if image is None or isinstance(image, str) else image.file.read(),
        "question": questions if len(questions) > 1 else (questions or [None])[0],
    }
    options = {name: form[name] for name in PARAMETERS if name in form}
    if options.get("coverage", "").replace(".", "", 1).isdecimal():
        options["coverage"] = float(options["coverage"])
    for name in NUMBERS:
        if options.get(name, "").isdecimal() and len(options[name]) < 10:
            options[name] = int(options[name])
    return row, {name: value if name in AS_IT_IS else WORDS.get(value, value) for name, value in options.items()}


def check(row, parameters, max_questions):
    """The row and the options of the call, of the right types.

    Raises:
        HTTPException: 422, they aren't.
    """
    image, question = row["image"], row["question"]
    if not isinstance(image, (str, bytes)) or not image:
        raise HTTPException(422, f"{EXPECTED}; found {in_words(image)} as image")
    for one in question if isinstance(question, list) else [question]:
        if not isinstance(one, str):
            raise HTTPException(422, f"{EXPECTED}; found {in_words(one)} as question")
    if isinstance(question, list) and not 0 < len(question) <= max_questions:
        raise HTTPException(422, f"expected 1 to {max_questions} questions about an image, found {len(question)}")
    options = {} if parameters is None else parameters
    if not isinstance(options, dict):
        raise HTTPException(422, f"expected parameters as an object, found {in_words(options)}")
    options = {name: value for name, value in options.items() if value is not None}
    for name, value in options.items():
        right = {
            "top_k": type(value) is int and value >= 1,
            "question_type": isinstance(value, str) and value in QUESTION_TYPES,
            "abstain": isinstance(value, bool),
            "coverage": type(value) is float and 0 < value < 1,
            "group": isinstance(value, str),
            "evidence": type(value) is int and 1 <= value <= MOST_EVIDENCE,
            "truncation": isinstance(value, bool),
        }
        if name not in right:
            raise HTTPException(422, f"parameters may have {', '.join(PARAMETERS)}; found {name!r:.100}")
        if not right[name]:
            raise HTTPException(422, f"expected {name} to be {PARAMETERS[name]}, found {in_words(value)}")
    return row, options


def in_words(value):
    """A value as messages name it, never all that it holds."""
    if value is None or isinstance(value, (bool, int, float)):
        return f"{json.dumps(value):.50}"
    if isinstance(value, (str, bytes)):
        return f"the text {value[:50]!r}" if value else "an empty text"
    return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
