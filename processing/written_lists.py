"""Lists that were written as text, as pandas writes a column of lists to CSV."""

import ast
import io
import json
import re
import tokenize

GAPS = ("nan", "NaN", "NaT", "null")
PANDAS_GAP = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|<NA>""")  # not inside a text


def looks_like_list(text):
    return text.startswith("[") and text.endswith("]")


def read_list(text):
    """The list that a text writes as JSON, Python or numpy do, or None where it writes none."""
    for read in (json.loads, read_python):
        try:
            found = read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        if isinstance(found, list):
            return found
    return None


def read_python(text):
    """A Python list, also with the gaps of pandas in it, or without commas as numpy prints an array."""
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    text = PANDAS_GAP.sub(lambda found: found[1] or "None", text)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in skipped]
    words = ["None" if token.string in GAPS else token.string for token in tokens]
    items = [token.type == tokenize.STRING or word == "None" for token, word in zip(tokens, words)]
    if any(first and second for first, second in zip(items, items[1:])):
        if "," in words:  # to Python two texts without a comma between them are one
            raise ValueError("a comma is missing")
        words = ["[", ", ".join(words[1:-1]), "]"]
    return ast.literal_eval(" ".join(words))
