"""Lists that were written as text, as pandas writes a column of lists to CSV."""

import ast
import io
import json
import tokenize


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
    """A Python list, also with nan in it, or without commas as numpy prints an array."""
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in skipped]
    words = ["None" if token.string == "nan" else token.string for token in tokens]
    if any(first.type == second.type == tokenize.STRING for first, second in zip(tokens, tokens[1:])):
        if "," in words:  # to Python two texts without a comma between them are one
            raise ValueError("a comma is missing")
        words = ["[", ", ".join(words[1:-1]), "]"]
    return ast.literal_eval(" ".join(words))
